"""Contact sheets: many small pictures with words under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from caffe_compat.media.drawing import draw_text

__all__ = ["TILE", "SmallPicture", "contact_sheet", "fitted"]

TILE = (240, 180)
"""Width and height of a picture on a sheet."""
_GAP, _LINE, _TITLE = 6, 16, 28
_DARK, _WHITE, _GREY = 32, (255, 255, 255), (170, 170, 170)


@dataclass(frozen=True, eq=False)
class SmallPicture:
    """One of the pictures.

    Attributes:
        picture: uint8 [H, W, 3], blue first, of any size.
        name: under it, in grey.
        lines: under that.
    """

    picture: np.ndarray
    name: str
    lines: tuple[str, ...] = ()


def fitted(picture: np.ndarray, size: tuple[int, int] = TILE) -> tuple[np.ndarray, float]:
    """A picture in the largest size that fits into so many pixels (width, height), and its scale."""
    scale = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
    small = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def contact_sheet(
    tiles: Sequence[SmallPicture], title: str, columns: int = 0, size: tuple[int, int] = TILE
) -> np.ndarray:
    """A sheet.

    Args:
        tiles: from the upper left, row by row; one or more.
        title: over all.
        columns: 0: as many as make the sheet about as wide as a screen, 6 at most.
        size: width and height of a picture on it.

    Returns:
        uint8 [H, W, 3], blue first.
    """
    columns = columns or min(6, len(tiles))
    width = max(columns, 2) * (size[0] + _GAP) + _GAP
    head = np.full((_TITLE, width, 3), _DARK, np.uint8)
    draw_text(head, _cut(title, width, 0.6), (_GAP, _TITLE - 8), _WHITE, 0.6)
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    return np.concatenate([head, *(_row(row, width, size) for row in rows)])


def _row(tiles: Sequence[SmallPicture], width: int, size: tuple[int, int]) -> np.ndarray:
    lines = 1 + max(len(tile.lines) for tile in tiles)
    canvas = np.full((size[1] + lines * _LINE + 2 * _GAP, width, 3), _DARK, np.uint8)
    for number, tile in enumerate(tiles):
        small, _ = fitted(tile.picture, size)
        left = _GAP + number * (size[0] + _GAP)
        down, right = (size[1] - small.shape[0]) // 2, left + (size[0] - small.shape[1]) // 2
        canvas[down : down + small.shape[0], right : right + small.shape[1]] = small
        for place, line in enumerate((tile.name, *tile.lines)):
            words = np.ascontiguousarray(canvas[:, left : left + size[0]])
            draw_text(words, _cut(line, size[0], 0.4), (2, size[1] + _LINE * (place + 1) - 3),
                      _WHITE if place else _GREY, 0.4)  # fmt: skip
            canvas[:, left : left + size[0]] = words
    return canvas


def _cut(text: str, width: int, scale: float) -> str:
    """What of a text fits into so many pixels."""
    plain = text.encode("ascii", "replace").decode()
    if cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] <= width - 4:
        return plain
    while plain and cv2.getTextSize(f"{plain}..", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > width - 4:
        plain = plain[:-1]
    return f"{plain.rstrip()}.."
