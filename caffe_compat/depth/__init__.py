"""Depth as an image: HHA, disparity, and the depth data they are made of."""

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.disparity import ClipWarning, depth_from_disparity, disparity, scale_for
from caffe_compat.depth.fill import complete
from caffe_compat.depth.hha import HHA, hha
from caffe_compat.depth.io import DepthFormat, detect_units, read_depth, read_nyud2_codes
from caffe_compat.depth.modalities import DepthEncoder, Options
from caffe_compat.depth.register import register, register_nyud2, undistort
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
