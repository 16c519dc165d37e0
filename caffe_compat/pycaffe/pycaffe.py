"""``caffe.pycaffe``: where older scripts import the net and the solvers from, and the functions that they wrap.

Caffe's module has the methods of a net as functions with private names; scripts call or replace them.
"""

from caffe_compat.pycaffe import io
from caffe_compat.pycaffe.misc import NCCL, Timer
from caffe_compat.pycaffe.net import Net
from caffe_compat.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
)

_Net_forward = Net.forward
_Net_backward = Net.backward
_Net_forward_all = Net.forward_all
_Net_forward_backward_all = Net.forward_backward_all
_Net_set_input_arrays = Net.set_input_arrays
_Net_batch = Net._batch
_Net_inputs = Net.inputs
_Net_outputs = Net.outputs
_Net_blob_loss_weights = Net.blob_loss_weights

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "io",
]
