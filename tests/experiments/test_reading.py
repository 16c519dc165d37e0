"""Declarations are read strictly: what is wrong is named with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from caffe_compat.errors import MissingFileError, UsageError
from caffe_compat.experiments.reading import read_declaration


@dataclass(frozen=True)
class Inner:
    count: int
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    title: str
    parts: Mapping[str, Inner]
    one: Inner | None = None
    share: float | None = None


def read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "d.yml"
    path.write_text(text, encoding="utf-8")
    return read_declaration(Outer, path, ("defaults", "parts"))


def test_values_take_their_types(tmp_path: Path) -> None:
    found = read(
        tmp_path, "title: 7\nshare: ~\nparts:\n  1A: {count: 3, rate: 1e-3, names: [a, b]}\none: {count: 1, rate: 2}\n"
    )
    assert found.title == "7" and found.share is None
    assert found.parts["1A"] == Inner(3, 0.001, ("a", "b")) and found.one == Inner(1, 2.0)


def test_defaults_stand_in_for_what_an_entry_does_not_say(tmp_path: Path) -> None:
    found = read(tmp_path, "title: t\ndefaults: {count: 5, rate: 2.0}\nparts:\n  a: {count: 1}\n  b: {}\n")
    assert found.parts == {"a": Inner(1, 2.0), "b": Inner(5, 2.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nparts:\n  a:\n    count: 1\n    rat: 2\n", r"d\.yml:5: unknown key 'rat' \(did you mean 'rate'"),
        ("title: t\nparts:\n  a: {rate: 2}\n", r"d\.yml:3: parts\.a lacks the key 'count'"),
        ("title: t\nparts:\n  a:\n    count: x\n", r"d\.yml:4: parts\.a\.count is 'x', expected a whole number"),
        ("title: t\nparts:\n  a:\n    count: true\n", r"d\.yml:4: parts\.a\.count is 'True', expected a whole"),
        ("title: t\nparts:\n  a: {count: 1, rate: .inf}\n", r"d\.yml:3: parts\.a\.rate is 'inf', expected a number"),
        ("title: t\nparts:\n  a: {count: 1, names: x}\n", r"d\.yml:3: parts\.a\.names is 'x', expected a list"),
        ("title: t\nparts: 3\n", r"d\.yml:2: parts is '3', expected keys and values"),
        ("title: t\ntitle: u\nparts: {}\n", r"d\.yml:2: title is given a second time"),
        ("- a\n", r"d\.yml: expected keys and values"),
        ("title: [\n", r"d\.yml: not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        read_declaration(Outer, tmp_path / "nowhere.yml")
