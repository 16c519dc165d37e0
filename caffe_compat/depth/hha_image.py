"""HHA: depth as three channels, horizontal disparity, height above ground and angle with gravity.

Gupta et al., "Learning Rich Features from RGB-D Images" (ECCV 2014), as the authors' Matlab code (rcnn-depth) computes
it.  One implementation in torch for one frame or a batch, on CPU or GPU; float64 throughout, because the normal
equations of a 7 x 7 window in image coordinates lose eight digits.

Axes: X right, Y down, Z forward.  Lengths inside this file are centimetres, as in the original.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.checks import check_depth, resolve_camera
from caffe_compat.depth.disparity_image import clipping, encode_disparity, round_to_uint8, warn_clipped
from caffe_compat.depth.gravity import find_gravity, measured_gravity, rotation_to, warn_tilt
from caffe_compat.depth.scale import resolve_scale
from caffe_compat.depth.tiles import image_tiles

__all__ = ["HHA", "hha"]

Array = TypeVar("Array", np.ndarray, Tensor)

ANGLE_RADIUS = 3
"""Window radius of the normals behind the angle channel (7 x 7)."""
GRAVITY_RADIUS = 10
"""Window radius of the normals from which gravity is found (21 x 21)."""
GROUND_LIMIT_CM = -90.0
"""A lowest point higher than this under the camera is not believed to be the ground ..."""
GROUND_DEFAULT_CM = -130.0
"""... and this is taken instead."""
GPU_BATCH = 16
"""Frames that a GPU works on at once, of about 0.2 GB each; a CPU takes one, which stays in its cache."""


@dataclasses.dataclass(frozen=True)
class HHA:
    """An HHA image and what it was computed from; a batch has a leading N on every field.

    Attributes:
        image: uint8 [H, W, 3] disparity, height, angle.
        points: float64 [H, W, 3] point cloud in metres, camera axes.
        normals: float64 [H, W, 3] unit normals of 7 x 7 windows pointing away from the camera, camera axes; NaN where
            a window holds no valid pixel.
        gravity: float64 [3] unit vector pointing down, camera axes.
        rotation: float64 [3, 3] turns (0, 1, 0) into ``gravity``; ``rotation.T @ point`` is upright.
        height: float64 [H, W] metres above the ground.
        angle: float64 [H, W] degrees between normal and gravity; 180 where there is no normal.
        ground: float64 [] height of the ground relative to the camera in metres (negative).
    """

    image: Any
    points: Any
    normals: Any
    gravity: Any
    rotation: Any
    height: Any
    angle: Any
    ground: Any


@overload
def hha(
    depth: Array,
    camera: Camera | str,
    missing: Array | None = None,
    *,
    parts: Literal[False] = False,
    scale: float | None = None,
    near: float | None = None,
    gravity: Any = None,
) -> Array: ...
@overload
def hha(
    depth: Array,
    camera: Camera | str,
    missing: Array | None = None,
    *,
    parts: Literal[True],
    scale: float | None = None,
    near: float | None = None,
    gravity: Any = None,
) -> HHA: ...
def hha(
    depth: Any,
    camera: Camera | str,
    missing: Any = None,
    *,
    parts: bool = False,
    scale: float | None = None,
    near: float | None = None,
    gravity: Any = None,
) -> Any:
    """Encode depth as an HHA image.

    Equals the Matlab original bit for bit where nothing is missing; with missing pixels the same up to rounding noise
    in windows with fewer than 8 valid pixels.

    Args:
        depth: [H, W] or a batch [N, H, W], floating point **metres**, holes filled (see :func:`complete`).
            NumPy array, or torch tensor on any device.
        camera: the camera that made it, or the name of a preset in ``CAMERAS``.
        missing: bool, shape of ``depth``: pixels without a measurement, whose filled-in depth shall not enter the
            normals (the original's ``RD == 0``).  Zeros in ``depth`` are accepted only under it: they get disparity
            255 and the camera's height, as in the original.
        parts: return everything, as :class:`HHA`.
        scale: disparity = ``scale`` / depth in centimetres; None: the paper's 31000, which clips nearer than 1.22 m.
        near: instead of a scale, the nearest depth of the set in metres, which then just does not clip.  One set, and
            the sets that its net is to be used on, need one scale.
        gravity: [3] (or [N, 3]), the direction down in the camera's axes as an accelerometer measured it; None: it is
            searched in the normals, as the original does.

    Returns:
        uint8 [H, W, 3] (or [N, H, W, 3]) in the order disparity, height, angle, of the kind and on the device of
        ``depth``; or :class:`HHA`.

    Raises:
        DataError: wrong unit, size or type; NaN; no valid pixel; no camera; a gravity that is no direction.
        UsageError: a scale that makes no sense, or both ``scale`` and ``near``.

    Warns:
        ClipWarning: over 20 % of a frame's measured pixels are so near that the disparity channel clips.
        UserWarning: gravity was found more than 45 degrees off the image's downward axis.  The reverse does not hold:
            the search begins at that axis, and of a camera tilted further it often takes a wall for the floor.
            Also: depth lies beyond 20 m on average.
    """
    camera, factor = resolve_camera(camera), resolve_scale(scale, near)
    values, hidden = check_depth(depth, missing)
    camera.check_size(values.shape[-2], values.shape[-1])
    measured = None if gravity is None else measured_gravity(gravity, values)
    frames, masks = (values, hidden) if values.ndim == 3 else (values[None], None if hidden is None else hidden[None])
    step = GPU_BATCH if values.is_cuda else 1
    results = []
    for start in range(0, len(frames), step):
        part = slice(start, start + step)
        mask, down = (None if every is None else every[part] for every in (masks, measured))
        results.append(_encode(frames[part], camera, mask, down, parts=parts, scale=factor))
    merged = {name: torch.cat([result[name] for result in results]) for name in results[0]}
    # one look at all frames, when everything is under way: from check_depth to here a GPU is not waited for
    found = torch.cat([clipping(frames, masks, factor), merged["gravity"]], dim=1).tolist()
    warn_clipped([row[:3] for row in found], factor)
    if measured is None:
        warn_tilt([row[3:] for row in found])
    if values.ndim == 2:
        merged = {name: value[0] for name, value in merged.items()}
    fields: dict[str, Any] = merged
    if isinstance(depth, np.ndarray):
        fields = {name: value.numpy() for name, value in merged.items()}
    return HHA(**fields) if parts else fields["image"]


def _encode(
    depth: Tensor, camera: Camera, missing: Tensor | None, measured: Tensor | None, *, parts: bool, scale: float
) -> dict[str, Tensor]:
    """HHA of a batch [N, H, W] in metres; gravity is searched where it was not measured."""
    x, y = _ray_slopes(camera, depth)
    fine, coarse = _normals(depth, x, y, missing)
    gravity = find_gravity(coarse) if measured is None else measured
    rotation = rotation_to(gravity)
    down = rotation[:, :, 1].reshape(-1, 3, 1, 1)  # of the point cloud; differs from gravity below 0.1 degrees
    tiles = image_tiles(depth.shape[1], depth.shape[2], depth.device)

    def height(rows: slice, columns: slice) -> Tensor:
        slope = x[:, columns] * down[:, 0] + y[rows] * down[:, 1] + down[:, 2]
        return slope.mul_(_centimetres(depth[:, rows, columns])).neg_()

    ground = torch.stack([height(*tile).amin(dim=(1, 2)) for tile in tiles]).amin(dim=0)
    ground = ground.masked_fill(ground > GROUND_LIMIT_CM, GROUND_DEFAULT_CM).reshape(-1, 1, 1)
    image = torch.empty((*depth.shape, 3), dtype=torch.uint8, device=depth.device)
    for rows, columns in tiles:
        part = image[:, rows, columns]
        part[..., 0] = encode_disparity(_centimetres(depth[:, rows, columns]), scale)
        part[..., 1] = round_to_uint8(height(rows, columns).sub_(ground))
        part[..., 2] = round_to_uint8(_angle(gravity, fine[:, :, rows, columns]).add_(128 - 90))
    if not parts:
        return {"image": image, "gravity": gravity}
    z, every = depth.double(), (slice(None), slice(None))
    return {
        "image": image,
        "points": torch.stack([x * z, y * z, z], dim=-1),
        "normals": fine.movedim(1, -1),
        "gravity": gravity,
        "rotation": rotation,
        "height": (height(*every) - ground) / 100,
        "angle": _angle(gravity, fine),
        "ground": ground.flatten() / 100,
    }


def _centimetres(depth: Tensor) -> Tensor:
    """The unit of the original, in float64 whatever ``depth`` is."""
    return depth.double() * 100


def _angle(gravity: Tensor, normals: Tensor) -> Tensor:
    """Degrees [N, H, W] between gravity [N, 3] and normals [N, 3, H, W]."""
    cosine = torch.bmm(gravity[:, None, :], normals.flatten(2)).view(len(normals), *normals.shape[2:])
    # Matlab's min and max skip NaN: no normal becomes -1, 180 degrees.
    return cosine.nan_to_num_(nan=-1.0).clamp_(-1, 1).acos_().rad2deg_()


def _ray_slopes(camera: Camera, like: Tensor) -> tuple[Tensor, Tensor]:
    """X / Z as [1, W] and Y / Z as [H, 1]."""
    u = torch.arange(like.shape[-1], dtype=torch.float64, device=like.device) + camera.origin
    v = torch.arange(like.shape[-2], dtype=torch.float64, device=like.device) + camera.origin
    return ((u - camera.cx) / camera.fx)[None, :], ((v - camera.cy) / camera.fy)[:, None]


def _normals(depth: Tensor, x: Tensor, y: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Unit normals [N, 3, H, W] of 7 x 7 and of 21 x 21 windows.

    The latter have no defined sign, and are 0 instead of NaN where there is none.

    In each window the plane ``n1 X/Z + n2 Y/Z + n3 = 1/Z`` is fitted by least squares over the valid pixels.
    ``X/Z`` depends on the column alone and ``Y/Z`` on the row alone, so five sums along columns serve all nine moments.
    """
    height, width = depth.shape[1:]
    fine, coarse = (torch.empty((len(depth), 3, height, width), dtype=x.dtype, device=x.device) for _ in range(2))
    for rows, columns in image_tiles(height, width, depth.device):
        (tall, above_below), (wide, left_right) = _reach(rows, height), _reach(columns, width)
        inverse = _centimetres(depth[:, tall, wide]).reciprocal_()
        if missing is None:
            known = pad(torch.ones_like(inverse[:1, :, :1]), (0, 0, *above_below))  # the same sums in every column
        else:
            hidden = missing[:, tall, wide]
            inverse.masked_fill_(hidden, 0)
            known = pad(hidden.logical_not().to(inverse), (*left_right, *above_below))
        inverse = pad(inverse, (*left_right, *above_below))
        slope_y = pad(y[tall], (0, 0, *above_below))
        one, slope_x, square_x = (pad(row[:, wide], left_right) for row in (torch.ones_like(x), x, x * x))
        sums = (
            (known, (square_x, slope_x, one)),
            (known * slope_y, (slope_x, one)),
            (known * slope_y * slope_y, (one,)),
            (inverse, (slope_x, one)),
            (inverse * slope_y, (one,)),
        )
        small, large = [], []
        for plane, factors in sums:
            stripe = _sum7(plane, -2)
            for factor in factors:
                window = _sum7(stripe * factor, -1)
                small.append(window[:, 7:-7, 7:-7])
                large.append(_sum21(_sum21(window, -2), -1))
        normals = _solve(small)
        facing = (normals[0] * x[:, columns]).addcmul_(normals[1], y[rows]).add_(normals[2])
        if missing is not None:
            facing = torch.where(depth[:, rows, columns] == 0, normals[2], facing)
        _unit(normals, facing, fine[:, :, rows, columns])
        _unit(_solve(large), None, coarse[:, :, rows, columns]).nan_to_num_(nan=0.0)
    return fine, coarse


def _reach(part: slice, length: int) -> tuple[slice, tuple[int, int]]:
    """A part of an axis with the margin that windows need: what there is of it, and what is lacking at both ends."""
    low, high = part.start - GRAVITY_RADIUS, part.stop + GRAVITY_RADIUS
    return slice(max(low, 0), min(high, length)), (max(-low, 0), max(high - length, 0))


def _sum7(plane: Tensor, dim: int) -> Tensor:
    """Sums of 7 neighbours along ``dim`` (which shrinks by 6): direct, so that an empty window sums to exactly 0."""
    size = plane.shape[dim]
    pairs = plane.narrow(dim, 0, size - 1) + plane.narrow(dim, 1, size - 1)
    total = pairs.narrow(dim, 0, size - 6) + pairs.narrow(dim, 2, size - 6)
    total += pairs.narrow(dim, 4, size - 6)
    total += plane.narrow(dim, 6, size - 6)
    return total


def _sum21(plane: Tensor, dim: int) -> Tensor:
    """Sums of 21 neighbours along ``dim`` from sums of 7; ``dim`` shrinks by 14."""
    size = plane.shape[dim] - 14
    total = plane.narrow(dim, 0, size) + plane.narrow(dim, 7, size)
    total += plane.narrow(dim, 14, size)
    return total


def _solve(moments: list[Tensor]) -> list[Tensor]:
    """adj(A) b of every pixel's normal equations, not divided by the determinant."""
    xx, x, one, xy, y, yy, xw, w, yw = moments
    a11, a12, a13 = yy * one - y * y, x * y - xy * one, xy * y - x * yy
    a22, a23, a33 = xx * one - x * x, xy * x - xx * y, xx * yy - xy * xy
    return [
        (a11 * xw).addcmul_(a12, yw).addcmul_(a13, w),
        (a12 * xw).addcmul_(a22, yw).addcmul_(a23, w),
        (a13 * xw).addcmul_(a23, yw).addcmul_(a33, w),
    ]


def _unit(vector: list[Tensor], facing: Tensor | None, out: Tensor) -> Tensor:
    """Vectors of length 1 in ``out`` [N, 3, H, W], turned round where ``facing`` is negative; NaN where the length
    is 0."""
    scale = (vector[0] * vector[0]).addcmul_(vector[1], vector[1]).addcmul_(vector[2], vector[2]).sqrt_().reciprocal_()
    if facing is not None:
        scale.copysign_(facing)
    for index, part in enumerate(vector):
        torch.mul(part, scale, out=out[:, index])
    return out
