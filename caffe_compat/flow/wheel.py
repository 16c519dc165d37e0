"""Flow in colours, for people: Middlebury's wheel."""

from __future__ import annotations

import math

import numpy as np

from caffe_compat.errors import DataError

__all__ = ["color_wheel"]

_ARCS = ((15, 0, 1, False), (6, 1, 0, True), (4, 1, 2, False), (11, 2, 1, True), (13, 2, 0, False), (6, 0, 2, True))
"""Steps of each arc of the wheel, its full channel, the channel that changes, whether that falls.  Red to yellow to
green to cyan to blue to magenta to red, 55 in all (``makecolorwheel`` of Middlebury's flow code)."""


def color_wheel(flow: np.ndarray, longest: float | None = None) -> np.ndarray:
    """Flow [H, W, 2] as Middlebury's code draws it: uint8 [H, W, 3] RGB.

    The hue is the direction (red: to the right, yellow-green: down), white is no motion, full colour ``longest``, what
    is longer is darker; black is what is not known (NaN).

    Args:
        flow: pixels to the right and downwards.
        longest: pixels; None takes the longest of the picture.  Frames of a clip need one number to be compared.

    Raises:
        DataError: another shape, infinite numbers, or ``longest`` is not positive.
    """
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise DataError(f"flow of shape {list(flow.shape)}, expected [H, W, 2]")
    if longest is not None and not 0 < longest < math.inf:
        raise DataError(f"longest flow of {longest} pixels, expected a positive number")
    known = ~np.isnan(flow).any(-1)
    values = np.where(known[..., None], flow, 0).astype(np.float64)
    if np.isinf(values).any():
        raise DataError(f"flow is infinite at {int(np.isinf(values).any(-1).sum())} pixels")
    length = np.hypot(values[..., 0], values[..., 1])
    length /= max(float(length.max(initial=0.0)) if longest is None else longest, np.finfo(np.float64).tiny)
    wheel = _wheel()
    place = (np.arctan2(-values[..., 1], -values[..., 0]) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(place).astype(int)
    part = (place - below)[..., None]
    color = (1 - part) * wheel[below] + part * wheel[(below + 1) % len(wheel)]
    far = length[..., None]
    color = np.where(far <= 1, 1 - far * (1 - color), 0.75 * color)
    return np.asarray(255 * color * known[..., None]).astype(np.uint8)


def _wheel() -> np.ndarray:
    """float64 [55, 3], 0 to 1."""
    arcs = []
    for steps, full, changing, falls in _ARCS:
        ramp = np.floor(255 * np.arange(steps) / steps)
        arc = np.zeros((steps, 3))
        arc[:, full] = 255
        arc[:, changing] = 255 - ramp if falls else ramp
        arcs.append(arc)
    return np.asarray(np.concatenate(arcs) / 255)
