"""Overlaps of boxes in pixels, in float32, as MS-CNN and Cascade R-CNN measure them.

Source: zhaoweicai/mscnn, ``math_functions.cpp`` (BoxIOU); zhaoweicai/cascade-rcnn, ``bbox_util.cpp`` (JaccardOverlap of
corners).  ``kind`` is what the shared area is divided by: ``"IOU"`` the union, ``"IOMU"`` the smaller area, ``"IOFU"``
the first box's area.
"""

from __future__ import annotations

import numpy as np

__all__ = ["KINDS", "corner_areas", "corner_overlaps", "round_half_away", "span_overlaps", "suppressed"]

KINDS = ("IOU", "IOMU", "IOFU")
_ONE = np.float32(1)


def round_half_away(value: float | np.floating) -> int:
    """C's ``round``: halves away from zero."""
    size = int(np.floor(abs(float(value)) + 0.5))
    return -size if value < 0 else size


def corner_areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes x1 y1 x2 y2 (float32 [..., 4]) whose last pixel counts; 0 where corners are swapped."""
    sides = boxes[..., 2:] - boxes[..., :2]
    area: np.ndarray = np.where((sides < 0).any(-1), np.float32(0), (sides + _ONE).prod(-1))
    return area


def corner_overlaps(first: np.ndarray, second: np.ndarray, kind: str = "IOU") -> np.ndarray:
    """Overlaps of boxes x1 y1 x2 y2 (float32 [..., 4]) whose last pixel counts; shapes are broadcast.

    Boxes that share a single row of pixels do not overlap, those that share a single column do, as there.
    """
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    apart = (low[..., 0] > high[..., 0]) | (low[..., 1] >= high[..., 1])
    areas = corner_areas(first), corner_areas(second)
    shared = np.where(apart | (areas[0] <= 0) | (areas[1] <= 0), np.float32(0), (high - low + _ONE).prod(-1))
    return _quotient(shared, areas, kind)


def span_overlaps(first: np.ndarray, second: np.ndarray, kind: str = "IOU") -> np.ndarray:
    """Overlaps of boxes x y width height (float32 [..., 4]); shapes are broadcast."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    apart = (low >= high).any(-1) | (first[..., 2:] <= 0).any(-1) | (second[..., 2:] <= 0).any(-1)
    shared = np.where(apart, np.float32(0), (high - low).prod(-1))
    return _quotient(shared, (first[..., 2:].prod(-1), second[..., 2:].prod(-1)), kind)


def _quotient(shared: np.ndarray, areas: tuple[np.ndarray, np.ndarray], kind: str) -> np.ndarray:
    if kind == "IOU":
        under = areas[0] + areas[1] - shared
    else:
        under = areas[0] if kind == "IOFU" else np.minimum(*areas)
    found: np.ndarray = np.where(shared > 0, shared / np.where(shared > 0, under, _ONE), np.float32(0))
    return found


def suppressed(boxes: np.ndarray, threshold: float, kind: str = "IOU", most: int = 0) -> np.ndarray:
    """Non-maximum suppression of boxes x1 y1 x2 y2 (float32 [N, 4]), the best first: numbers of those that stay.

    A box goes where its overlap with a better one that stays is more than the threshold.

    Args:
        most: of how many the numbers are wanted; 0: of all.
    """
    left, kept = np.arange(len(boxes)), list[int]()
    while len(left) and not (most and len(kept) == most):
        kept.append(int(left[0]))
        rest = left[1:]
        left = rest[~(corner_overlaps(boxes[left[0]], boxes[rest], kind) > np.float32(threshold))]
    return np.array(kept, np.int64)
