"""Gaussian filters over points with many coordinates, on the permutohedral lattice.

Source: ``modified_permutohedral.cpp`` of torrvision/caffe, after Adams, Baek and Davis, "Fast high-dimensional
filtering using the permutohedral lattice" (2010).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import DataError

__all__ = ["Lattice"]

_FARTHEST = 2.0**13


class Lattice:
    """The simplices that points lie in: which vertices, with which weights, and who is whose neighbour.

    All coordinates are float32, as in the original.

    Args:
        points: float32 [N, d], in units of the Gaussian's standard deviation.

    Raises:
        DataError: they lie too far apart, so that vertices cannot be told from each other (the original's keys have 16
            bits).
    """

    def __init__(self, points: np.ndarray) -> None:
        count, self.rank = points.shape
        if not (np.abs(points) < _FARTHEST).all():
            raise DataError(f"a point has coordinates beyond {_FARTHEST:g} standard deviations of the filter")
        base, order, self.weights = _simplices(points.astype(np.float32))
        keys = _vertices(base, order)
        self.vertices, self.neighbours = _numbered(keys.reshape(-1, self.rank))
        self.vertices = self.vertices.reshape(count, self.rank + 1)
        self._ready: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = {}

    def filter(self, values: Tensor) -> Tensor:
        """Values [C, N] of the points, blurred; not divided by the sum of weights.  The gradient is the adjoint's."""
        found: Tensor = _Filter.apply(values, self)  # type: ignore[no-untyped-call]
        return found

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices [N (d + 1)], weights [N (d + 1)] and neighbours [d + 1, 2, M] where ``like`` is."""
        key = like.device, like.dtype
        if key not in self._ready:
            self._ready[key] = (
                torch.from_numpy(self.vertices).flatten().to(like.device),
                torch.from_numpy(self.weights).flatten().to(like),
                torch.from_numpy(self.neighbours).to(like.device),
            )
        return self._ready[key]


class _Filter(torch.autograd.Function):
    """Splat, blur along every axis of the lattice, slice; the adjoint blurs in the reverse order."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lattice: Lattice) -> Tensor:
        ctx.lattice = lattice
        return _blurred(values, lattice, reverse=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _blurred(seed, ctx.lattice, reverse=True), None


def _blurred(values: Tensor, lattice: Lattice, reverse: bool) -> Tensor:
    vertices, weights, neighbours = lattice.tensors(values)
    corners, count = lattice.rank + 1, neighbours.shape[2]
    rows = values.t().contiguous()  # a vertex lies in one piece
    spread = rows.repeat_interleave(corners, 0) * weights[:, None]
    held = rows.new_zeros(count + 1, rows.shape[1]).index_add_(0, vertices, spread)  # the last stands for no neighbour
    for axis in reversed(range(corners)) if reverse else range(corners):
        one, other = neighbours[axis]
        blurred = held[:-1] + 0.5 * (held[one] + held[other])
        held = torch.cat([blurred, held[-1:]])
    alpha = 1 / (1 + 2.0**-lattice.rank)
    back: Tensor = (held[vertices] * (weights * alpha)[:, None]).view(len(rows), corners, -1).sum(1)
    return back.t()


def _simplices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 0-coloured vertex, the order of the differences from it, and barycentric weights: each [N, d + 1]."""
    count, rank = points.shape
    deviation = np.float32(np.sqrt(2.0 / 3.0) * (rank + 1))
    elevated, total = np.zeros((count, rank + 1), np.float32), np.zeros(count, np.float32)
    for axis in range(rank, 0, -1):
        scaled = points[:, axis - 1] * np.float32(1.0 / np.sqrt((axis + 1.0) * axis) * deviation)
        elevated[:, axis] = total - np.float32(axis) * scaled
        total = total + scaled
    elevated[:, 0] = total
    rounded = np.rint(elevated * np.float32(1.0 / (rank + 1)))
    base = rounded * np.float32(rank + 1)
    rest = elevated - base
    order = np.zeros(rest.shape, np.int64)
    for i in range(rank):
        for j in range(i + 1, rank + 1):
            less = rest[:, i] < rest[:, j]
            order[:, i] += less
            order[:, j] += ~less
    order += rounded.sum(1, dtype=np.float64).astype(np.int64)[:, None]
    turn = (order < 0).astype(np.int64) - (order > rank)
    order += turn * (rank + 1)
    base += (turn * (rank + 1)).astype(np.float32)
    parts = (elevated - base) * np.float32(1.0 / (rank + 1))
    ranked = np.zeros(parts.shape, np.float32)
    np.put_along_axis(ranked, rank - order, parts, 1)
    weights = ranked - np.roll(ranked, 1, 1)
    weights[:, 0] += 1
    return base.astype(np.int64), order, weights


def _vertices(base: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Keys of the vertices of each simplex: [N, d + 1, d]; the last coordinate follows from the others."""
    rank = base.shape[1] - 1
    colours = np.arange(rank + 1)
    places = np.arange(rank + 1)
    canonical = np.where(places[None] <= rank - colours[:, None], colours[:, None], colours[:, None] - (rank + 1))
    keys: np.ndarray = base[:, None, :rank] + canonical[:, order[:, :rank]].transpose(1, 0, 2)
    return keys


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each key, and those of the two neighbours along d + 1 axes [d + 1, 2, M]; M where there is none."""
    rank = keys.shape[1]
    low = keys.min(0) - rank - 1
    sizes = keys.max(0) + rank + 2 - low
    if math.prod(int(size) for size in sizes) >= 1 << 62:
        raise DataError("points lie too far apart for a filter of so many coordinates")
    factors = np.cumprod([1, *sizes[:-1]])
    codes, numbers = np.unique((keys - low) @ factors, return_inverse=True)
    found = np.empty((rank + 1, 2, len(codes)), np.int64)
    for axis in range(rank + 1):
        step = -np.ones(rank, np.int64)
        if axis < rank:
            step[axis] = rank
        for side, sign in enumerate((1, -1)):
            wanted = codes + sign * int(step @ factors)
            at = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
            found[axis, side] = np.where(codes[at] == wanted, at, len(codes))
    return numbers.reshape(-1), found
