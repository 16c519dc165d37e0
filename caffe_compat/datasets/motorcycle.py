"""A real colour image with structured-light depth that ships with scikit-image: nothing has to be downloaded."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import skimage  # loads its parts on first use

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.disparity_image import depth_from_disparity
from caffe_compat.depth.io import write_depth
from caffe_compat.depth.modalities import Options
from caffe_compat.depth.sources import Reading
from caffe_compat.frames import Frame

__all__ = ["MOTORCYCLE_CAMERA", "MotorcycleSource", "motorcycle_frame"]

MOTORCYCLE_CAMERA = Camera(994.978, 994.978, 311.193, 254.877, width=741, height=500)
"""Middlebury 2014 "Motorcycle", for the size that scikit-image has."""
_BASELINE = 0.193001
_OFFSET = 31.086


@dataclasses.dataclass(frozen=True)
class MotorcycleSource:
    """``skimage.data.stereo_motorcycle()``: left image and depth of its disparity, 500 x 741, in whole millimetres."""

    @property
    def name(self) -> str:
        return "stereo_motorcycle"

    def fingerprint(self) -> dict[str, Any]:
        return {"depth": self.name}

    def read(self) -> Reading:
        left, _, pixels = skimage.data.stereo_motorcycle()
        depth = depth_from_disparity(pixels, MOTORCYCLE_CAMERA.fx, _BASELINE, _OFFSET)
        return Reading(np.rint(depth * 1000) / 1000, None, np.asarray(left))


def motorcycle_frame(folder: str | os.PathLike[str], options: Options) -> Frame:
    """The frame, with ``color.png`` and ``hha.png`` or ``disparity.png`` in ``folder``; writes ``depth.png`` (uint16
    millimetres) there."""
    source, target = MotorcycleSource(), Path(folder)
    write_depth(target / "depth.png", source.read().depth)
    encoder = options.encoder(MOTORCYCLE_CAMERA)
    return Frame(source, encoder, str(target / f"{options.kind}.png"), str(target / "color.png"))
