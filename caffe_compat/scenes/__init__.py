"""Drawn indoor scenes made on the spot: a small labelled RGB + depth data set in NYUD2's layout, and one of clips with
their optical flow in JHMDB's.

Names are loaded on first use, so that the settings are at hand without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.scenes.clip_settings import ClipSettings, ClipSpec, clip_specs
    from caffe_compat.scenes.clips import draw_clip, open_clips, write_clip, write_clip_lists
    from caffe_compat.scenes.dataset import draw, encode, open_root, write_frame, write_lists
    from caffe_compat.scenes.motion import ACTIONS, VIDEO_ACTIONS
    from caffe_compat.scenes.settings import FrameSpec, Settings, frame_specs
    from caffe_compat.scenes.solids import CLASSES

__all__ = [
    "ACTIONS",
    "CLASSES",
    "VIDEO_ACTIONS",
    "ClipSettings",
    "ClipSpec",
    "FrameSpec",
    "Settings",
    "clip_specs",
    "draw",
    "draw_clip",
    "encode",
    "frame_specs",
    "open_clips",
    "open_root",
    "write_clip",
    "write_clip_lists",
    "write_frame",
    "write_lists",
]

_HOMES = {
    "ACTIONS": "motion",
    "CLASSES": "solids",
    "VIDEO_ACTIONS": "motion",
    "ClipSettings": "clip_settings",
    "ClipSpec": "clip_settings",
    "FrameSpec": "settings",
    "Settings": "settings",
    "clip_specs": "clip_settings",
    "draw": "dataset",
    "draw_clip": "clips",
    "encode": "dataset",
    "frame_specs": "settings",
    "open_clips": "clips",
    "open_root": "dataset",
    "write_clip": "clips",
    "write_clip_lists": "clips",
    "write_frame": "dataset",
    "write_lists": "dataset",
}

__getattr__ = first_use(__name__, _HOMES)
