"""What the nodes of a model are for: which carry the weights, which need the range of float32.

Nodes of one layer are told by their names, which :class:`~caffe_compat.onnx.graph.GraphBuilder` gives: ``layer`` and
``layer/Operator``, with ``__2`` and so on where a name was taken.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import onnx
from onnx import TensorProto

from caffe_compat.deploy.facts import ROIS
from caffe_compat.errors import ExportError
from caffe_compat.onnx.metadata import read_fact
from caffe_compat.onnx.parts import split

__all__ = ["BOX_HEADS", "HEAVY", "element_types", "fragile_nodes", "in_layers", "layer_of", "matches", "weighted_nodes"]

BOX_HEADS = ("*bbox_pred*",)
"""Names of layers that predict where boxes move to, of nets with one modality and with several."""
HEAVY = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
"""Operators that multiply by weights."""
_FRAGILE = frozenset(
    """
    Sqrt Pow Exp Log Div Reciprocal ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp ReduceProd
    CumSum Softmax LogSoftmax LRN InstanceNormalization LayerNormalization MeanVarianceNormalization Einsum
    """.split()  # noqa: SIM905
)
_SIZES = ("Shape", "Size")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def layer_of(node: onnx.NodeProto) -> str:
    """Name of the layer that a node belongs to."""
    name = re.sub(r"__\d+$", "", node.name)
    return name.removesuffix(f"/{node.op_type}")


def in_layers(node: onnx.NodeProto, patterns: Collection[str]) -> bool:
    """Whether a node belongs to a layer of one of these names (``*`` in them stands for anything)."""
    return matches(layer_of(node), patterns)


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether a name is one of these."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type (``TensorProto.FLOAT``, ...) of every value, as far as onnx can tell; weights are not copied.

    Raises:
        ExportError: onnx cannot make sense of the model.
    """
    graph = model.graph
    try:
        found = onnx.shape_inference.infer_shapes(split(model).model).graph
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"onnx cannot tell the types of the model's values: {error}") from error
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*found.value_info, *found.input, *found.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def fragile_nodes(model: onnx.ModelProto, types: Mapping[str, int]) -> list[bool]:
    """For each node whether its layer squares, divides, takes powers or sums over many numbers of what comes in.

    Those are LRN (also where it is written as a convolution of squares), softmax, normalizations and reductions: what
    they compute in between leaves the range of half precision (255 squared is over 65504) or its steps are too coarse.
    What is made of regions or sizes alone, such as the cells of a bin, does not make a layer fragile.
    """
    nodes = list(model.graph.node)
    values = {value.name for value in model.graph.input} - set(read_fact(model, ROIS))
    layers = set()
    for node in nodes:
        if values.isdisjoint(node.input) or node.op_type in _SIZES:
            continue
        values.update(node.output)
        if node.op_type in _FRAGILE and any(types.get(name) in _FLOATS for name in node.output):
            layers.add(layer_of(node))
    return [layer_of(node) in layers and (node.op_type not in HEAVY or node.name != layer_of(node)) for node in nodes]


def weighted_nodes(nodes: Sequence[onnx.NodeProto], weights: Iterable[str]) -> list[bool]:
    """For each node whether it multiplies by weights of the model, or by what nodes make of them alone."""
    fixed = {"", *weights}
    found = []
    for node in nodes:
        found.append(node.op_type in HEAVY and not fixed.isdisjoint(node.input[1:2]))
        if node.input and fixed.issuperset(node.input):
            fixed.update(node.output)
    return found
