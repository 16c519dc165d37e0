"""Every command, given a wrong command line: one line that names the culprit, exit status 2, no traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from program import call

from caffe_compat.commands import COMMANDS, main_of
from caffe_compat.commands.inputs import FileKind, contents
from caffe_compat.errors import DataError

CAFFES = ("upgrade_net_proto_binary", "upgrade_net_proto_text", "upgrade_solver_proto_text")
"""Tools whose status after wrong usage is Caffe's: 1."""
GROUPS = {"verify": ["--onnx"], "make_proposals": ["--imdb", "x"]}
"""One of several arguments that exclude each other, where one is required."""
OTHER = {
    "--layer": "conv", "--teacher-blob": "conv", "--classes": "3", "BLOB1[,BLOB2]": "conv", "DB1[,DB2]": "db",
    "DB_TYPE": "lmdb",
}  # fmt: skip
"""Values of required arguments that name no file to be looked at."""
NO_FILE = {
    "bench": {"WHICH", "--curves"},
    "classify": {"--ext"},
    "convert_imageset": {"--encode_type", "ROOTFOLDER/"},
    "detect": {"--camera"},
    "experiment": {"NAME", "--on"},
    "export_onnx": {"--prepare"},
    "fetch": {"--url"},
    "imdb": {"name"},
    "index": {"--camera", "--depth-camera", "--scene"},
    "infer_onnx": {"INPUT", "--camera", "--superpixels"},
    "make_detection": {"--exp-dir", "--part", "--weights"},
    "make_disparity": {"--output", "--without"},
    "make_flow": {"--output", "--pattern", "--method", "--flo", "--wheel"},
    "make_hha": {"--output", "--without", "--camera"},
    "make_sds": {"--exp-dir", "--weights"},
    "make_transfer": {"--modality", "--name"},
    "placement": {"--size"},
    "predict": {"INPUT", "--camera"},
    "show_depth": {"--camera", "--title"},
    "show_filters": {"--net"},
    "show_patches": {"--modality"},
    "transfer": {"--modality", "--name"},
    "zoo": {"NAME"},
}
"""Arguments that sound like files and are not looked at: names of other things, several in one, a file or a folder."""
SOUNDS = ("file", "folder", "prototxt", "caffemodel", "weights", "json", "yaml", "picture to write", ".npz", ".mat")


