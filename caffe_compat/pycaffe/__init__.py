"""The names that scripts written for Caffe's Python module expect.

``import caffe_compat.pycaffe as caffe``; or :func:`install`, after which ``import caffe`` means this package; or
``python -m caffe_compat.pycaffe SCRIPT ARGS``.  ``draw`` and ``coord_map`` are imported on their own, as in Caffe.
"""

import sys
from types import ModuleType

from caffe_compat.alias import install as _install
from caffe_compat.layers.python import PythonLayer as Layer
from caffe_compat.pycaffe import _caffe, io, proto, pycaffe
from caffe_compat.pycaffe.blob import BlobView as Blob
from caffe_compat.pycaffe.classifier import Classifier
from caffe_compat.pycaffe.detector import Detector
from caffe_compat.pycaffe.misc import (
    NCCL,
    Timer,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe_compat.pycaffe.mode import set_arithmetic, set_device, set_mode_cpu, set_mode_gpu
from caffe_compat.pycaffe.net import TEST, TRAIN, Net
from caffe_compat.pycaffe.net_spec import NetSpec, layers, params, to_proto
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


def install() -> ModuleType:
    """Make ``import caffe`` and its submodules mean this package, for the rest of the process.

    Returns:
        The package.

    Raises:
        UsageError: another module called ``caffe`` was imported before.
    """
    _install()
    return sys.modules[__name__]


__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "_caffe",
    "get_solver",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "pycaffe",
    "set_arithmetic",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
