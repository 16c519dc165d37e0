"""Eigenvectors of many symmetric 3 x 3 matrices in closed form: a few dozen operations on any device.

A GPU's solver takes milliseconds for matrices this small, and LAPACK has to wait for the GPU.  Which formulas keep all
digits where eigenvalues (nearly) coincide: Eberly, "A Robust Eigensolver for 3 x 3 Symmetric Matrices" (2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["smallest_eigenvectors"]


def smallest_eigenvectors(matrices: Tensor) -> Tensor:
    """Unit vectors [N, 3] that symmetric matrices [N, 3, 3] stretch least (their smallest eigenvalue's).

    The sign is not defined; neither is the direction where the two smallest eigenvalues are one, but it lies in their
    plane.  A multiple of the identity gives (1, 0, 0), as LAPACK does.

    The eigenvalue that stands apart from the two others, be it the smallest or the largest, gives its vector as a cross
    product of two rows, which is safe since its distance to the others is.  If it is the largest, the smallest one's
    vector is found in the plane at right angles to it, by one rotation, however near the two smaller ones are.
    """
    one = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    scaled = matrices / _or_one(matrices.abs().amax((1, 2), keepdim=True))  # so that squares stay in range
    shifted = scaled - one * (scaled.diagonal(dim1=1, dim2=2).sum(1) / 3)[:, None, None]
    spread = (shifted * shifted).sum((1, 2)).div_(6).sqrt_()
    shifted = shifted / _or_one(spread)[:, None, None]
    # the eigenvalues are now 2 cos of three angles 120 degrees apart
    half = (shifted[:, 0] * torch.linalg.cross(shifted[:, 1], shifted[:, 2])).sum(1) / 2
    smallest_apart = half < 0
    angle = half.clamp_(-1, 1).acos_().div_(3)
    apart = torch.where(smallest_apart, angle + 2 * math.pi / 3, angle).cos_().mul_(2)
    rows = shifted - one * apart[:, None, None]
    alone = _longest(torch.linalg.cross(rows, rows.roll(1, dims=1)))
    found = torch.where(smallest_apart[:, None], alone, _smaller_in_plane(shifted, alone))
    return torch.where((spread > 0)[:, None], found, one[:1])


def _or_one(divisor: Tensor) -> Tensor:
    return divisor.masked_fill(divisor == 0, 1)


def _longest(vectors: Tensor) -> Tensor:
    """Of the vectors [N, 3, 3] the longest in each row [N, 3], with length 1."""
    lengths = torch.linalg.vector_norm(vectors, dim=2)
    length, best = lengths.max(1, keepdim=True)
    longest: Tensor = vectors.gather(1, best[..., None].expand(-1, 1, 3))[:, 0] / _or_one(length)
    return longest


def _smaller_in_plane(matrices: Tensor, normals: Tensor) -> Tensor:
    """Eigenvectors [N, 3] of the smaller of the eigenvalues that matrices have at right angles to an eigenvector."""
    x, y, z = normals.unbind(1)
    zero = torch.zeros_like(x)
    sideways = torch.where((x.abs() > y.abs())[:, None], torch.stack([-z, zero, x], 1), torch.stack([zero, z, -y], 1))
    first = sideways / torch.linalg.vector_norm(sideways, dim=1, keepdim=True)
    second = torch.linalg.cross(normals, first)
    images = matrices @ torch.stack([first, second], 2)  # [N, 3, 2]
    across = (first * images[:, :, 1]).sum(1)
    apart = (first * images[:, :, 0]).sum(1) - (second * images[:, :, 1]).sum(1)
    turn = torch.atan2(2 * across, apart)[:, None] / 2
    found: Tensor = second * turn.cos() - first * turn.sin()
    return found
