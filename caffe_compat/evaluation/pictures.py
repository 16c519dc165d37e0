"""Sheets of pictures that show what a detector gets right and wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.evaluation.examples import Example
from caffe_compat.files import write_file
from caffe_compat.media.contact import TILE, fitted
from caffe_compat.media.drawing import draw_text
from caffe_compat.media.pictures import encode, read_picture

__all__ = ["draw_sheet", "write_sheets"]

_CAPTION = 16
_TITLE = 22
_GAP = 4
_COLORS: Mapping[str, tuple[int, int, int]] = {
    "right": (60, 180, 60),
    "wrong": (40, 40, 230),
    "again": (0, 150, 255),
    "missed": (230, 60, 230),
}
"""Blue, green, red."""
_WHITE = (255, 255, 255)
_ROWS = (
    ("surest right ones", ("right",)),
    ("surest wrong ones (orange: the object was found before; white: the object it overlaps most)", ("wrong", "again")),
    ("objects that were not found, the largest first", ("missed",)),
)


def draw_sheet(imdb: ImageDatabase, examples: Sequence[Example], title: str) -> np.ndarray:
    """One class: a row of pictures for the right, the wrong and the missed ones.

    Args:
        imdb: whose pictures they are of; shown in its first modality.
        examples: of the class.
        title: of the sheet.

    Returns:
        uint8 [H, W, 3], blue first.

    Raises:
        MissingFileError, DataError: a picture that is not there or cannot be read.
    """
    rows = [(name, [one for one in examples if one.kind in kinds]) for name, kinds in _ROWS]
    columns = max([3, *(len(chosen) for _, chosen in rows)])
    width = columns * (TILE[0] + _GAP) + _GAP
    parts = [_line(title, width, _TITLE + 6, 0.6)]
    for name, chosen in rows:
        parts.append(_line(f"{name}{'' if chosen else ': none'}", width, _TITLE, 0.45))
        if chosen:
            strip = np.full((TILE[1] + _CAPTION + _GAP, width, 3), 32, np.uint8)
            for k, example in enumerate(chosen):
                left = _GAP + k * (TILE[0] + _GAP)
                strip[: TILE[1] + _CAPTION, left : left + TILE[0]] = _tile(imdb, example)
            parts.append(strip)
    return np.concatenate(parts)


def write_sheets(
    folder: str | os.PathLike[str], imdb: ImageDatabase, examples: Sequence[Sequence[Example]], ap: np.ndarray
) -> list[Path]:
    """Write ``NN_CLASS.png`` for every class that has examples, each whole or not at all.

    Args:
        folder: exists.
        imdb: whose pictures they are of.
        examples: of each class.
        ap: float [C], average precision, for the title.

    Returns:
        The files.

    Raises:
        MissingFileError, DataError: a picture that is not there or cannot be read.
        WriteError: a sheet cannot be written.
    """
    files = []
    for label, (name, chosen) in enumerate(zip(imdb.classes, examples, strict=True)):
        if chosen:
            title = name if np.isnan(ap[label]) else f"{name}: average precision {100 * ap[label]:.1f}"
            file = Path(folder) / f"{label + 1:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.png"
            write_file(file, encode(draw_sheet(imdb, chosen, title), "png", os.fspath(file)))
            files.append(file)
    return files


def _tile(imdb: ImageDatabase, example: Example) -> np.ndarray:
    """A picture with its box, and a caption under it."""
    record = imdb.records[example.image]
    picture = read_picture(record.paths[imdb.modalities[0]])
    small, scale = fitted(picture)
    if example.truth is not None and example.kind != "missed":
        _rectangle(small, example.truth, scale, _WHITE, 1)
    _rectangle(small, example.box, scale, _COLORS[example.kind], 2)
    canvas = np.full((TILE[1] + _CAPTION, TILE[0], 3), 32, np.uint8)
    high, wide = small.shape[:2]
    top, left = (TILE[1] - high) // 2, (TILE[0] - wide) // 2
    canvas[top : top + high, left : left + wide] = small
    name = record.name.rsplit("/", 1)[-1]
    said = "" if example.kind == "missed" else f"  {example.score:.3f}  overlap {example.overlap:.2f}"
    said += f"  is {example.other}" if example.other else ""
    draw_text(canvas, f"{name}{said}", (2, TILE[1] + _CAPTION - 4), _WHITE, 0.38)
    return canvas


def _rectangle(picture: np.ndarray, box: np.ndarray, scale: float, color: tuple[int, int, int], thickness: int) -> None:
    """Around the pixels of a box; what of it lies outside the picture is drawn at the picture's edge."""
    limit = np.array([picture.shape[1] - 1, picture.shape[0] - 1] * 2)
    x1, y1, x2, y2 = np.clip(np.round((box + [0, 0, 1, 1]) * scale) - [0, 0, 1, 1], 0, limit).astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (x2, y2), color, thickness)


def _line(text: str, width: int, height: int, size: float) -> np.ndarray:
    line = np.full((height, width, 3), 32, np.uint8)
    draw_text(line, text, (_GAP, height - 7), _WHITE, size)
    return line
