"""HHA: depth as three channels, horizontal disparity, height above ground and angle with gravity.

Gupta et al., "Learning Rich Features from RGB-D Images" (ECCV 2014), as the authors' Matlab code (rcnn-depth) computes
it.  One implementation in torch for one frame or a batch, on CPU or GPU; float64 throughout, because the normal
equations of a 7 x 7 window in image coordinates lose eight digits.

Axes: X right, Y down, Z forward.  Lengths inside this file are centimetres, as in the original.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.checks import check_depth, resolve_camera
from caffe_compat.depth.disparity import encode_disparity, round_to_uint8

__all__ = ["HHA", "hha"]

Array = TypeVar("Array", np.ndarray, Tensor)

ANGLE_RADIUS = 3
"""Window radius of the normals behind the angle channel (7 x 7)."""
GRAVITY_RADIUS = 10
"""Window radius of the normals from which gravity is found (21 x 21)."""
GRAVITY_STAGES = ((45.0, 5), (15.0, 5))
"""(threshold in degrees, iterations) of the gravity search."""
GROUND_LIMIT_CM = -90.0
"""A lowest point higher than this under the camera is not believed to be the ground ..."""
GROUND_DEFAULT_CM = -130.0
"""... and this is taken instead."""
GPU_BATCH = 16
TILT_LIMIT = 45.0
"""Degrees between gravity and the image's downward axis beyond which the search is not to be trusted."""


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
    depth: Array, camera: Camera | str, missing: Array | None = None, *, parts: Literal[False] = False
) -> Array: ...
@overload
def hha(depth: Array, camera: Camera | str, missing: Array | None = None, *, parts: Literal[True]) -> HHA: ...
def hha(depth: Any, camera: Camera | str, missing: Any = None, *, parts: bool = False) -> Any:
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

    Returns:
        uint8 [H, W, 3] (or [N, H, W, 3]) in the order disparity, height, angle, of the kind and on the device of
        ``depth``; or :class:`HHA`.

    Raises:
        DataError: wrong unit, size or type; NaN; no valid pixel; no camera.

    Warns:
        UserWarning: gravity was found more than 45 degrees off the image's downward axis.
    """
    camera = resolve_camera(camera)
    values, hidden = check_depth(depth, missing)
    camera.check_size(values.shape[-2], values.shape[-1])
    frames, masks = (values, hidden) if values.ndim == 3 else (values[None], None if hidden is None else hidden[None])
    # On a GPU many frames at once (about 0.2 GB each); on a CPU frame by frame, which stays in the cache.
    step = GPU_BATCH if values.is_cuda else 1
    results = []
    for start in range(0, len(frames), step):
        mask = None if masks is None else masks[start : start + step]
        results.append(_encode(frames[start : start + step], camera, mask, parts))
    merged = {name: torch.cat([result[name] for result in results]) for name in results[0]}
    if values.ndim == 2:
        merged = {name: value[0] for name, value in merged.items()}
    fields: dict[str, Any] = merged
    if isinstance(depth, np.ndarray):
        fields = {name: value.numpy() for name, value in merged.items()}
    return HHA(**fields) if parts else fields["image"]


def _encode(depth: Tensor, camera: Camera, missing: Tensor | None, parts: bool) -> dict[str, Tensor]:
    """HHA of a batch [N, H, W] in metres."""
    z = depth.double() * 100
    x, y = _ray_slopes(camera, z)
    fine, coarse = _normals(z, x, y, missing)
    gravity = _gravity(coarse)
    _warn_tilt(gravity)
    rotation = _rotation_to(gravity)
    down = rotation[:, :, 1].reshape(-1, 3, 1, 1)  # of the point cloud; differs from gravity below 0.1 degrees
    height = -(z * (x * down[:, 0] + y * down[:, 1] + down[:, 2]))
    ground = height.amin(dim=(1, 2))
    ground = torch.where(ground > GROUND_LIMIT_CM, GROUND_DEFAULT_CM, ground)
    height = height - ground.reshape(-1, 1, 1)
    cosine = torch.einsum("nc,nchw->nhw", gravity, fine)
    # Matlab's min and max skip NaN: no normal becomes -1, 180 degrees.
    angle = torch.rad2deg(torch.acos(torch.nan_to_num(cosine, nan=-1.0).clamp_(-1, 1)))
    image = torch.stack([encode_disparity(z), round_to_uint8(height), round_to_uint8(angle + (128 - 90))], dim=-1)
    if not parts:
        return {"image": image}
    points = torch.stack([x * z, y * z, z], dim=-1) / 100
    return {
        "image": image,
        "points": points,
        "normals": fine.movedim(1, -1),
        "gravity": gravity,
        "rotation": rotation,
        "height": height / 100,
        "angle": angle,
        "ground": ground / 100,
    }


def _ray_slopes(camera: Camera, like: Tensor) -> tuple[Tensor, Tensor]:
    """X / Z as [1, W] and Y / Z as [H, 1]."""
    u = torch.arange(like.shape[-1], dtype=torch.float64, device=like.device) + camera.origin
    v = torch.arange(like.shape[-2], dtype=torch.float64, device=like.device) + camera.origin
    return ((u - camera.cx) / camera.fx)[None, :], ((v - camera.cy) / camera.fy)[:, None]


def _normals(z: Tensor, x: Tensor, y: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Unit normals [N, 3, H, W] of 7 x 7 and of 21 x 21 windows; the latter without a defined sign.

    In each window the plane ``n1 X/Z + n2 Y/Z + n3 = 1/Z`` is fitted by least squares over the valid pixels.
    ``X/Z`` depends on the column alone and ``Y/Z`` on the row alone, so five sums along columns serve all nine moments.
    """
    inverse = z.reciprocal()
    valid = torch.ones_like(z[:1, :, :1])  # broadcasts: the same sums in every column
    if missing is not None:
        inverse = inverse.masked_fill(missing, 0)
        valid = missing.logical_not().to(z)
    one, xx = torch.ones_like(x), x * x
    sums = (
        (valid, (xx, x, one)),
        (valid * y, (x, one)),
        (valid * y * y, (one,)),
        (inverse, (x, one)),
        (inverse * y, (one,)),
    )
    fine, coarse = [], []
    for plane, factors in sums:
        columns = _sum7(torch.nn.functional.pad(plane, (0, 0, GRAVITY_RADIUS, GRAVITY_RADIUS)), -2)
        for factor in factors:
            window = _sum7(torch.nn.functional.pad(columns * factor, (GRAVITY_RADIUS, GRAVITY_RADIUS)), -1)
            fine.append(window[:, 7:-7, 7:-7])
            coarse.append(_sum21(_sum21(window, -2), -1))
    normals = _solve(fine)
    facing = normals[0] * x + normals[1] * y + normals[2]
    if missing is not None:
        facing = torch.where(z == 0, normals[2], facing)
    return _unit(normals, facing), _unit(_solve(coarse), None)


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


