"""Caffe on PyTorch, with Caffe's numbers.

Names are loaded on first use, so that importing a part of the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffe_compat.depth import CAMERAS, Camera, hha
    from caffe_compat.errors import CaffeCompatError
    from caffe_compat.net import BlobNet, Net, load_description, load_net
    from caffe_compat.onnx import export_onnx, verify_onnx
    from caffe_compat.solver import load_solver

__version__ = "0.1.0"

__all__ = [
    "CAMERAS",
    "BlobNet",
    "CaffeCompatError",
    "Camera",
    "Net",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'caffe_compat' has no attribute '{name}'")
    return getattr(importlib.import_module(f"caffe_compat.{_HOMES[name]}"), name)
