"""The scale of the disparity channel, and the warning that it clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from caffe_compat.errors import UsageError
from caffe_compat.frames.report import SummedWarning

__all__ = [
    "DISPARITY_SCALE",
    "MOST_CLIPPED",
    "NEAREST_SHARE",
    "ClipWarning",
    "check_scale",
    "resolve_scale",
    "scale_for",
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
