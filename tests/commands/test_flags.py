"""gflags-style command lines."""

from __future__ import annotations

import pytest

from caffe_compat.commands.flags import FlagParser, names_flag, stages_flag
from caffe_compat.errors import UsageError


def make_parser() -> FlagParser:
    parser = FlagParser("test", usage_status=1)
    parser.add_argument("first")
    parser.add_argument("second", nargs="?")
    parser.flag("gray", False, "")
    parser.flag("check", True, "")
    parser.flag("count", 3, "")
    parser.flag("type", "", "")
    return parser


@pytest.mark.parametrize(
    "line, expected",
    [
        ("a b", ("a", "b", False, True, 3, "")),
        ("--gray a b", ("a", "b", True, True, 3, "")),
        ("a -gray b -nocheck", ("a", "b", True, False, 3, "")),
        ("-count 5 a --type=jpg b", ("a", "b", False, True, 5, "jpg")),
        ("-count=-1 a", ("a", None, False, True, -1, "")),
        ("--gray=false --check=0 a", ("a", None, False, False, 3, "")),
        ("--gray=True -check=YES a --logtostderr=1", ("a", None, True, True, 3, "")),
    ],
)
def test_parse(line: str, expected: tuple[object, ...]) -> None:
    args = make_parser().parse(line.split())
    assert (args.first, args.second, args.gray, args.check, args.count, args.type) == expected
    assert not hasattr(args, "logtostderr")


@pytest.mark.parametrize("line", ["", "a --coun 4", "a --count x", "a --gray=maybe", "a b c", "a --nocount"])
def test_wrong_lines_exit_with_the_tools_status(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        make_parser().parse(line.split())
    assert exit_.value.code == 1
    assert "error" in capsys.readouterr().err


def test_lists() -> None:
    assert stages_flag("a,b") == ("a", "b") and stages_flag("") == ()
    assert names_flag("x.caffemodel, y", "--weights") == ["x.caffemodel", "y"]
    with pytest.raises(UsageError, match="--weights is needed"):
        names_flag("", "--weights")
