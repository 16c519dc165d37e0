"""Lists read all lines at once mean what they mean line by line."""

from __future__ import annotations

import os
import pickle
import random
import re
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from caffe_compat.media import LabelledImage, Pair, long_lists, read_image_list, read_pair_list
from caffe_compat.media.lists import _atoi

IMAGE_LINES = [
    "a.jpg 1", "a.jpg 0", "b c.jpg 12", "a.jpg -3", "a.jpg +4", "a.jpg 007", "a.jpg 123456789", "a.jpg 1234567890",
    "a.jpg 2147483647", "a.jpg x", "a.jpg 1x", "a.jpg 1\r", "a.jpg\r", "a.jpg", " 5", "a.jpg ", "a.jpg  7", "\ta 1",
    "ä.jpg 3", "a\xa0b 2", "7", "a.jpg \t8", "a.jpg 1 2", "x" * 300 + " 3", "a.jpg 1\r\r", "a.jpg \r", "0 0",
]  # fmt: skip
PAIR_LINES = [
    "a.png b.png", "a.png  b.png", "a.png\tb.png", '"a b.png" c.png', 'a.png "b c.png"', " a.png b.png", "a.png b.png ",
    "", "  ", "a.png b.png\r", "ä.png b.png", "a\xa0b", "/abs/a.png b.png", "a.png ../b.png", "\ta\tb", "a b\x1c",
]  # fmt: skip


def images_by_line(path: Path, root: str) -> list[LabelledImage]:
    text = os.fsdecode(path.read_bytes()).split("\n")
    result = []
    for number, line in enumerate(text[:-1] if text[-1] == "" else text, 1):
        if not line.strip():
            raise DataError(f"{path}, line {number}: is empty, expected 'path label'")
        name, space, label = line.rpartition(" ")
        value = _atoi(label)
        if value is None:
            raise DataError(f"line {number}: the label does not fit 32 bits")
        result.append(LabelledImage(root + (name if space else line.rstrip("\r")), value, number))
    return result


def pairs_by_line(path: Path) -> list[Pair]:
    result = []
    for number, line in enumerate(os.fsdecode(path.read_bytes()).split("\n"), 1):
        line = line.strip()
        if line:
            parts = line.split("\t") if "\t" in line else re.findall(r'"[^"]*"|\S+', line)
            names = [os.path.join(path.parent, part.strip().strip('"')) for part in parts]
            result.append(Pair(names[0], names[1], number))
    return result


@pytest.fixture(params=[64, 1 << 22], ids=["parts of 64 bytes", "one part"])
def part(request, monkeypatch):
    monkeypatch.setattr(long_lists, "PART", request.param)


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_image_list_is_what_its_lines_are_one_by_one(tmp_path, part, end):
    draw = random.Random(1)
    for trial in range(40):
        path = tmp_path / f"{trial}.txt"
        lines = draw.choices(IMAGE_LINES, k=draw.randrange(1, 60))
        path.write_bytes(os.fsencode("\n".join(lines) + end))
        found = read_image_list(path, "root/")
        expected = images_by_line(path, "root/")
        assert list(found) == expected and len(found) == len(expected)
        assert found.labels.tolist() == [image.label for image in expected]


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_pair_list_is_what_its_lines_are_one_by_one(tmp_path, part, end):
    draw = random.Random(2)
    for trial in range(40):
        path = tmp_path / f"{trial}.txt"
        lines = ["a b", *draw.choices(PAIR_LINES, k=draw.randrange(1, 60))]
        path.write_bytes(os.fsencode("\n".join(lines) + end))
        assert list(read_pair_list(path)) == pairs_by_line(path)


def test_every_single_line_means_the_same_alone(tmp_path):
    path = tmp_path / "one.txt"
    for line in IMAGE_LINES:
        path.write_bytes(os.fsencode(line))
        assert list(read_image_list(path)) == images_by_line(path, ""), repr(line)


def test_entries_by_number_from_the_end_and_in_slices(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number}.jpg {number}\n" for number in range(10)))
    found = read_image_list(path)
    assert found[-1] == found[9] == LabelledImage("9.jpg", 9, 10)
    assert found[2:8:3] == [found[2], found[5]] and found[::-1][0].label == 9
    for index in (10, -11):
        with pytest.raises(IndexError):
            found[index]


def test_skipped_lines_keep_the_numbers_of_the_others(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("\na b\n\n\nc d\n")
    found = read_pair_list(path, "r")
    assert list(found) == [Pair("r/a", "r/b", 2), Pair("r/c", "r/d", 5)] and found[-1].line == 5


@pytest.mark.parametrize(("lines", "message"), [
    (["a 1", "", "b 99999999999"], "line 2: is empty"),
    (["a 1", "b 99999999999", ""], "line 2: the label '99999999999' does not fit"),
    ([" \t", "a 1"], "line 1: is empty"),
])  # fmt: skip
def test_the_first_bad_line_is_named(tmp_path, part, lines, message):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        read_image_list(path)


def test_an_empty_file_and_one_without_pairs(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("")
    for read in (read_image_list, read_pair_list):
        with pytest.raises(DataError, match="the list is empty"):
            read(path)
    path.write_text("\n \n")
    with pytest.raises(DataError, match="the list is empty"):
        read_pair_list(path)


def test_a_list_goes_to_other_processes_as_bytes_and_numbers(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number:06d}.jpg {number}\n" for number in range(1000)))
    found = read_image_list(path, "root/")
    packed = pickle.dumps(found)
    assert list(pickle.loads(packed)) == list(found)  # noqa: S301 - of this test
    assert len(packed) < 1000 * 60


def test_no_line_of_the_usual_form_is_read_alone(tmp_path, monkeypatch):
    """What a line costs is a share of a few operations on all of them: no call for it."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number:06d}.jpg {number}\n" for number in range(5000)))
    asked = []
    original = long_lists.Lines.__getitem__
    monkeypatch.setattr(
        long_lists.Lines, "__getitem__", lambda self, index: asked.append(index) or original(self, index)
    )
    assert len(read_image_list(path)) == 5000 and len(read_pair_list(path)) == 5000
    assert asked == []
