"""Which way is down: the search in surface normals, a direction that was measured, and rotations to it.

Everything is torch operations on the device of the normals, and nothing waits for a GPU.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.depth.symmetric import smallest_eigenvectors
from caffe_compat.depth.tiles import spans
from caffe_compat.errors import DataError

__all__ = [
    "GRAVITY_STAGES",
    "TILT_LIMIT",
    "find_gravity",
    "measured_gravity",
    "rotation_to",
    "_votes_by_sums",
    "warn_tilt",
]

GRAVITY_STAGES = ((45.0, 5), (15.0, 5))
"""(threshold in degrees, iterations) of the gravity search."""
TILT_LIMIT = 45.0
"""Degrees between gravity and the image's downward axis beyond which the search is not to be trusted."""


def measured_gravity(gravity: Any, depth: Tensor) -> Tensor:
    """A measured direction, [3] or [N, 3], as float64 unit vectors [N, 3] on the device of the depth.

    Raises:
        DataError: another shape, or no direction.
    """
    found = torch.as_tensor(gravity, dtype=torch.float64)  # is looked at where it is, which for a list is no GPU
    count = 1 if depth.ndim == 2 else len(depth)
    if found.shape not in ((3,), (count, 3)):
        raise DataError(f"gravity has shape {tuple(found.shape)}, expected {(3,)} or {(count, 3)}")
    lengths = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
    if not bool(torch.isfinite(lengths).all() and (lengths > 0).all()):
        raise DataError(f"gravity is {found.tolist()}, expected a direction: three finite numbers, not all 0")
    unit: Tensor = (found / lengths).to(depth.device)
    return unit.expand(count, 3)


def find_gravity(normals: Tensor, waits: bool | None = None) -> Tensor:
    """The direction down [N, 3] that most normals [N, 3, H, W] (0 where there is none) are parallel or at right angles
    to.

    Starts from the image's downward axis; each step takes the direction least like the wall-like normals and most like
    the floor-like ones, first with a loose, then with a tight idea of both.

    Args:
        waits: whether the host looks at the numbers on the way, for LAPACK and to stop at a fixed point; by default
            where they are on a CPU.  A GPU would be waited for; it gets formulas, and does all iterations.
    """
    unit = normals.flatten(2)
    down = torch.zeros_like(unit[:, :, 0])
    down[:, 1].fill_(1)
    looks = not unit.is_cuda if waits is None else waits
    votes, smallest = (_votes, _by_lapack) if looks else (_votes_by_sums, smallest_eigenvectors)
    pieces = spans(unit.shape[2], unit.device)
    for threshold, iterations in GRAVITY_STAGES:
        for _ in range(iterations):
            matrix = torch.stack([votes(unit[:, :, piece], down, threshold) for piece in pieces]).sum(0)
            found = smallest(matrix)
            found = torch.where((found * down).sum(1, keepdim=True) < 0, -found, found)
            if looks and torch.equal(found, down):
                break  # a fixed point: every further step of this stage repeats it
            down = found
    return down


def _by_lapack(matrices: Tensor) -> Tensor:
    """Eigenvectors [N, 3] of the smallest eigenvalues; on a CPU a twentieth of the time of the formulas."""
    vectors: Tensor = torch.linalg.eigh(matrices).eigenvectors
    return vectors[:, :, 0]


def _votes(unit: Tensor, down: Tensor, threshold: float) -> Tensor:
    """Sum [N, 3, 3] of n n' over the wall-like normals [N, 3, M] less the same over the floor-like ones."""
    cosine = torch.bmm(down[:, None, :], unit)[:, 0].abs_()
    return torch.bmm(unit * _signs(cosine, threshold)[:, None, :], unit.transpose(1, 2))


def _votes_by_sums(unit: Tensor, down: Tensor, threshold: float) -> Tensor:
    """The same as :func:`_votes` by products and sums: a GPU gives one multiprocessor to a product of matrices as
    narrow as these, and all of them to a sum."""
    cosine = (unit * down[:, :, None]).sum(1).abs_()
    signed = unit * _signs(cosine, threshold)[:, None, :]
    return torch.stack([(signed * unit[:, axis, None]).sum(2) for axis in range(3)], 1)


def _signs(cosine: Tensor, threshold: float) -> Tensor:
    """1 of the wall-like, -1 of the floor-like."""
    wall, floor = torch.empty_like(cosine), torch.empty_like(cosine)
    torch.lt(cosine, math.sin(math.radians(threshold)), out=wall)
    torch.gt(cosine, math.cos(math.radians(threshold)), out=floor)
    return wall.sub_(floor)


def rotation_to(gravity: Tensor) -> Tensor:
    """Rotations [N, 3, 3] that turn (0, 1, 0) into ``gravity``; the identity up to 0.1 degrees, as in the original."""
    x, y, z = gravity.unbind(1)
    sine = torch.hypot(x, z).clamp_min(1e-300)
    kx, kz = z / sine, -x / sine  # (0, 1, 0) x gravity, normalised
    c, s, t = y, torch.hypot(x, z), 1 - y
    rows = [c + kx * kx * t, -kz * s, kx * kz * t, kz * s, c, -kx * s, kx * kz * t, kx * s, c + kz * kz * t]
    rotation = torch.stack(rows, dim=1).reshape(-1, 3, 3)
    small = torch.rad2deg(torch.atan2(s, c)) <= 0.1
    return torch.where(small.reshape(-1, 1, 1), torch.eye(3, dtype=gravity.dtype, device=gravity.device), rotation)


def warn_tilt(gravity: Sequence[Sequence[float]]) -> None:
    """Warn of every direction that was found far off the image's downward axis."""
    for x, y, z in gravity:
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, y))))
        if tilt > TILT_LIMIT:
            warnings.warn(
                f"gravity was found at ({x:.3f}, {y:.3f}, {z:.3f}), {tilt:.0f} degrees off the image's downward axis; "
                f"the search is made for cameras tilted less, so height and angle may be wrong",
                UserWarning,
                stacklevel=3,
            )
