"""What every depth function asks of its input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.io import FARTHEST_METRES, NEAREST_METRES
from caffe_compat.errors import DataError, nearest

__all__ = ["check_depth", "check_range", "resolve_camera"]


def resolve_camera(camera: Camera | str | None) -> Camera:
    """A camera, also from the name of a preset.

    Raises:
        DataError: None, an unknown name, or something else.
    """
    if isinstance(camera, Camera):
        return camera
    if isinstance(camera, str):
        if camera in CAMERAS:
            return CAMERAS[camera]
        raise DataError(
            f"camera '{camera}': no such preset{nearest(camera, CAMERAS)}; known: {', '.join(sorted(CAMERAS))}"
        )
    raise DataError(f"camera is {camera!r}: intrinsics are needed, pass a Camera(fx, fy, cx, cy) or a preset's name")


def check_range(low: float, high: float, what: str = "depth") -> None:
    """Refuse a frame whose valid values, from ``low`` to ``high``, cannot be metres.

    Raises:
        DataError: all beyond 20 m or all below 5 cm.
    """
    if low > FARTHEST_METRES or high < NEAREST_METRES:
        raise DataError(
            f"{what}: all valid values lie between {low:g} and {high:g}, which cannot be metres (expected some "
            f"between {NEAREST_METRES} and {FARTHEST_METRES:g}); divide by the file's units per metre"
        )


def check_depth(depth: Any, missing: Any = None) -> tuple[Tensor, Tensor | None]:
    """Depth as a floating tensor [H, W] or [N, H, W] and its missing mask, or None where nothing is missing.

    Raises:
        DataError: see :func:`caffe_compat.depth.hha`.
    """
    values = _as_tensor(depth, "depth")
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise DataError(f"depth has shape {tuple(values.shape)}, expected H x W or N x H x W")
    if not values.is_floating_point():
        raise DataError(
            f"depth is {values.dtype}, a sensor's raw units; expected floating point metres: divide by the file's "
            "units per metre (1000 for millimetres)"
        )
    hidden = None
    if missing is not None:
        hidden = _as_tensor(missing, "missing")
        if hidden.shape != values.shape or hidden.dtype != torch.bool:
            raise DataError(
                f"missing is {hidden.dtype} of shape {tuple(hidden.shape)}, expected bool of depth's shape "
                f"{tuple(values.shape)}"
            )
        hidden = hidden.to(values.device)
    rows = slice(None) if values.ndim == 3 else None  # one frame is a batch of one
    frames, masks = values[rows], None if hidden is None else hidden[rows]
    found = _facts(frames, masks).tolist()
    holes = _holes(frames, masks).tolist() if any(low == 0 for low, *_ in found) else [None] * len(found)
    for index, (fact, hole) in enumerate(zip(found, holes, strict=True)):
        _check_frame(frames[index], fact, hole, f"depth[{index}]" if values.ndim == 3 else "depth")
    return values, hidden if any(some for *_, some in found) else None


def _facts(frames: Tensor, hidden: Tensor | None) -> Tensor:
    """Of frames [N, H, W], float64 [N, 5]: smallest, largest and mean value, whether all pixels are hidden, whether
    some are.  All frames are looked at together: a GPU is waited for once."""
    flat = frames.flatten(1)
    low, high = torch.aminmax(flat, dim=1)
    masks = torch.zeros_like(flat[:, :1], dtype=torch.bool) if hidden is None else hidden.flatten(1)
    return torch.stack([fact.double() for fact in (low, high, flat.mean(1), masks.all(1), masks.any(1))], dim=1)


def _holes(frames: Tensor, hidden: Tensor | None) -> Tensor:
    """Of frames with zeros, float64 [N, 2]: how many of these are not hidden, and the smallest value of the others."""
    zero = (frames == 0).flatten(1)
    bare = zero if hidden is None else zero & ~hidden.flatten(1)
    smallest = frames.flatten(1).masked_fill(zero, math.inf).amin(1)
    return torch.stack([bare.sum(1).double(), smallest.double()], dim=1)


def _check_frame(frame: Tensor, facts: Sequence[float], holes: Sequence[float] | None, what: str) -> None:
    low, high, mean, all_hidden, _ = facts
    if not math.isfinite(low + high):
        bad = int((~frame.isfinite()).sum())
        raise DataError(f"{what}: {bad} of {frame.numel()} values are NaN or infinite; complete() fills unknown pixels")
    if low < 0:
        raise DataError(f"{what}: smallest value is {low:g} m, depth cannot be negative")
    if high == 0 or all_hidden:
        raise DataError(f"{what}: all {frame.numel()} pixels are missing")
    if low == 0 and holes is not None:
        bare, low = holes
        if bare:
            raise DataError(
                f"{what}: {bare:.0f} of {frame.numel()} pixels have no depth (0); fill them with complete() and pass "
                "them as missing, or pass missing=(depth == 0) for what the Matlab code makes of holes"
            )
    check_range(low, high, what)
    if mean > FARTHEST_METRES:
        warnings.warn(f"{what}: {mean:.1f} m on average: is the unit right?", UserWarning, stacklevel=4)


def _as_tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        if (
            value.dtype.byteorder not in ("=", "|")
            or any(stride < 0 for stride in value.strides)
            or not value.flags.writeable
        ):
            value = np.array(value, dtype=value.dtype.newbyteorder("="))
        try:
            return torch.from_numpy(value)
        except TypeError as error:
            raise DataError(f"{what} has dtype {value.dtype}: {error}") from error
    raise DataError(f"{what} is a {type(value).__name__}, expected a NumPy array or a torch tensor")
