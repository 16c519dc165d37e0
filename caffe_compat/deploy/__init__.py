"""Exported nets in ONNX Runtime: loud where something is missing, wrong or on another device than asked for.

Needs NumPy and ONNX Runtime; torch only where tensors are given, OpenCV only for pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.deploy.feed import Feed, Sample
    from caffe_compat.deploy.session import Session
    from caffe_compat.deploy.values import Value

__all__ = ["Feed", "Sample", "Session", "Value"]

_HOMES = {"Feed": "feed", "Sample": "feed", "Session": "session", "Value": "values"}

__getattr__ = first_use(__name__, _HOMES)
