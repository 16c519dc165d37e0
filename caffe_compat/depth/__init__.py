"""Depth as an image: HHA, disparity, and the depth data they are made of.

Names are loaded on first use, so that cameras and formats are at hand without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.depth.camera import CAMERAS, Camera
    from caffe_compat.depth.disparity_image import depth_from_disparity, disparity
    from caffe_compat.depth.fill import complete
    from caffe_compat.depth.hha_image import HHA, hha
    from caffe_compat.depth.io import DepthFormat, detect_units, read_depth, read_nyud2_codes
    from caffe_compat.depth.modalities import DepthEncoder, Options
    from caffe_compat.depth.registration import register, register_nyud2, undistort
    from caffe_compat.depth.scale import ClipWarning, scale_for
    from caffe_compat.depth.sources import FileSource, Reading

__all__ = [
    "CAMERAS",
    "HHA",
    "Camera",
    "ClipWarning",
    "DepthEncoder",
    "DepthFormat",
    "FileSource",
    "Options",
    "Reading",
    "complete",
    "depth_from_disparity",
    "detect_units",
    "disparity",
    "hha",
    "read_depth",
    "read_nyud2_codes",
    "register",
    "register_nyud2",
    "scale_for",
    "undistort",
]

_HOMES = {  # no module has the name of a function: importing it would put it in the function's place
    "CAMERAS": "camera",
    "HHA": "hha_image",
    "Camera": "camera",
    "ClipWarning": "scale",
    "DepthEncoder": "modalities",
    "DepthFormat": "io",
    "FileSource": "sources",
    "Options": "modalities",
    "Reading": "sources",
    "complete": "fill",
    "depth_from_disparity": "disparity_image",
    "detect_units": "io",
    "disparity": "disparity_image",
    "hha": "hha_image",
    "read_depth": "io",
    "read_nyud2_codes": "io",
    "register": "registration",
    "register_nyud2": "registration",
    "scale_for": "scale",
    "undistort": "registration",
}

__getattr__ = first_use(__name__, _HOMES)
