"""README.md and docs/: parsers take the commands that they show, and the files that they name are there."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from caffe_compat.commands import COMMANDS
from caffe_compat.commands.parser import Parser
from caffe_compat.resources import SHORT

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CALLED = re.compile(r"(?:torchrun .*?)?(?:(?:tools|data)/(\w+)\.py|caffe-compat ([\w-]+))\s*(.*)")


def lines(page: Path) -> list[tuple[str, str]]:
    """(command, its words) in code blocks, continued lines joined."""
    found, inside = [], False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            inside = not inside
        called = CALLED.match(line) if inside else None
        if called is not None:
            short = (called[2] or "").replace("-", "_")
            found.append((called[1] or SHORT.get(short, short), called[3]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_take_what_the_page_gives_them(page: Path) -> None:
    for command, words in lines(page):
        assert command in COMMANDS, command
        if command == "caffe":  # takes Caffe's flags in a way of its own
            continue
        parser = import_module(f"caffe_compat.commands.{command}").make_parser()
        assert isinstance(parser, Parser)
        parser.parse_args([word for word in shlex.split(words, comments=True) if word != ".."])


def test_there_are_commands_to_look_at() -> None:
    assert sum(len(lines(page)) for page in PAGES) > 45


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_tool_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"(?:tools|data)/(\w+)\.py", text):
        assert command in COMMANDS, command
    for name, anchor in re.findall(r"\]\(([^)#]*)(?:#([\w-]+))?\)", text):
        file = page.parent / name if name else page
        assert file.exists(), name
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, anchor
    for name in re.findall(r"`(prototxt/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
