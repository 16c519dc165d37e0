"""Nets of other frameworks, run as they are: features of torchvision, timm or other torch modules, or of ONNX files.

They take pictures as their own framework feeds them, see :class:`Normalization`, and are never trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.foreign.load import ForeignFeatures, load_features
    from caffe_compat.foreign.spec import RANDOM, ForeignSpec, Normalization, is_foreign, split_feature
    from caffe_compat.foreign.state import read_state
    from caffe_compat.foreign.torch_nets import own_normalization

__all__ = [
    "RANDOM",
    "ForeignFeatures",
    "ForeignSpec",
    "Normalization",
    "is_foreign",
    "load_features",
    "own_normalization",
    "read_state",
    "split_feature",
]

_HOMES = {
    "RANDOM": "spec",
    "ForeignFeatures": "load",
    "ForeignSpec": "spec",
    "Normalization": "spec",
    "is_foreign": "spec",
    "load_features": "load",
    "own_normalization": "torch_nets",
    "read_state": "state",
    "split_feature": "spec",
}

__getattr__ = first_use(__name__, _HOMES)
