"""Stamps: the first setting that differs is named, and nothing is taken for done by mistake."""

import pytest

from caffe_compat.errors import DataError, UsageError
from caffe_compat.stamps import check_stamp, file_digest, read_stamp, same_stamp, stamp_difference, write_stamp


def test_a_stamp_comes_back_as_it_was_written(tmp_path):
    settings = {"seed": 3, "range": (0.5, None), "name": "a"}
    assert read_stamp(tmp_path / "x.json") is None
    write_stamp(tmp_path / "x.json", settings)
    found = read_stamp(tmp_path / "x.json")
    assert found == {"seed": 3, "range": [0.5, None], "name": "a"}
    assert same_stamp(found, settings)
    assert not same_stamp(None, settings)


def test_the_first_difference_is_named():
    assert stamp_difference({"a": 1, "b": 2}, {"a": 1, "b": 2.0}) is None
    assert stamp_difference({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "c": 6}) == "b = 2, now 5"
    assert stamp_difference({"a": 1}, {"a": 1, "z": 0}) == "z = None, now 0"
    assert stamp_difference({"a": 1, "z": 0}, {"a": 1}) == "z = 0, now None"


def test_older_stamps_do_not_mention_everything():
    assumed = {"scale": 31000.0}
    assert same_stamp({"a": 1}, {"a": 1, "scale": 31000.0}, assumed)
    assert stamp_difference({"a": 1}, {"a": 1, "scale": 5.0}, assumed) == "scale = 31000.0, now 5.0"
    assert stamp_difference({"a": 1, "scale": 5.0}, {"a": 1, "scale": 31000.0}, assumed) == "scale = 5.0, now 31000.0"


def test_check_says_what_and_what_to_do():
    check_stamp("x", {"a": 1}, {"a": 1}, "hint")
    with pytest.raises(DataError, match="^x exists and does not say how it was made; hint$"):
        check_stamp("x", None, {"a": 1}, "hint")
    with pytest.raises(UsageError, match="^x exists and was made with a = 1, now 2; hint$"):
        check_stamp("x", {"a": 1}, {"a": 2}, "hint", error=UsageError)


@pytest.mark.parametrize("content", ["{", "[]", "", "[" * 100_000])
def test_what_is_no_stamp_is_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json: not .*; remove it"):
        read_stamp(tmp_path / "x.json")


def test_nan_is_no_setting(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_stamp(tmp_path / "x.json", {"a": float("nan")})


def test_digest_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == "a9993e364706816aba3e25717850c26c9cd0d89d"
