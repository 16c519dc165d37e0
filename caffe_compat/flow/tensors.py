"""The encoding of :mod:`.encoding` for torch tensors, on the device where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_compat.errors import DataError
from caffe_compat.flow.checks import LONG, MEAN, SCALE, check_shapes, first_bad

__all__ = ["decode", "encode"]


def encode(u: Tensor, v: Tensor) -> Tensor:
    """As :func:`caffe_compat.flow.encode`, bit for bit."""
    if not isinstance(u, Tensor) or not isinstance(v, Tensor) or u.device != v.device:
        told = [str(part.device) if isinstance(part, Tensor) else type(part).__name__ for part in (u, v)]
        raise DataError(f"flow on {told[0]} and on {told[1]}: expected tensors on one device")
    check_shapes(tuple(u.shape), tuple(v.shape))
    for given in (u, v):
        if given.is_complex() or given.dtype == torch.bool:
            raise DataError(f"flow of type {given.dtype}, expected real numbers")
    x, y = (part.detach().to(torch.float64) for part in (u, v))
    if not bool(torch.isfinite(x * x + y * y).all()):
        bad = first_bad(u.detach().cpu().numpy(), v.detach().cpu().numpy())
        if bad:
            raise DataError(bad)
        x, y = x.clamp(-LONG, LONG), y.clamp(-LONG, LONG)  # the squares overflowed
    length = torch.sqrt(x * x + y * y)  # hypot may differ in the last bit
    return torch.stack([(part * SCALE + MEAN + 0.5).clamp(0, 255.5) for part in (x, y, length)], -1).to(torch.uint8)


def decode(image: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`caffe_compat.flow.decode`."""
    if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-1] != 3:
        raise DataError(f"a flow picture {image.dtype} {list(image.shape)}: expected uint8 [..., H, W, 3]")
    u, v = ((image[..., at].float() - MEAN) / SCALE for at in (0, 1))
    return u, v
