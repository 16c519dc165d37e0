"""Filling the holes of a depth map."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy  # loads its parts on first use

from caffe_compat.errors import DataError

__all__ = ["FILL_METHODS", "complete"]

FILL_METHODS = ("nearest", "colorization")


def complete(
    depth: np.ndarray,
    missing: np.ndarray | None = None,
    *,
    method: Literal["nearest", "colorization"] = "nearest",
    color: np.ndarray | None = None,
) -> np.ndarray:
    """Fill the pixels that have no depth; the measured ones stay as they are.

    Args:
        depth: [H, W] floating point metres.
        missing: bool [H, W]; None means where ``depth`` is 0, NaN or infinite.
        method: ``nearest`` takes the nearest measured pixel; ``colorization`` (Levin et al. 2004, what NYUD2's own
            filled depth was made with) spreads depth along pixels of like colour by solving a sparse linear system:
            some seconds for 640 x 480.
        color: uint8 [H, W, 3] or [H, W], registered to ``depth``; ``colorization`` needs it.

    Returns:
        float64 [H, W] without holes.

    Raises:
        DataError: nothing was measured, sizes differ, an unknown method, or no colour for ``colorization``.
    """
    if depth.ndim != 2:
        raise DataError(f"depth has shape {depth.shape}, expected H x W")
    hole = ~np.isfinite(depth) | (depth == 0)
    if missing is not None:
        if missing.shape != depth.shape or missing.dtype != np.bool_:
            raise DataError(
                f"missing is {missing.dtype} of shape {missing.shape}, expected bool of shape {depth.shape}"
            )
        hole = hole | missing
    if hole.all():
        raise DataError(f"depth: all {hole.size} pixels are missing")
    if method not in FILL_METHODS:
        raise DataError(f"fill method '{method}': expected one of {', '.join(FILL_METHODS)}")
    known = np.where(hole, 0.0, depth).astype(np.float64)
    if not hole.any():
        return known
    if method == "nearest":
        return _nearest(known, hole)
    if color is None:
        raise DataError("fill method 'colorization' needs the colour image that belongs to the depth")
    if color.shape[:2] != depth.shape:
        raise DataError(
            f"colour is {color.shape[0]} x {color.shape[1]} but depth is {depth.shape[0]} x {depth.shape[1]}"
        )
    return _colorization(known, hole, color)


def _nearest(depth: np.ndarray, hole: np.ndarray) -> np.ndarray:
    rows, columns = scipy.ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return np.asarray(depth[rows, columns])


def _colorization(depth: np.ndarray, hole: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Each pixel equals the weighted mean of its 3 x 3 neighbours, weights by likeness of grey value."""
    grey = color.astype(np.float64) / 255
    if grey.ndim == 3:
        grey = grey @ np.array([0.299, 0.587, 0.114])
    values, inside, index = _neighbours(grey)
    count = inside.sum(0) + 1
    mean = (values.sum(0) + grey) / count
    variance = 0.6 * (((values - mean) ** 2 * inside).sum(0) + (grey - mean) ** 2) / count
    squares = (values - grey) ** 2
    least = np.where(inside, squares, np.inf).min(0)
    # The most alike neighbour keeps at least a weight of 0.01.
    width = np.maximum(np.maximum(variance, least / np.log(100.0)), 2e-6)
    weights = np.exp(-squares / width) * inside
    weights /= weights.sum(0)

    rows = np.broadcast_to(np.arange(grey.size).reshape(grey.shape), index.shape)
    links = scipy.sparse.csr_matrix((weights[inside], (rows[inside], index[inside])), shape=(grey.size, grey.size))
    measured = (~hole).ravel().astype(np.float64)
    system = scipy.sparse.identity(grey.size) - links + scipy.sparse.diags(measured)
    solved = scipy.sparse.linalg.spsolve(system.tocsc(), measured * depth.ravel(), permc_spec="COLAMD").reshape(
        depth.shape
    )
    return np.where(hole, np.clip(solved, depth[~hole].min(), depth[~hole].max()), depth)


def _neighbours(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (0 outside), membership and flat index of the 8 neighbours, each [8, H, W]."""
    height, width = grey.shape
    padded = np.pad(grey, 1)
    member = np.pad(np.ones_like(grey, dtype=bool), 1)
    index = np.pad(np.arange(grey.size).reshape(grey.shape), 1)
    shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]

    def gather(plane: np.ndarray) -> np.ndarray:
        return np.stack([plane[i : i + height, j : j + width] for i, j in shifts])

    return gather(padded), gather(member), gather(index)
