"""From pixels to what a net takes, in one place: ``(pixel - mean) * scale``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

__all__ = ["fill_blob", "negate_planes"]


def fill_blob(
    planes: Sequence[np.ndarray] | np.ndarray,
    out: np.ndarray,
    mean: np.ndarray,
    scale: float | np.floating = 1.0,
    mirrored: bool = False,
) -> None:
    """``(pixel - mean) * scale``, in float32.

    Args:
        planes: the channels (height, width), of any type.
        out: float32 (channels, height, width); written.
        mean: of each channel (channels), of all of them (1), of each pixel (channels, height, width), or nothing (0).
        mirrored: write columns in reverse order (the mean is that of the place where a pixel comes from).
    """
    for channel, plane in enumerate(planes):
        target = out[channel][:, ::-1] if mirrored else out[channel]
        if len(mean):
            np.subtract(plane, mean[channel % len(mean)], out=target, dtype=np.float32)
        else:
            target[...] = plane
    if scale != 1:
        out *= np.float32(scale)


def negate_planes(planes: Sequence[np.ndarray], negated: Collection[int], about: float = 128.0) -> list[np.ndarray]:
    """The channels of a picture that is seen in a mirror, before their columns are put in reverse order.

    Args:
        negated: channels whose numbers point to the right, such as horizontal flow: v becomes 2 about - v, cut to what
            a picture can hold: 0 of flow, 8 pixels or more to the left, becomes 255.
        about: what stands for nothing to either side.
    """
    return [
        np.subtract(2 * about, plane, dtype=np.float32).clip(0, 255) if channel in negated else plane
        for channel, plane in enumerate(planes)
    ]
