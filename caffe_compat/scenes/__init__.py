"""Drawn indoor scenes: a small labelled RGB + depth data set made on the spot, in NYUD2's layout."""

from caffe_compat.scenes.dataset import (
    FrameSpec,
    Settings,
    draw,
    encode,
    frame_specs,
    open_root,
    write_frame,
    write_lists,
)
from caffe_compat.scenes.solids import CLASSES

__all__ = [
    "CLASSES",
    "FrameSpec",
    "Settings",
    "draw",
    "encode",
    "frame_specs",
    "open_root",
    "write_frame",
    "write_lists",
]
