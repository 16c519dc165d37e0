"""Disparity images, and stereo disparity to depth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from caffe_compat.depth.checks import check_depth
from caffe_compat.errors import DataError, UsageError
from caffe_compat.frames.report import SummedWarning

__all__ = [
    "DISPARITY_SCALE",
    "ClipWarning",
    "check_scale",
    "depth_from_disparity",
    "disparity",
    "encode_disparity",
    "resolve_scale",
    "round_to_uint8",
    "scale_for",
    "warn_clipped",
]

DISPARITY_SCALE = 31000.0
"""Disparity channel = 31000 / depth in centimetres, as in the original."""
NEAREST_SHARE = DISPARITY_SCALE / 100.0
"""The original takes what is nearer than a metre for a metre, 310 before it is cut to 255; so does any scale."""
MOST_CLIPPED = 0.2
"""Share of the measured pixels above which clipping is warned of."""


class ClipWarning(SummedWarning):
    """Much of a frame is so near that the disparity channel stands at 255.

    Args:
        share: of the measured pixels, 0 to 1.
        nearest: metres of the nearest measured pixel.
        scale: that the channel was computed with.
    """

    def __init__(self, share: float, nearest: float, scale: float) -> None:
        super().__init__(share, nearest, scale)  # the arguments: it is pickled on its way from a worker
        self.share, self.nearest, self.scale = share, nearest, scale

    @property
    def near(self) -> float:
        """What would keep everything apart: ``nearest``, down to a millimetre."""
        return math.floor(self.nearest * 1000) / 1000

    def __str__(self) -> str:
        return (
            f"{100 * self.share:.0f} % of the measured pixels lie nearer than {self.scale / 25500:.3f} m and clip "
            f"in the disparity channel (scale {self.scale:g}); near={self.near:.3f}, or a smaller scale, keeps them "
            "apart"
        )

    @classmethod
    def summary(cls, warned: Sequence[tuple[str, Self]], total: int) -> str:
        """One line for a folder run."""
        name, worst = max(warned, key=lambda entry: entry[1].share)
        nearest = min(warning.near for _, warning in warned)
        return (
            f"in {len(warned)} of {total} frames over {100 * MOST_CLIPPED:.0f} % of the measured pixels lie nearer "
            f"than {worst.scale / 25500:.3f} m and clip in the disparity channel (scale {worst.scale:g}; most in "
            f"{name}: {100 * worst.share:.0f} %); the nearest depth is {nearest:.3f} m: --near {nearest:.3f}, or a "
            "smaller --scale, keeps them apart"
        )


def scale_for(near: float) -> float:
    """The scale of the disparity channel with which depth of ``near`` metres just does not clip (255).

    Raises:
        UsageError: not a positive number.
    """
    if not (math.isfinite(near) and near > 0):
        raise UsageError(f"near is {near} m, expected a positive number: the nearest depth of the set")
    return 255.0 * 100.0 * near


def check_scale(scale: float) -> float:
    """Refuse a scale of the disparity channel that is no positive number.

    Raises:
        UsageError: it is not.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"disparity scale is {scale}, expected a positive number (the paper's is {DISPARITY_SCALE:g})")
    return float(scale)


def resolve_scale(scale: float | None, near: float | None) -> float:
    """The scale that was asked for, directly or by the nearest depth; the paper's if neither.

    Raises:
        UsageError: both, or a number that makes no sense.
    """
    if scale is not None and near is not None:
        raise UsageError(f"scale {scale:g} and near {near:g} m both say how disparity is scaled, expected one of them")
    if near is not None:
        return scale_for(near)
    return DISPARITY_SCALE if scale is None else check_scale(scale)


def round_to_uint8(values: Tensor) -> Tensor:
    """Matlab's ``uint8``: halves go up (nothing here is below -0.5), then 0..255."""
    return (values + 0.5).floor_().clamp_(0, 255).to(torch.uint8)


def encode_disparity(centimetres: Tensor, scale: float = DISPARITY_SCALE) -> Tensor:
    """uint8 disparity of depth in centimetres; 0 becomes 255."""
    return round_to_uint8(scale / centimetres.clamp_min(scale / NEAREST_SHARE))


def warn_clipped(frame: Tensor, hidden: Tensor | None, scale: float) -> None:
    """Warn if much of a frame [H, W] in metres clips.

    Args:
        frame: depth, 0 where it is not known.
        hidden: bool [H, W], what was not measured; None: nothing.
        scale: of the disparity channel.
    """
    near = frame < scale / 25500
    if not bool(near.any()):
        return
    measured = frame > 0 if hidden is None else (frame > 0) & ~hidden
    share = float((near & measured).sum()) / max(float(measured.sum()), 1.0)
    if share > MOST_CLIPPED:
        warnings.warn(ClipWarning(share, float(frame[measured].min()), scale), stacklevel=3)


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
    for index, frame in enumerate(values if values.ndim == 3 else [values]):
        warn_clipped(frame, hidden if hidden is None or values.ndim == 2 else hidden[index], factor)
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
