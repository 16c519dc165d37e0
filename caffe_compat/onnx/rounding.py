"""A model in half precision as a device with arithmetic in float16 runs it, for a CPU that has none.

ONNX Runtime computes float16 nodes on CPUs in float32 and leaves out the casts between them, so that neither rounding
nor overflow is seen there: a value of a million passes from layer to layer.  Operators that move data do have float16
kernels; a pair of them that cancels out, and that no optimizer removes, makes it round.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from caffe_compat.description.names import UniqueNames
from caffe_compat.onnx.parts import Parts, split
from caffe_compat.onnx.roles import element_types

__all__ = ["LARGEST", "rounding_model"]

LARGEST = 65504.0  #: largest number of float16
_MOVE = frozenset(
    """
    Concat Split Slice Reshape Flatten Squeeze Unsqueeze Transpose Tile Expand Gather GatherND Compress Pad
    Identity DepthToSpace SpaceToDepth MaxPool GlobalMaxPool Max Min Relu Clip Where Abs Neg
    """.split()  # noqa: SIM905
)
"""What they make is in float16 without rounding, or within the range of what they are given."""


def rounding_model(model: onnx.ModelProto) -> tuple[Parts, dict[str, str]]:
    """The model with every value of float16 rounded, and outputs that say how large these become.

    Args:
        model: as :func:`~caffe_compat.onnx.half.to_half` makes it; it stays as it is.

    Returns:
        The model with its weights where they are; and by the name of each output that was added (a scalar, the largest
        magnitude, infinite after an overflow) the value that it is about.
    """
    types = element_types(model)
    taken = UniqueNames(types)
    result = split(model)
    graph = result.model.graph
    del graph.node[:], graph.value_info[:]
    axis = taken.fresh("rounding_axis")
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), axis))
    watched: dict[str, str] = {}
    for node in model.graph.node:
        new = graph.node.add()
        new.CopyFrom(node)
        for index, name in enumerate(node.output):
            if types.get(name) != TensorProto.FLOAT16 or node.op_type in _MOVE:
                continue
            new.output[index] = taken.fresh(f"{name}__unrounded")
            outer = taken.fresh(f"{name}__outer")
            graph.node.append(helper.make_node("Unsqueeze", [new.output[index], axis], [outer]))
            graph.node.append(helper.make_node("Squeeze", [outer, axis], [name]))
            watched[_watch(graph, name, taken)] = node.input[0] if node.op_type == "Cast" else name
    return result, watched


def _watch(graph: onnx.GraphProto, name: str, taken: UniqueNames) -> str:
    """Add an output: the largest magnitude of a value."""
    single, size, largest = (taken.fresh(f"{name}__{what}") for what in ("single", "size", "largest"))
    graph.node.append(helper.make_node("Cast", [name], [single], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Abs", [single], [size]))
    graph.node.append(helper.make_node("ReduceMax", [size], [largest], keepdims=0))
    graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
    return largest
