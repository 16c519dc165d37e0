"""Disparity images, and stereo disparity to depth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from caffe_compat.depth.checks import check_depth
from caffe_compat.depth.scale import DISPARITY_SCALE, MOST_CLIPPED, NEAREST_SHARE, ClipWarning, resolve_scale
from caffe_compat.errors import DataError

__all__ = ["clipping", "depth_from_disparity", "disparity", "encode_disparity", "round_to_uint8", "warn_clipped"]


def round_to_uint8(values: Tensor) -> Tensor:
    """Matlab's ``uint8``: halves go up (nothing here is below -0.5), then 0..255."""
    return (values + 0.5).floor_().clamp_(0, 255).to(torch.uint8)


def encode_disparity(centimetres: Tensor, scale: float = DISPARITY_SCALE) -> Tensor:
    """uint8 disparity of depth in centimetres; 0 becomes 255."""
    return round_to_uint8(scale / centimetres.clamp_min(scale / NEAREST_SHARE))


def clipping(frames: Tensor, hidden: Tensor | None, scale: float) -> Tensor:
    """How much of frames [N, H, W] in metres clips: float64 [N, 3], the measured pixels that are too near, the measured
    pixels, the nearest depth that was measured.

    Args:
        frames: depth, 0 where it is not known.
        hidden: bool [N, H, W], what was not measured; None: nothing.
        scale: of the disparity channel.
    """
    near = frames < scale / 25500
    if not frames.is_cuda and not bool(near.any()):  # a GPU would be waited for
        return torch.zeros(len(frames), 3, dtype=torch.float64)
    measured = frames > 0 if hidden is None else (frames > 0) & ~hidden
    counts = [each.flatten(1).sum(1).double() for each in (near & measured, measured)]
    nearest = frames.masked_fill(measured.logical_not(), math.inf).flatten(1).amin(1)
    return torch.stack([*counts, nearest.double()], dim=1)


def warn_clipped(found: Sequence[Sequence[float]], scale: float) -> None:
    """Warn of every frame of which much clips.

    Args:
        found: rows of :func:`clipping`.
        scale: of the disparity channel.
    """
    for near, measured, nearest in found:
        share = near / max(measured, 1.0)
        if share > MOST_CLIPPED:
            warnings.warn(ClipWarning(share, nearest, scale), stacklevel=3)


def disparity(depth: Any, missing: Any = None, *, scale: float | None = None, near: float | None = None) -> Any:
    """The disparity image, the paper's simpler alternative to HHA: one channel, three times.

    With the paper's scale it saturates at 255 nearer than 1.22 m and is 31 at 10 m.

    Args:
        depth: [H, W] or [N, H, W], floating point metres, holes filled; NumPy array or torch tensor.
        missing: bool, shape of ``depth``; zeros in ``depth`` are accepted only under it and become 255.
        scale: disparity = ``scale`` / depth in centimetres; None: the paper's 31000.
        near: instead of a scale, the nearest depth of the set in metres, which then just does not clip.

    Returns:
        uint8 [H, W, 3] or [N, H, W, 3], of the kind and on the device of ``depth``.

    Raises:
        DataError: wrong unit, size or type; NaN; no valid pixel.
        UsageError: a scale that makes no sense, or both ``scale`` and ``near``.

    Warns:
        ClipWarning: over 20 % of a frame's measured pixels are so near that they clip.
    """
    factor = resolve_scale(scale, near)
    values, hidden = check_depth(depth, missing)
    rows = slice(None) if values.ndim == 3 else None  # one frame is a batch of one
    warn_clipped(clipping(values[rows], None if hidden is None else hidden[rows], factor).tolist(), factor)
    image = encode_disparity(values.double() * 100, factor)[..., None].repeat_interleave(3, dim=-1)
    return image.numpy() if isinstance(depth, np.ndarray) else image


def depth_from_disparity(pixels: ArrayLike, focal: float, baseline: float, offset: float = 0.0) -> np.ndarray:
    """Depth of a rectified stereo pair: ``focal * baseline / (disparity + offset)``.

    Args:
        pixels: disparity in pixels, [H, W]; not finite or not positive after the offset means unknown.
        focal: focal length in pixels.
        baseline: distance of the two cameras in metres.
        offset: difference of the principal points, ``cx_right - cx_left`` (Middlebury's ``doffs``).

    Returns:
        float64 [H, W] metres, 0 where unknown.

    Raises:
        DataError: a focal length or baseline that is not positive, or no known pixel.
    """
    if not (focal > 0 and baseline > 0):
        raise DataError(f"stereo: focal length {focal} px and baseline {baseline} m, expected positive numbers")
    shifted = np.asarray(pixels, dtype=np.float64) + offset
    known = np.isfinite(shifted) & (shifted > 0)
    if not known.any():
        raise DataError(f"stereo: none of {known.size} pixels has a known disparity")
    return np.where(known, focal * baseline / np.where(known, shifted, 1.0), 0.0)
