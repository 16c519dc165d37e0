"""Drawn indoor scenes: a small labelled RGB + depth data set made on the spot, in NYUD2's layout.

Names are loaded on first use, so that the settings are at hand without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.scenes.dataset import draw, encode, open_root, write_frame, write_lists
    from caffe_compat.scenes.settings import FrameSpec, Settings, frame_specs
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

_HOMES = {
    "CLASSES": "solids",
    "FrameSpec": "settings",
    "Settings": "settings",
    "draw": "dataset",
    "encode": "dataset",
    "frame_specs": "settings",
    "open_root": "dataset",
    "write_frame": "dataset",
    "write_lists": "dataset",
}

__getattr__ = first_use(__name__, _HOMES)
