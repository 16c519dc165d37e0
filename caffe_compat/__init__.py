"""Caffe on PyTorch, with Caffe's numbers.

Names are loaded on first use, so that importing a part of the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use
from caffe_compat.version import __version__

if TYPE_CHECKING:
    from caffe_compat.depth import CAMERAS, Camera, hha
    from caffe_compat.errors import CaffeCompatError
    from caffe_compat.net import BlobNet, Net, load_description, load_net
    from caffe_compat.onnx import export_onnx, verify_onnx
    from caffe_compat.solver import load_solver

__all__ = [
    "CAMERAS",
    "BlobNet",
    "CaffeCompatError",
    "Camera",
    "Net",
    "__version__",
    "export_onnx",
    "hha",
    "load_description",
    "load_net",
    "load_solver",
    "verify_onnx",
]

_HOMES = {
    "CAMERAS": "depth",
    "BlobNet": "net",
    "CaffeCompatError": "errors",
    "Camera": "depth",
    "Net": "net",
    "export_onnx": "onnx",
    "hha": "depth",
    "load_description": "net",
    "load_net": "net",
    "load_solver": "solver",
    "verify_onnx": "onnx",
}

__getattr__ = first_use(__name__, _HOMES)
