"""Optical flow as a picture: ActionTubes' encoding, the files of others, ways of computing it, clips of frames.

Names are loaded on first use; only what works on tensors, and RAFT, need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.flow.accuracy import FlowError, flow_error, mean_error
    from caffe_compat.flow.checks import MEAN, MOST, SCALE
    from caffe_compat.flow.clips import FloClip, FlowClip, Outputs, PictureClip, TwoStreamClip, VideoClip, evenly
    from caffe_compat.flow.encoding import decode, encode
    from caffe_compat.flow.methods import METHODS, Method, OpenCVMethod, opencv_method
    from caffe_compat.flow.sources import FileFlow, FlowEncoder, FlowReading, PictureFlow, TwoStreamFlow, VideoFlow
    from caffe_compat.flow.stored import read_flo, read_two_stream, write_flo
    from caffe_compat.flow.wheel import color_wheel

__all__ = [
    "MEAN",
    "METHODS",
    "MOST",
    "SCALE",
    "FlowClip",
    "FileFlow",
    "FloClip",
    "FlowEncoder",
    "FlowError",
    "FlowReading",
    "Method",
    "OpenCVMethod",
    "Outputs",
    "PictureClip",
    "PictureFlow",
    "TwoStreamClip",
    "TwoStreamFlow",
    "VideoClip",
    "VideoFlow",
    "color_wheel",
    "decode",
    "encode",
    "evenly",
    "flow_error",
    "mean_error",
    "opencv_method",
    "read_flo",
    "read_two_stream",
    "write_flo",
]

_HOMES = {  # no module has the name of a function: importing it would put it in the function's place
    "MEAN": "checks",
    "METHODS": "methods",
    "MOST": "checks",
    "SCALE": "checks",
    "FlowClip": "clips",
    "FileFlow": "sources",
    "FloClip": "clips",
    "FlowEncoder": "sources",
    "FlowError": "accuracy",
    "FlowReading": "sources",
    "Method": "methods",
    "OpenCVMethod": "methods",
    "Outputs": "clips",
    "PictureClip": "clips",
    "PictureFlow": "sources",
    "TwoStreamClip": "clips",
    "TwoStreamFlow": "sources",
    "VideoClip": "clips",
    "VideoFlow": "sources",
    "color_wheel": "wheel",
    "decode": "encoding",
    "encode": "encoding",
    "evenly": "clips",
    "flow_error": "accuracy",
    "mean_error": "accuracy",
    "opencv_method": "methods",
    "read_flo": "stored",
    "read_two_stream": "stored",
    "write_flo": "stored",
}

__getattr__ = first_use(__name__, _HOMES)
