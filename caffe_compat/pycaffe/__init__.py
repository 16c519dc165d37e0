"""The names that scripts written for Caffe's Python module expect."""

import torch

from caffe_compat.layers import registered
from caffe_compat.layers.python import PythonLayer as Layer
from caffe_compat.pycaffe.net import TEST, TRAIN, Net
from caffe_compat.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

__version__ = "1.0.0"


def set_mode_cpu() -> None:
    """Run on the CPU (the default)."""


def set_random_seed(seed: int) -> None:
    """Make fillers, dropout and data layers repeatable."""
    torch.manual_seed(seed)


def layer_type_list() -> list[str]:
    """All layer types, sorted."""
    return list(registered())


__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "layer_type_list",
    "set_mode_cpu",
    "set_random_seed",
]
