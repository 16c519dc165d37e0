"""Make ``import caffe`` mean this package."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from caffe_compat.errors import UsageError

__all__ = ["install"]

SUBMODULES = ("classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto", "proto.caffe_pb2", "pycaffe")


def install() -> ModuleType:
    """Make ``import caffe`` and its submodules mean this package, for the rest of the process.

    Returns:
        The package.

    Raises:
        UsageError: another module called ``caffe`` was imported before.
    """
    here = __package__ or "caffe_compat.pycaffe"
    package = import_module(here)
    present = sys.modules.get("caffe")
    if present is not None and present is not package:
        raise UsageError(f"another module called caffe is imported already: {getattr(present, '__file__', present)}")
    for name in SUBMODULES:
        sys.modules[f"caffe.{name}"] = import_module(f"{here}.{name}")
    sys.modules["caffe"] = package
    return package
