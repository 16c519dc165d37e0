"""``caffe._caffe``: the names that BVLC Caffe's extension module exports, for scripts that import from it.

Source: BVLC Caffe 1.0, ``python/caffe/_caffe.cpp`` (its list of exported names).
"""

from caffe_compat.layers.python import PythonLayer as Layer
from caffe_compat.layers.python_blobs import LayerBlobs as BlobVec
from caffe_compat.layers.python_blobs import RawBlobVec
from caffe_compat.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe_compat.pycaffe.blob import BlobView as Blob
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
from caffe_compat.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu
from caffe_compat.pycaffe.net import Net
from caffe_compat.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)

__version__ = "1.0.0"

BoolVec = IntVec = LayerVec = NetVec = StringVec = list

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