def _unit(vector: list[Tensor], facing: Tensor | None) -> Tensor:
    """Vectors of length 1 [N, 3, H, W], turned round where ``facing`` is negative; NaN where the length is 0."""
    scale = (vector[0] * vector[0]).addcmul_(vector[1], vector[1]).addcmul_(vector[2], vector[2]).sqrt_().reciprocal_()
    if facing is not None:
        scale = torch.copysign(scale, facing)
    return torch.stack([part * scale for part in vector], dim=1)


def _gravity(normals: Tensor) -> Tensor:
    """The direction down [N, 3] that most normals [N, 3, H, W] are parallel or at right angles to.

    Starts from the image's downward axis; each step takes the direction least like the wall-like normals and most like
    the floor-like ones, first with a loose, then with a tight idea of both.
    """
    unit = normals.flatten(2).nan_to_num(nan=0.0)
    products = torch.stack(
        [unit[:, i] * unit[:, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], dim=1
    )
    down = unit.new_tensor([[0.0, 1.0, 0.0]]).expand(len(unit), 3)
    for threshold, iterations in GRAVITY_STAGES:
        parallel, across = math.cos(math.radians(threshold)), math.sin(math.radians(threshold))
        for _ in range(iterations):
            cosine = torch.bmm(down[:, None, :], unit)[:, 0].abs_()
            vote = (cosine < across).to(unit) - (cosine > parallel).to(unit)
            sums = torch.bmm(products, vote[:, :, None])[:, :, 0]
            matrix = sums[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
            # 3 x 3: LAPACK takes microseconds, a GPU's solver milliseconds
            found = torch.linalg.eigh(matrix.cpu()).eigenvectors[:, :, 0].to(matrix.device)
            found = torch.where((found * down).sum(1, keepdim=True) < 0, -found, found)
            if torch.equal(found, down):
                break  # a fixed point: every further step of this stage repeats it
            down = found
    return down


def _rotation_to(gravity: Tensor) -> Tensor:
    """Rotations [N, 3, 3] that turn (0, 1, 0) into ``gravity``; the identity up to 0.1 degrees, as in the original."""
    x, y, z = gravity.unbind(1)
    sine = torch.hypot(x, z).clamp_min(1e-300)
    kx, kz = z / sine, -x / sine  # (0, 1, 0) x gravity, normalised
    c, s, t = y, torch.hypot(x, z), 1 - y
    rows = [c + kx * kx * t, -kz * s, kx * kz * t, kz * s, c, -kx * s, kx * kz * t, kx * s, c + kz * kz * t]
    rotation = torch.stack(rows, dim=1).reshape(-1, 3, 3)
    small = torch.rad2deg(torch.atan2(s, c)) <= 0.1
    return torch.where(small.reshape(-1, 1, 1), torch.eye(3, dtype=gravity.dtype, device=gravity.device), rotation)


def _warn_tilt(gravity: Tensor) -> None:
    for x, y, z in gravity.tolist():
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, y))))
        if tilt > TILT_LIMIT:
            warnings.warn(
                f"gravity was found at ({x:.3f}, {y:.3f}, {z:.3f}), {tilt:.0f} degrees off the image's downward axis; "
                f"the search is made for cameras tilted less, so height and angle may be wrong",
                UserWarning,
                stacklevel=4,
            )
