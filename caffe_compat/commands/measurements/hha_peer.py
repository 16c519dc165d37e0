"""HHA the way the published Python port does it: SciPy's 2-D convolution per product, a Python loop per pixel.

The port itself stops with an error on NumPy >= 1.24; this one takes its steps with its means.
"""

from __future__ import annotations

import math

import numpy as np

from caffe_compat.depth import Camera

__all__ = ["port_hha"]


def port_hha(depth: np.ndarray, missing: np.ndarray, camera: Camera) -> np.ndarray:
    """uint8 [H, W, 3] disparity, height, angle of metres [H, W]."""
    z = depth * 100
    column, row = np.meshgrid(np.arange(z.shape[1]) + camera.origin, np.arange(z.shape[0]) + camera.origin)
    points = np.stack([(column - camera.cx) * z / camera.fx, (row - camera.cy) * z / camera.fy, z], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        fine, coarse = _normals(points, missing, 3), _normals(points, missing, 10)
        down = _gravity(coarse.reshape(-1, 3))
        height = -(points @ down)
        lowest = height.min()
        height -= lowest if lowest <= -90 else -130
        cosine = np.clip((fine * down).sum(-1), -1, 1)
        angle = np.array([math.degrees(math.acos(value)) for value in cosine.ravel()]).reshape(cosine.shape)
    angle[np.isnan(angle)] = 180
    image = np.stack([31000 / np.maximum(z, 100), height, angle + 38], axis=-1)
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)


def _normals(points: np.ndarray, missing: np.ndarray, radius: int) -> np.ndarray:
    from scipy.signal import convolve2d

    x, y, z = np.moveaxis(np.where(missing[..., None], np.nan, points), -1, 0)
    one = np.where(missing, np.nan, 1.0)
    slope_x, slope_y = x / z, y / z
    products = [
        slope_x * slope_x, slope_x * slope_y, slope_x, slope_y * slope_y, slope_y, one, slope_x / z, slope_y / z, 1 / z
    ]  # fmt: skip
    window = np.ones((2 * radius + 1, 2 * radius + 1))
    xx, xy, x, yy, y, one, xw, yw, w = (convolve2d(np.nan_to_num(part), window, mode="same") for part in products)
    normal = np.stack(
        [
            (yy * one - y * y) * xw + (x * y - xy * one) * yw + (xy * y - x * yy) * w,
            (x * y - xy * one) * xw + (xx * one - x * x) * yw + (xy * x - xx * y) * w,
            (xy * y - x * yy) * xw + (xy * x - xx * y) * yw + (xx * yy - xy * xy) * w,
        ],
        axis=-1,
    )
    normal /= np.sqrt((normal * normal).sum(-1, keepdims=True))
    return np.where((normal * points).sum(-1, keepdims=True) < 0, -normal, normal)


def _gravity(normals: np.ndarray) -> np.ndarray:
    known = normals[~np.isnan(normals).any(axis=1)]
    down = np.array([0.0, 1.0, 0.0])
    for threshold in [45] * 5 + [15] * 5:
        cosine = np.abs(known @ down)
        floor = known[cosine > math.cos(math.radians(threshold))]
        wall = known[cosine < math.sin(math.radians(threshold))]
        found = np.linalg.eigh(wall.T @ wall - floor.T @ floor)[1][:, 0]
        down = -found if found @ down < 0 else found
    return down
