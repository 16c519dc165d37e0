"""Depth frames to HHA or disparity images: the encoders of these modalities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.checks import resolve_camera
from caffe_compat.depth.disparity_image import disparity
from caffe_compat.depth.fill import complete
from caffe_compat.depth.hha_image import hha
from caffe_compat.depth.scale import DISPARITY_SCALE, check_scale
from caffe_compat.depth.sources import Reading
from caffe_compat.errors import UsageError

__all__ = ["DepthEncoder", "Kind", "Options", "fill_reading"]

Kind = Literal["hha", "disparity"]

FORMAT_VERSION = 1
"""Goes into every file; raise it when the same parameters begin to give other pixels."""
_ASSUMED = MappingProxyType({"scale": DISPARITY_SCALE})


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for all frames of a run.

    Args:
        kind: ``hha`` or ``disparity``.
        fill: how holes are filled before encoding: ``nearest``, ``colorization``, or ``none``, which leaves them as the
            Matlab code does (disparity 255).
        device: where torch computes, as ``cpu`` or ``cuda:0``.
        nearest, farthest: metres; a value outside counts as not measured (a Kinect v2 has stray values of 1 cm).
        scale: of the disparity channel, see :func:`caffe_compat.depth.scale_for`.

    Raises:
        UsageError: a range or scale that makes no sense.
    """

    kind: Kind = "hha"
    fill: Literal["nearest", "colorization", "none"] = "nearest"
    device: str = "cpu"
    nearest: float = 0.0
    farthest: float | None = None
    scale: float = DISPARITY_SCALE

    def __post_init__(self) -> None:
        if not 0 <= self.nearest < (math.inf if self.farthest is None else self.farthest):
            raise UsageError(
                f"depth from {self.nearest} to {self.farthest} m: expected 0 or more, and the first to be the smaller"
            )
        check_scale(self.scale)

    def encoder(self, camera: Camera | None, gravity: tuple[float, float, float] | None = None) -> DepthEncoder:
        """The encoder of frames of a camera; disparity images do without.

        Args:
            camera: who made the depth.
            gravity: the direction down in its axes, where an accelerometer measured it.

        Raises:
            DataError: HHA without a camera.
        """
        if self.kind != "hha":
            return DepthEncoder(self, None)
        return DepthEncoder(self, resolve_camera(camera), gravity)


@dataclasses.dataclass(frozen=True)
class DepthEncoder:
    """Fills and encodes depth, as a :class:`~caffe_compat.frames.Encoder`; made by :meth:`Options.encoder`."""

    options: Options
    camera: Camera | None
    gravity: tuple[float, float, float] | None = None

    @property
    def assumed(self) -> Mapping[str, Any]:
        """Images of version 0.1 do not mention their scale."""
        return _ASSUMED

    def parameters(self) -> dict[str, Any]:
        """Settings and camera."""
        options = self.options
        found: dict[str, Any] = {"version": FORMAT_VERSION, "kind": options.kind, "fill": options.fill}
        found["range"] = [options.nearest, options.farthest]
        found["scale"] = float(options.scale)
        if self.camera is not None:
            found["camera"] = [self.camera.fx, self.camera.fy, self.camera.cx, self.camera.cy]
            found["origin"] = self.camera.origin
        if self.gravity is not None:
            found["gravity"] = list(self.gravity)
        return found

    def encode(self, reading: Reading) -> np.ndarray:
        """Fill, then encode one frame as uint8 [H, W, 3].

        Raises:
            DataError: depth that cannot be used.

        Warns:
            as :func:`caffe_compat.depth.hha`.
        """
        depth, hidden = fill_reading(reading, self.options)
        metres = torch.from_numpy(depth).to(self.options.device)
        mask = torch.from_numpy(hidden).to(self.options.device)
        if self.camera is None:
            return np.asarray(disparity(metres, mask, scale=self.options.scale).cpu().numpy())
        return hha(metres, self.camera, mask, scale=self.options.scale, gravity=self.gravity).cpu().numpy()


def fill_reading(reading: Reading, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] in metres with its holes filled, and what of it was not measured, bool [H, W].

    Raises:
        DataError: nothing was measured, or it cannot be filled so.
    """
    depth, farthest = reading.depth, math.inf if options.farthest is None else options.farthest
    if options.nearest > 0 or farthest < math.inf:
        depth = np.where((depth >= options.nearest) & (depth <= farthest), depth, 0.0)
    holes = depth == 0
    hidden = holes if reading.missing is None else holes | reading.missing
    if options.fill != "none":
        depth = complete(depth, holes, method=options.fill, color=reading.color)
    return depth, hidden
