"""Optical flow as a picture, as ActionTubes encodes it (``compute_OF``): 128 + 16 u, 128 + 16 v, 128 + 16 |f|.

16 is 128 / 8: flow of up to 8 pixels a frame fits in, what is longer is clipped.  Two-stream networks keep 20 pixels in
the same 8 bits, as x and y in files of their own: :mod:`.stored` converts them, the two are never mixed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.flow.checks import LONG, MEAN, SCALE, check_shapes, first_bad

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["decode", "encode"]

_BLOCK = 16384
"""Pixels that are encoded at a time: their numbers stay in the processor's cache."""


@overload
def encode(u: np.ndarray, v: np.ndarray) -> np.ndarray: ...
@overload
def encode(u: Tensor, v: Tensor) -> Tensor: ...
def encode(u: Any, v: Any) -> Any:
    """Flow as the picture that ActionTubes' nets are trained on.

    Channels are in the order of the file (R, G, B): 128 + 16 u, 128 + 16 v, 128 + 16 sqrt(u^2 + v^2), computed in
    double, rounded half away from zero and saturated to 0 to 255, as Matlab's ``uint8``.  OpenCV, and so the nets, see
    the length first: ``image[..., ::-1]``.

    Args:
        u: pixels a frame to the right, real numbers [..., H, W]; NumPy array or torch tensor, on any device.
        v: the same downwards.

    Returns:
        uint8 [..., H, W, 3], where ``u`` is.

    Raises:
        DataError: shapes that differ, numbers that are not real, NaN or infinity (says how many, and where the first).
    """
    if _is_tensor(u) or _is_tensor(v):
        return import_module("caffe_compat.flow.tensors").encode(u, v)
    u, v = np.asarray(u), np.asarray(v)
    check_shapes(u.shape, v.shape)
    for given in (u, v):
        if given.dtype.kind not in "fiu":
            raise DataError(f"flow of type {given.dtype}, expected real numbers")
    out = np.empty((*u.shape, 3), np.uint8)
    rows = max(1, _BLOCK // max(1, u.shape[-1]))
    for image in np.ndindex(u.shape[:-2]):
        for top in range(0, u.shape[-2], rows):
            block = (*image, slice(top, top + rows))
            if not _fill(u[block], v[block], out[block]):
                raise DataError(first_bad(u, v))
    return out


def _fill(u: np.ndarray, v: np.ndarray, out: np.ndarray) -> bool:
    """Encode a few rows into ``out``; False if a number is not finite."""
    x, y = u.astype(np.float64), v.astype(np.float64)
    with np.errstate(over="ignore"):
        length = x * x
        length += y * y
    if not np.isfinite(length).all():
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return False
        x, y = x.clip(-LONG, LONG), y.clip(-LONG, LONG)  # the squares overflowed
        length = x * x + y * y
    np.sqrt(length, out=length)
    for channel, plane in enumerate((x, y, length)):
        plane *= SCALE
        plane += MEAN
        plane += 0.5
        out[..., channel] = plane.clip(0, 255.5, out=plane)  # the type cuts the fraction off
    return True


@overload
def decode(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
@overload
def decode(image: Tensor) -> tuple[Tensor, Tensor]: ...
def decode(image: Any) -> Any:
    """The flow that a picture keeps: exact to 1/32 pixel between -8 and 7.94, where it was clipped too short.

    Args:
        image: uint8 [..., H, W, 3], channels in the order of the file, as :func:`encode` gives them (of what OpenCV
            reads, ``image[..., ::-1]``).

    Returns:
        u and v, float32 [..., H, W]: pixels a frame to the right and downwards.

    Raises:
        DataError: another type or shape.
    """
    if _is_tensor(image):
        return import_module("caffe_compat.flow.tensors").decode(image)
    if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 3:
        raise DataError(f"a flow picture {image.dtype} {list(image.shape)}: expected uint8 [..., H, W, 3]")
    return tuple((image[..., at].astype(np.float32) - np.float32(MEAN)) / np.float32(SCALE) for at in (0, 1))


def _is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; torch is there already if it is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
