"""Lists of pictures with boxes in MS-CNN's and Cascade R-CNN's form, which follows R-CNN's window files.

Source: zhaoweicai/mscnn, ``image_gt_data_layer.cpp``; zhaoweicai/cascade-rcnn, ``detection_data_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["BoxPicture", "read_box_list", "whole_number"]


@dataclass(frozen=True)
class BoxPicture:
    """A picture of a list.

    Attributes:
        number: what the list calls it.
        size: channels, height and width, as the list has them.
        boxes: float32 [G, 4], x1 y1 x2 y2 in pixels.
        marks: whole numbers [G, 3]: class, whether it is ignored, whether it is difficult.
        outside: boxes of what is not of interest, float32 [I, 4].
    """

    number: int
    path: str
    size: tuple[int, int, int]
    boxes: np.ndarray
    marks: np.ndarray
    outside: np.ndarray


def whole_number(word: str) -> int:
    """A number of 32 bits, as C++ reads it.

    Raises:
        ValueError: it is none.
    """
    if len(word) > 20 or not -(1 << 31) <= int(word) < 1 << 31:
        raise ValueError(f"{word[:20]!r} is no number of 32 bits")
    return int(word)


def read_box_list(path: str, root: str, difficult: bool) -> list[BoxPicture]:
    """Read a list.

    For each picture ``# number``, path, channels, height, width, how many boxes there are, lines ``class ignored [
    difficult] x1 y1 x2 y2``, how many regions are not of interest, lines ``x1 y1 x2 y2``.

    Args:
        root: put before paths without a separator.
        difficult: whether lines have that word (Cascade R-CNN's lists, which refuse boxes whose corners are swapped).

    Raises:
        MissingFileError: no such file.
        DataError: it is empty or malformed; names the picture.
    """
    with open_existing(path) as stream:
        words = iter(stream.read().decode("utf-8", "surrogateescape").split())
    found: list[BoxPicture] = []
    while (mark := next(words, None)) is not None:
        where = f"{path}, image {len(found)}"
        if mark != "#":
            raise DataError(f"{where}: begins with {mark!r}, expected '#'")
        try:
            found.append(_read_picture(words, root, difficult))
        except (StopIteration, RuntimeError, ValueError) as error:
            told = str(error) or "the file ends too early"
            line = "class ignored difficult x1 y1 x2 y2" if difficult else "class ignored x1 y1 x2 y2"
            raise DataError(
                f"{where}: expected '# number', path, channels, height, width, number of boxes, lines '{line}', number "
                f"of regions that are not of interest, and lines 'x1 y1 x2 y2' ({told})"
            ) from error
    if not found:
        raise DataError(f"{path}: the list is empty")
    return found


def _read_picture(words: Iterator[str], root: str, difficult: bool) -> BoxPicture:
    number, path = whole_number(next(words)), root + next(words)
    size = [whole_number(next(words)) for _ in range(3)]
    if min(size) < 1:
        raise ValueError(f"channels, height and width {size}")
    rows = _read_rows(words, 7 if difficult else 6)
    if len(rows) and rows[:, 0].min() < 1:
        raise ValueError(f"a class of {rows[:, 0].min()}, which is not positive")
    marks = rows[:, :3].copy() if difficult else np.pad(rows[:, :2], ((0, 0), (0, 1)))
    marks[:, 1:] = marks[:, 1:] != 0
    outside = _read_rows(words, 4)
    for boxes in (rows, outside) if difficult else ():
        wrong = (boxes[:, -2:] < boxes[:, -4:-2]).any(1)
        if wrong.any():
            raise ValueError(f"a box {boxes[wrong][0, -4:].tolist()}, whose corners are swapped")
    return BoxPicture(
        number, path, (size[0], size[1], size[2]), rows[:, -4:].astype(np.float32), marks, outside.astype(np.float32)
    )


def _read_rows(words: Iterator[str], columns: int) -> np.ndarray:
    """How many rows there are, and these: whole numbers [rows, columns] of which the last four are a box."""
    rows = [[whole_number(next(words)) for _ in range(columns)] for _ in range(whole_number(next(words)))]
    return np.array(rows, np.int64).reshape(-1, columns)
