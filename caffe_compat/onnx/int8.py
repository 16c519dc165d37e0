"""A model in 8-bit integers: QuantizeLinear and DequantizeLinear around all layers but the last."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx

from caffe_compat.errors import CaffeCompatError, ExportError, UsageError
from caffe_compat.onnx.metadata import PRECISION, add_facts
from caffe_compat.onnx.roles import (
    BOX_HEADS,
    HEAVY,
    element_types,
    fragile_nodes,
    in_layers,
    layer_of,
    weighted_nodes,
)
from caffe_compat.onnx.save import is_large, save_onnx

__all__ = ["Target", "to_int8"]

_FOLLOWERS = frozenset("Relu MaxPool AveragePool GlobalAveragePool Concat Add Reshape Flatten".split())  # noqa: SIM905
"""Compute in integers what they are given in integers."""
Target = Literal["any", "vnni", "tensorrt"]
_DONE = "onnx.quant.pre_process"  #: without it the quantizer logs that it should be run on another model


def to_int8(
    model: onnx.ModelProto,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    keep: Collection[str] = BOX_HEADS,
    target: Target = "any",
) -> onnx.ModelProto:
    """The model with its trunk in 8-bit integers, by onnxruntime.quantization; the given one stays.

    Weights have a scale for each output channel, and values the range that they were seen to have.  In float32 stay
    the layers with weights that no other follows (class scores, box heads), LRN, softmax, normalizations, region
    pooling and coordinates, and whatever has no form in integers.  The first layer does not: on a CPU with VNNI
    SqueezeNet takes 8.4 ms so and 15 ms with it in float32 (12.5 ms all in float32), at the same error.

    Values are uint8 and weights 7 of the 8 bits wide: processors without VNNI add up pairs of products in 16 bits,
    which saturate without a word.

    Args:
        model: in float32.
        samples: inputs by name to measure ranges with.
        keep: names of layers that stay in float32; ``*`` in them stands for anything.
        target: ``vnni``: weights use all 8 bits, which halves the error, for processors with VNNI or AMX only;
            ``tensorrt``: so they do, and values are int8 about zero, as TensorRT wants them.

    Raises:
        UsageError: no such target.
        ExportError: no layer is left to quantize, there are no samples, or the model is 2 GB or more.
    """
    if target not in get_args(Target):
        raise UsageError(f"target is '{target}', expected one of {', '.join(get_args(Target))}")
    if is_large(model):
        raise ExportError("the model has 2 GB of weights or more, onnxruntime.quantization takes less")
    chosen = _chosen(model, keep)
    source = onnx.ModelProto()
    source.CopyFrom(model)
    add_facts(source, {_DONE: "onnxruntime.quant"})
    reader = _Reader(samples)
    try:
        result = _quantize(source, reader, chosen, target)
    except CaffeCompatError:
        raise
    except Exception as error:  # the quantizer raises anything, onnxruntime's own among it
        if reader.empty:
            raise ExportError("there are no samples to measure ranges with") from error
        raise ExportError(f"onnxruntime cannot quantize the model: {type(error).__name__}: {error}") from error
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    add_facts(result, {PRECISION: "int8"})
    result.producer_name, result.doc_string = model.producer_name, model.doc_string
    return result


def _quantize(source: onnx.ModelProto, reader: _Reader, chosen: Sequence[str], target: Target) -> onnx.ModelProto:
    from onnxruntime import quantization

    kind = quantization.QuantType
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        save_onnx(source, given, check=False)  # of a model in memory ONNX Runtime 1.20 makes a file that onnx refuses
        quantization.quantize_static(
            given,
            path,
            reader,
            per_channel=True,
            reduce_range=target == "any",
            activation_type=kind.QInt8 if target == "tensorrt" else kind.QUInt8,
            weight_type=kind.QInt8,
            nodes_to_quantize=list(chosen),
            op_types_to_quantize=sorted(HEAVY | _FOLLOWERS),
            extra_options={"QDQKeepRemovableActivations": True, "ActivationSymmetric": target == "tensorrt"},
        )
        return onnx.load(os.fspath(path))


class _Reader:
    """Samples one by one, as ``onnxruntime.quantization.CalibrationDataReader`` has them."""

    def __init__(self, samples: Iterable[Mapping[str, np.ndarray]]) -> None:
        self._samples: Iterator[Mapping[str, np.ndarray]] = iter(samples)
        self.read, self.empty = 0, False

    def get_next(self) -> Any:
        """The next, or None."""
        sample = next(self._samples, None)
        self.read += sample is not None
        self.empty = not self.read
        return None if sample is None else dict(sample)


def _chosen(model: onnx.ModelProto, keep: Collection[str]) -> list[str]:
    """Names of the nodes to quantize."""
    nodes, types = list(model.graph.node), element_types(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    fragile = fragile_nodes(model, types)
    heavy = weighted_nodes(nodes, weights)
    followed = _followed(nodes, [found and not odd for found, odd in zip(heavy, fragile, strict=True)])
    whole = _simple_layers(nodes, types)
    inside: set[str] = set()
    found: list[str] = []
    for node, weighted, is_followed in zip(nodes, heavy, followed, strict=True):
        floats = [name for name in node.input if types.get(name) == onnx.TensorProto.FLOAT and name not in weights]
        follows = node.op_type in _FOLLOWERS and layer_of(node) in whole and bool(floats) and inside.issuperset(floats)
        if not in_layers(node, keep) and (is_followed if weighted else follows):
            found.append(node.name)
            inside.update(node.output)
    if not found:
        raise ExportError(
            "no layer is left for 8-bit integers: those with weights that no other follows stay in float32"
        )
    return found


def _followed(nodes: Sequence[onnx.NodeProto], heavy: Sequence[bool]) -> list[bool]:
    """For each node whether it has weights, and a node with weights behind it."""
    needed: set[str] = set()
    result = []
    for node, weighted in zip(reversed(nodes), reversed(heavy), strict=True):
        behind = not needed.isdisjoint(node.output)
        result.append(weighted and behind)
        if weighted or behind:
            needed.update(node.input)
    return result[::-1]


def _simple_layers(nodes: Sequence[onnx.NodeProto], types: Mapping[str, int]) -> set[str]:
    """Layers all of whose nodes that compute floats can follow or have weights."""
    able = HEAVY | _FOLLOWERS
    odd = {
        layer_of(node)
        for node in nodes
        if node.op_type not in able and any(types.get(name) == onnx.TensorProto.FLOAT for name in node.output)
    }
    return {layer_of(node) for node in nodes} - odd
