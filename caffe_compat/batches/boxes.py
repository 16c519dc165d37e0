"""Boxes that follow their pictures through resizing, crops and mirrors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["SMALLEST", "View", "draw_boxes", "place_boxes"]

SMALLEST = 16
"""Pixels: what a crop leaves of a box is dropped if it is narrower or lower.  One cell of a map of stride 16."""


@dataclass(frozen=True)
class View:
    """How a picture came into a batch.

    Attributes:
        factors: of its width and its height.
        rows, columns: what was kept of the resized picture.
        mirrored: whether its columns then came in reverse order.
    """

    factors: tuple[float, float]
    rows: slice
    columns: slice
    mirrored: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in the batch."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def place_boxes(boxes: np.ndarray, view: View) -> np.ndarray:
    """Boxes in the coordinates of a batch.

    Args:
        boxes: float32 [N, 4], x1 y1 x2 y2 in pixels of the picture as it is stored, from 0, last pixel included.

    Returns:
        float32 [M, 4], M <= N, in the same order, cut to the batch's picture.  Corners are multiplied by the factors,
        as in Fast R-CNN.  What was cut and is left with less than :data:`SMALLEST` pixels either way is not there.
    """
    height, width = view.size
    scaled: np.ndarray = boxes * np.tile(np.array(view.factors, np.float32), 2)
    scaled -= np.tile(np.array([view.columns.start, view.rows.start], np.float32), 2)
    cut: np.ndarray = np.clip(scaled, 0, np.tile(np.array([width - 1, height - 1], np.float32), 2))
    before, after = scaled[:, 2:] - scaled[:, :2], cut[:, 2:] - cut[:, :2]
    whole = after > before - 1  # the last pixel, made smaller, reaches less than a pixel out
    cut = cut[((after > 0) & (whole | (after + 1 >= SMALLEST))).all(1)]
    if view.mirrored:
        cut[:, [0, 2]] = width - 1 - cut[:, [2, 0]]
    return cut


def draw_boxes(boxes: np.ndarray, count: int, view: View, random: np.random.Generator) -> np.ndarray:
    """Boxes of a picture, drawn uniformly and without repetition from those that a crop leaves.

    Args:
        boxes: as :func:`place_boxes`.
        count: how many at most.

    Returns:
        float32 [n, 4], 1 <= n <= ``count``: all of them where there are no more, as in Fast R-CNN's minibatches;
        the whole picture where a crop leaves none.
    """
    placed = place_boxes(boxes, view)
    if not len(placed):
        height, width = view.size
        return np.array([[0, 0, width - 1, height - 1]], np.float32)
    if len(placed) > count:
        placed = placed[random.choice(len(placed), count, replace=False)]
    return placed