def parser_of(name: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sys.modules[main_of(name).__module__].make_parser()
    return parser


def kinds(name: str) -> Iterator[tuple[argparse.Action, FileKind]]:
    for action in parser_of(name)._actions:
        if isinstance(action.type, FileKind):
            yield action, action.type


def label(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)


CASES = [(name, label(action)) for name in COMMANDS for action, _ in kinds(name)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of every content, and a folder."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("words\n")
    Path("tree.json").write_text("{}")
    Path("binary.caffemodel").write_bytes(b"\x0a\x03abc\x00\x01")
    cv2.imwrite("picture.png", np.zeros((4, 4, 3), np.uint8))
    np.savez("arrays.npz", a=np.zeros(2))
    Path("matlab.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(128))
    Path("folder").mkdir()
    return tmp_path


SAMPLES = ("text.txt", "tree.json", "binary.caffemodel", "picture.png", "arrays.npz", "matlab.mat", "folder")


def good(kind: FileKind) -> str:
    if kind.new:
        return "new"
    return next(sample for sample in SAMPLES if contents(sample) in kind.holds)


def line(name: str, changed: str, value: str) -> list[str]:
    """The shortest command line that is right, but for one argument."""
    positional, options = [], [] if changed in ("--npz", "--pairs") else list(GROUPS.get(name, []))
    for action in parser_of(name)._actions:
        kind = action.type
        if not (action.required or label(action) == changed):
            continue
        count = action.nargs if isinstance(action.nargs, int) else 1
        word = good(kind) if isinstance(kind, FileKind) else OTHER.get(label(action), "1")
        words = [word] * count
        if label(action) == changed:
            words[-1] = value
        if action.option_strings:
            options += [label(action), *words]
        else:
            positional += words
    return [*positional, *options]


def refused(name: str, words: list[str], *parts: str, status: int = 2) -> None:
    done = call(name, *words)
    assert done.status == status, done
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: ")
    for part in parts:
        assert part in said, (part, said)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option(folder: Path, name: str) -> None:
    shown = [action for action in parser_of(name)._actions if action.help != argparse.SUPPRESS]
    option = max((action.option_strings[-1] for action in shown if action.option_strings), key=len)
    wrong = f"{option}x"
    status = 1 if name in CAFFES else 2
    refused(name, [wrong, "x"], f"there is no option {wrong}", f"did you mean '{option}'", "--help", status=status)
    refused(name, ["--zzzzzz"], "there is no option --zzzzzz", status=status)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_files(folder: Path, name: str, argument: str) -> None:
    """A file that is missing, one that holds something else, a folder in the place of a file, and the reverse."""
    kind = next(kind for action, kind in kinds(name) if label(action) == argument)
    if not kind.new and kind.there:
        refused(name, line(name, argument, "no/where.x"), argument, "no/where.x", f"there is no no in {folder}")
        refused(name, line(name, argument, "nowhere.x"), argument, "nowhere.x", f"none in {folder}", kind.what)
    takes_folder, takes_file = "a folder" in kind.holds, kind.new or any(word != "a folder" for word in kind.holds)
    if not takes_folder:
        refused(name, line(name, argument, "folder"), argument, "folder is a folder", kind.what)
    if takes_folder and (kind.new or not takes_file):
        refused(name, line(name, argument, "text.txt"), argument, "text.txt is a", kind.what)
    for sample in SAMPLES[:-1]:
        if not kind.new and contents(sample) not in kind.holds:
            refused(name, line(name, argument, sample), argument, f"{sample} is {contents(sample)}", kind.what)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_sounds_like_a_file_is_looked_at(name: str) -> None:
    parser = parser_of(name)
    free = NO_FILE.get(name, ())
    for action in parser._actions:
        text = f"{action.metavar or ''} {action.help or ''} {action.dest}".lower()
        takes_words = action.nargs != 0 and action.type in (None, str, Path) and not action.choices
        if takes_words and action.help != argparse.SUPPRESS and any(word in text for word in SOUNDS):
            assert label(action) in free, label(action)


def test_debug_shows_where(folder: Path) -> None:
    done = call("describe", "nowhere.prototxt", "--debug")
    assert done.status == 2 and "Traceback" in done.stderr and "inputs.py" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: model: Could not open file nowhere.prototxt")


def test_several_files_and_words_that_name_none(folder: Path) -> None:
    refused("train_net", ["--solver", "text.txt", "--weights", "binary.caffemodel,b"], "--weights", "file b")
    for value in ("builtin", "folder", "arrays.npz"):
        assert "--proposals" not in call("train_net", "--solver", "text.txt", "--proposals", value).stderr
    for teacher in ("torchvision:alexnet@features", "timm:x", "some.module:net@x", "text.txt@pool5"):
        said = call("make_transfer", *line("make_transfer", "--teacher", teacher)).stderr
        assert "--teacher:" not in said and "expected a net definition" not in said
    refused("make_transfer", line("make_transfer", "--teacher", "x.prototxt@a"), "--teacher", "x.prototxt")


def test_pipes_are_taken_unread(folder: Path) -> None:
    assert "is a" not in call("describe", "/dev/null").stderr


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"# words\nname: 'x'\n", "a text file"),
        ("# Größe\n".encode("latin-1"), "a text file"),
        (b"BM are words", "a text file"),
        (b"BM\x00\x01", "a BMP picture"),
        (b"\x0a\x01x", "a binary file"),
        (b" [1]", "a JSON file"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP picture"),
        (b"", "an empty file"),
    ],
)
def test_contents(tmp_path: Path, head: bytes, found: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(head)
    assert contents(path) == found


def test_python_callers_are_not_asked_for_files(folder: Path) -> None:
    """A program that calls a parser with words of its own may name files that are not there yet."""
    parser = parser_of("describe")
    assert parser.parse_args(["later.prototxt"]).model == "later.prototxt"
    with pytest.raises(DataError, match="folder is a folder"):
        parser.look_at_files(parser.parse_args(["folder"]))  # type: ignore[attr-defined]
