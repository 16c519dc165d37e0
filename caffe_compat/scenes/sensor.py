"""A depth sensor in the manner of the first Kinect: quantised disparity, noise, and holes.

Raw code of the sensor: ``code = 1092.5 - 351.3 / z``, so one step is ``z^2 / 351.3`` metres and noise grows with z^2.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["BASELINE", "sense"]

BASELINE = 0.075
"""Metres between the projector (to the right) and the camera that sees its pattern."""
_NEAR, _FAR = 0.5, 8.0


def sense(
    depth: NDArray[np.floating], facing: NDArray[np.floating], focal: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """What the sensor reports of a depth map.

    Args:
        depth: true depth z in metres, (H, W).
        facing: cosine of the angle between surface normal and view ray, (H, W).
        focal: focal length in pixels.
        rng: source of the noise.

    Returns:
        depth in millimetres, (H, W), 0 where nothing was measured: shadow of the projector, surfaces seen at a grazing
        angle, small dark patches, single drop-outs, and depths outside 0.5 to 8 m.
    """
    height, width = depth.shape
    jitter = (rng.random((2, height, width), np.float32) < 0.12).astype(np.float32)
    columns = np.arange(width, dtype=np.float32) + jitter[0]
    rows = np.arange(height, dtype=np.float32)[:, None] + jitter[1]
    seen = cv2.remap(depth, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    code = np.round(1092.5 - 351.3 / seen + rng.normal(0, 0.35, depth.shape))
    measured = 351.3 / (1092.5 - code)
    missing = _shadow(depth, focal) | (depth < _NEAR) | (depth > _FAR)
    missing |= facing < 0.1 + 0.1 * rng.random(depth.shape, np.float32)
    missing |= rng.random(depth.shape, np.float32) < 0.004
    patches = cv2.resize(
        rng.random((height // 6, width // 6), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    missing |= patches > 1.02
    return np.where(missing, 0, np.round(1000 * measured)).astype(np.uint16)


def _shadow(depth: NDArray[np.floating], focal: float) -> NDArray[np.bool_]:
    """Pixels the projector, BASELINE to the right of the camera, cannot reach."""
    column = np.arange(depth.shape[1], dtype=np.float32) - focal * BASELINE / depth
    nearest = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    return column > nearest + 0.5
