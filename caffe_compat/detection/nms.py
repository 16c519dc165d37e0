"""Non-maximum suppression: of boxes of a class that overlap, the one with the highest score stays.

Source: ``utils/cython_nms.pyx`` of fast-rcnn, the compiled version that the tools use: widths are x2 - x1 + 1, overlaps
are computed in float32, and a box goes where its overlap with a better one is the threshold or more (the version in
numpy beside it, ``utils/nms.py``: more).
"""

from __future__ import annotations

import numpy as np

from caffe_compat.evaluation.detections import Detections

__all__ = ["apply_nms", "nms"]

_BLOCK = 256
"""Boxes whose overlaps with all that is left are computed at once."""
_SCATTERED = 8
"""Pairs are picked one by one where fewer than one of so many can overlap."""


def nms(dets: np.ndarray, threshold: float, parity: bool = False) -> np.ndarray:
    """The boxes that stay.

    Args:
        dets: [N, 5], x1 y1 x2 y2 score; computed in float32.
        threshold: overlap from which on the lower of two boxes goes.
        parity: of equal scores the last row comes first, as the released code leaves few boxes (many in any order).

    Returns:
        int64 [n], rows of ``dets`` by descending score; of equal scores the first row comes first.
    """
    values = np.asarray(dets, np.float32).reshape(-1, 5)
    scores = values[:, 4]
    order = np.argsort(scores, kind="stable")[::-1] if parity else np.argsort(-scores, kind="stable")
    corners = np.ascontiguousarray(values[order, :4].T)
    areas = (corners[2] - corners[0] + 1) * (corners[3] - corners[1] + 1)
    limit = np.float64(threshold)  # 0.7 is less in float32: compared in float64, as there
    alive = np.ones(len(order), bool)
    grid = _Grid(corners) if len(order) > 2 * _BLOCK and limit > 0 else None  # at 0, boxes far off go too
    for start in range(0, len(order), _BLOCK):
        rows = start + np.flatnonzero(alive[start : start + _BLOCK])
        kept = rows[_greedy(_overlap(corners, areas, rows, rows) >= limit)]
        alive[start : start + _BLOCK] = False
        alive[kept] = True
        rest = start + _BLOCK + np.flatnonzero(alive[start + _BLOCK :])
        if not len(rest) or not len(kept):
            continue
        pairs = None if grid is None else grid.near(kept, len(kept) * len(rest) // _SCATTERED)
        if pairs is None:
            alive[rest[(_overlap(corners, areas, kept, rest) >= limit).any(0)]] = False
            continue
        first, second = pairs
        later = (second >= start + _BLOCK) & alive[second]
        first, second = first[later], second[later]
        alive[second[_overlap_of(corners[:, first], corners[:, second], areas[first] + areas[second]) >= limit]] = False
    return order[alive]


class _Grid:
    """Boxes by the square of a grid that holds their first corner; those more than a square apart do not overlap.

    With it the time follows the pairs of boxes that can overlap, which are few where boxes are scattered.

    Args:
        corners: float32 [4, N].
    """

    def __init__(self, corners: np.ndarray) -> None:
        self._usable = bool(np.isfinite(corners).all())
        if not self._usable:
            return
        sides = corners[2:].astype(np.float64) - corners[:2] + 2
        side = max(float(sides.max()), 1.0)
        places = np.floor((corners[:2] - corners[:2].min(1, keepdims=True).astype(np.float64)) / side)
        self._usable = bool(places.max() < 1 << 30)
        if not self._usable:
            return
        column, row = places.astype(np.int64)
        self._wide = int(column.max()) + 3  # so that the squares beside the last are not the first of the next row
        self._cell = row * self._wide + column
        self._order = np.argsort(self._cell, kind="stable")
        self._sorted = self._cell[self._order]

    def near(self, boxes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Pairs of some boxes with all that can overlap them; None if there are more than ``most``."""
        if not self._usable:
            return None
        cells = np.concatenate([self._cell[boxes] + step * self._wide for step in (-1, 0, 1)])
        low = np.searchsorted(self._sorted, cells - 1)
        counts = np.searchsorted(self._sorted, cells + 1, side="right") - low
        total = int(counts.sum())
        if total > most:
            return None
        ends = np.cumsum(counts)
        within = np.arange(total) - np.repeat(ends - counts, counts)
        return np.repeat(np.tile(boxes, 3), counts), self._order[np.repeat(low, counts) + within]


def apply_nms(detections: Detections, threshold: float, parity: bool = False, most: int = 0) -> Detections:
    """The boxes of each class in each image that stay, by descending score.

    Args:
        threshold, parity: TEST.NMS and PARITY; see :func:`nms`.
        most: TEST.MAX_PER_IMAGE_ALL: of all classes together only so many best boxes of an image stay, and those of
            the same score as the last, as in later versions of fast-rcnn; 0: all.
    """
    boxes = [[found[nms(found, threshold, parity)] for found in row] for row in detections.boxes]
    for number in range(len(detections.images)) if most else ():
        scores = np.concatenate([np.zeros(0, np.float32), *(row[number][:, 4] for row in boxes)])
        if len(scores) > most:
            least = np.partition(scores, -most)[-most]
            for row in boxes:
                row[number] = row[number][row[number][:, 4] >= least]
    return Detections(detections.classes, detections.images, boxes)


def _overlap(corners: np.ndarray, areas: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlaps float32 [n, m] of boxes with others; ``corners`` is [4, N]."""
    return _overlap_of(corners[:, first, None], corners[:, None, second], areas[first, None] + areas[second])


def _overlap_of(one: np.ndarray, two: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Overlaps float32 of boxes [4, ...] with others; ``areas`` are the sums of both, which this overwrites."""
    width = np.minimum(one[2], two[2]) - np.maximum(one[0], two[0])
    height = np.minimum(one[3], two[3]) - np.maximum(one[1], two[1])
    width += 1
    height += 1
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    areas -= width
    with np.errstate(divide="ignore", invalid="ignore"):
        width /= areas
    return np.asarray(width)


def _greedy(close: np.ndarray) -> np.ndarray:
    """Which of n boxes stay, best first; ``close`` is bool [n, n].  Rows become numbers of n bits."""
    packed = np.packbits(close, axis=1, bitorder="little")
    suppressed, kept = 0, []
    for row in range(len(close)):
        if not suppressed >> row & 1:
            kept.append(row)
            suppressed |= int.from_bytes(packed[row].tobytes(), "little")
    return np.array(kept, np.int64)
