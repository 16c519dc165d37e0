"""Sizes that images state, and pairs held against each other before anything is decoded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.media import Pair, check_pairs, head_size


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tiff", "webp", "ppm", "pfm", "hdr"])
def test_the_head_tells_what_decoding_gives(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / f"x.{kind}")
    dtype = np.float32 if kind in ("pfm", "hdr") else np.uint8
    assert cv2.imwrite(path, np.zeros((7, 11, 3), dtype))
    assert head_size(path) == (7, 11)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.png: is no image"):
        head_size(str(tmp_path / "empty.png"))
    with pytest.raises(MissingFileError, match=r"gone\.png"):
        head_size(str(tmp_path / "gone.png"))
    (tmp_path / "words.png").write_bytes(b"words")
    with pytest.raises(DataError, match=r"words\.png"):
        check_pairs("list.txt", [Pair(str(tmp_path / "words.png"), str(tmp_path / "words.png"), 1)])


def test_ten_offenders_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    pairs = []
    for number in range(14):
        names = [str(tmp_path / f"{kind}{number}.png") for kind in "ab"]
        cv2.imwrite(names[0], np.zeros((4, 4 + number % 2), np.uint8))
        cv2.imwrite(names[1], np.zeros((4 if number < 2 else 5, 4 + number % 2), np.uint8))
        pairs.append(Pair(*names, number + 1))
    assert check_pairs("list.txt", pairs[:2]) == [(4, 4), (4, 5)]
    with pytest.raises(DataError, match=r"list\.txt: 12 of 14 pairs .*line 3: .*4x4.*4x5.*line 12: .*; and 2 more$"):
        check_pairs("list.txt", pairs)
