"""A sheet of patches: each pair of units in two rows, one for each modality, the teacher's beside the student's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torchvision.utils import make_grid

from caffe_compat.errors import UsageError
from caffe_compat.figures.panels import LINE, MARGIN, Look, Page, text_width, wrap
from caffe_compat.figures.patches import Patch, Patches

__all__ = ["Heads", "draw_patches"]

SMALL = 7.0
"""Points of what stands beside the rows."""
GAP, BETWEEN, HALVES = 0.012, 0.07, 0.16
"""Inches between tiles, between pairs of units, between the teacher's and the student's patches."""


@dataclass(frozen=True)
class Heads:
    """What stands over and beside the patches.

    Attributes:
        teacher, student: over each half.
        first, second: beside the rows: the names of the modalities.
    """

    teacher: str = "teacher"
    student: str = "student"
    first: str = "colour"
    second: str = "second"


def draw_patches(found: Sequence[Patches], count: int, heads: Heads, look: Look) -> Figure:
    """The sheet.

    Args:
        found: pairs of units, from the top.
        count: tiles of each unit in a row; where a unit has fewer patches the rest stays white.
        look: its width is that of a tile, its columns those in which the pairs of units stand (0: one).

    Raises:
        UsageError: no units.
    """
    if not found:
        raise UsageError("no units to draw")
    tile, gap, between, halves, line, margin = (
        max(1, round(inches * look.dpi)) for inches in (look.width, GAP, BETWEEN, HALVES, LINE, MARGIN)
    )
    half = count * tile + (count - 1) * gap
    names = [(f"unit {one.unit}", _correlation(one.correlation)) for one in found]
    beside = line + margin
    label = max(text_width(text, look.dpi, SMALL) for pair in names for text in pair) + margin
    head = [wrap(text, half, look.dpi) for text in (heads.teacher, heads.student)]
    top = max(len(lines) for lines in head) * line + 2 * margin
    columns = max(1, min(look.columns or 1, len(found)))
    rows = math.ceil(len(found) / columns)
    high = 2 * tile + gap
    block = label + beside + 2 * half + halves
    page = Page(
        2 * margin + columns * block + (columns - 1) * 2 * halves,
        top + rows * high + (rows - 1) * between + margin,
        look,
    )
    for column in range(columns):
        left = margin + column * (block + 2 * halves) + label + beside
        for lines, x in zip(head, (left, left + half + halves), strict=True):
            page.write("\n".join(lines), x + half / 2, top - margin, ha="center", va="bottom")
    for number, one in enumerate(found):
        left = margin + number // rows * (block + 2 * halves)
        y = top + number % rows * (high + between)
        for text, off, weight in zip(names[number], (-line / 2, line / 2), ("bold", "normal"), strict=True):
            page.write(text, left, y + high / 2 + off, va="center", fontsize=SMALL, weight=weight)
        for text, off in ((heads.first, tile / 2), (heads.second, tile + gap + tile / 2)):
            page.write(text, left + label + line / 2, y + off, ha="center", va="center", fontsize=SMALL, rotation=90)
        for patches, x in ((one.teacher, 0), (one.student, half + halves)):
            start = left + label + beside + x
            if patches:
                page.show(_tiles(patches, count, tile, gap), start, y)
            else:
                page.write("answers nowhere", start + half / 2, y + high / 2, ha="center", va="center", color="0.4")
    return page.figure


def _correlation(value: float) -> str:
    return "r = none" if math.isnan(value) else f"r = {value:.2f}".replace("-", "\N{MINUS SIGN}")


def _tiles(patches: Sequence[Patch], count: int, tile: int, gap: int) -> np.ndarray:
    """Two rows of square tiles, red first: uint8 [2 tile + gap, count tile + (count - 1) gap, 3]."""
    white = np.full((tile, tile, 3), 255, np.uint8)
    rows = [
        [_square(image, tile) for image in images] + [white] * (count - len(patches))
        for images in ([patch.first for patch in patches], [patch.second for patch in patches])
    ]
    stack = np.stack([image[..., ::-1].transpose(2, 0, 1) for row in rows for image in row])
    grid = make_grid(torch.from_numpy(np.ascontiguousarray(stack)), nrow=count, padding=gap, pad_value=255)
    found: np.ndarray = grid.numpy().transpose(1, 2, 0)[gap:-gap, gap:-gap]
    return found


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """A patch as large as fits into a square, in its own shape; white around."""
    scale = side / max(image.shape[:2])
    size = [max(1, round(length * scale)) for length in image.shape[:2]]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(image, (size[1], size[0]), interpolation=way)
    found = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    found[top : top + size[0], left : left + size[1]] = small
    return found
