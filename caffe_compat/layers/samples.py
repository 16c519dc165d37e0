"""Random values for bottoms that are not made of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.layers.base import Shape

__all__ = ["boxes", "indices", "marks"]


def indices(shape: Shape, end: int, random: np.random.Generator) -> np.ndarray:
    """Whole numbers from 0 to below ``end``; zeros where there is nothing to point at."""
    return random.integers(0, max(end, 1), shape)


def marks(shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Ones and zeros: what to keep, or where a sequence goes on."""
    return random.integers(0, 2, shape)


def boxes(shape: Shape, ends: Sequence[int], sides: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Rows [an index below each of ``ends``, x1, y1, x2, y2] with corners inside ``sides`` (width, height)."""
    rows = shape[0]
    corners = np.sort(random.random((rows, 2, 2)), axis=1) * np.array(sides)
    first = [indices((rows, 1), end, random) for end in ends]
    return np.concatenate([*first, corners.reshape(rows, 4)], axis=1).reshape(shape)
