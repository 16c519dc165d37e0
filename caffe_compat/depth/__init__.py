"""Depth as an image: HHA, disparity, and the depth data they are made of."""

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.disparity import depth_from_disparity, disparity
from caffe_compat.depth.fill import complete
from caffe_compat.depth.hha import HHA, hha
from caffe_compat.depth.io import (
    DepthFormat,
    detect_units,
    read_depth,
    read_encoded,
    read_nyud2_codes,
    read_parameters,
    write_encoded,
)
from caffe_compat.depth.register import register, register_nyud2, undistort

__all__ = [
    "CAMERAS",
    "HHA",
    "Camera",
    "DepthFormat",
    "complete",
    "depth_from_disparity",
    "detect_units",
    "disparity",
    "hha",
    "read_depth",
    "read_encoded",
    "read_nyud2_codes",
    "read_parameters",
    "register",
    "register_nyud2",
    "undistort",
    "write_encoded",
]
