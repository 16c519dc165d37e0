"""Normalization, scales and shifts behind a convolution or an inner product become part of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from caffe_compat.description.names import UniqueNames
from caffe_compat.onnx.parts import Parts, Weight, make_tensor
from caffe_compat.onnx.tidy import prune, reads

__all__ = ["fold_affine"]

_ELEMENTWISE = ("Mul", "Add", "Sub", "Div")


def fold_affine(parts: Parts) -> Parts:
    """Fold what multiplies or shifts the channels of a Conv, ConvTranspose or Gemm into its weights and bias.

    That is BatchNormalization, and Mul, Add, Sub and Div with a number or one for each channel: Caffe's BatchNorm,
    Scale, Bias and Power.  The sums are made in float64, and the results rounded once.  A node stays, and what follows
    it, where something else reads the value before it or that is an output; where other nodes read the weights too; and
    where the new weights would not be finite.

    Returns:
        Another model; the weights that did not change are those of ``parts``.
    """
    return _Folding(parts).result()


@dataclass
class _Affine:
    """What is done to the channels: times ``factor``, plus ``shift`` (float64[channels])."""

    factor: np.ndarray
    shift: np.ndarray


class _Folding:
    """One pass over the nodes of a model, which is changed."""

    def __init__(self, parts: Parts) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(parts.model)
        self.graph = self.model.graph
        self.weights = dict(parts.weights)
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes = list(self.graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.counts = Counter(name for node in self.nodes for name in reads(node))
        self.counts.update(value.name for value in self.graph.output)
        self.readers = {name: node for node in self.nodes for name in node.input}
        self.names = UniqueNames([*self.tensors, *self.makers, *(value.name for value in self.graph.input)])
        self.changed: dict[str, np.ndarray] = {}
        self.gone: set[int] = set()

    def result(self) -> Parts:
        """The folded model."""
        for node in self.nodes:
            if node.op_type in ("Conv", "ConvTranspose", "Gemm") and self._is_plain(node):
                self._fold(node)
        nodes = prune([node for node in self.nodes if id(node) not in self.gone], [v.name for v in self.graph.output])
        nodes = [_copy(node) for node in nodes]
        used = {name for node in nodes for name in reads(node)}
        tensors, weights = self._initializers(used)
        made = {name for node in nodes for name in node.output}
        values = [_copy(value) for value in self.graph.value_info if value.name in made]
        for field, kept in (("node", nodes), ("initializer", tensors), ("value_info", values)):
            self.graph.ClearField(field)
            getattr(self.graph, field).extend(kept)
        return Parts(self.model, weights)

    def _initializers(self, used: set[str]) -> tuple[list[onnx.TensorProto], dict[str, Weight]]:
        """Those that are used: in their order, then new ones."""
        tensors, weights = [], {}
        for name in dict.fromkeys([*self.tensors, *self.changed]):
            if name not in used:
                continue
            if name in self.changed:
                tensor, filled = make_tensor(name, self.changed[name])
                if not filled:
                    weights[name] = self.changed[name]
            else:
                tensor = _copy(self.tensors[name])
                if name in self.weights:
                    weights[name] = self.weights[name]
            tensors.append(tensor)
        return tensors, weights

    # -- which nodes ------------------------------------------------------------------------------------------------

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Whether a node has weights of its own, and a bias for each channel or none."""
        if self._initializer(node.input[1]) is None or self.counts[node.input[1]] > 1:
            return False
        if node.op_type == "Gemm" and any(
            _attribute(node, name, default) != default for name, default in _GEMM.items()
        ):
            return False
        bias = node.input[2] if len(node.input) > 2 else ""
        return not bias or ((found := self._initializer(bias)) is not None and found.shape == (self._channels(node),))

    def _channels(self, node: onnx.NodeProto) -> int:
        shape = self.tensors[node.input[1]].dims
        if node.op_type == "Gemm":
            return int(shape[0 if _attribute(node, "transB", 0) else 1])
        return int(shape[0] if node.op_type == "Conv" else shape[1] * _attribute(node, "group", 1))

    def _fold(self, node: onnx.NodeProto) -> None:
        """Fold as many nodes behind it as can be."""
        channels = self._channels(node)
        rank = 2 if node.op_type == "Gemm" else len(self.tensors[node.input[1]].dims)
        steps: list[tuple[_Affine, onnx.NodeProto]] = []
        total, output = _Affine(np.ones(channels), np.zeros(channels)), node.output[0]
        while self.counts[output] == 1 and output in self.readers:
            behind = self.readers[output]
            step = self._affine(behind, output, channels, rank)
            if step is None:
                break
            total = _Affine(total.factor * step.factor, total.shift * step.factor + step.shift)
            steps.append((total, behind))
            output = behind.output[0]
        for last in range(len(steps), 0, -1):
            found = self._folded(node, steps[last - 1][0])
            if found is not None:
                self._replace(node, *found, [behind for _, behind in steps[:last]])
                return

    def _replace(
        self, node: onnx.NodeProto, weight: np.ndarray, bias: np.ndarray, behind: Sequence[onnx.NodeProto]
    ) -> None:
        """Let a node with other weights make what the last of those behind it made."""
        self.gone |= {id(other) for other in behind}
        self.changed[node.input[1]] = weight
        name = node.input[2] if len(node.input) > 2 and self.counts[node.input[2]] == 1 else ""
        name = name or self.names.fresh(f"{node.name}.bias")
        self.changed[name] = bias
        node.input[:] = [*node.input[:2], name]
        node.output[0] = behind[-1].output[0]

    # -- numbers ----------------------------------------------------------------------------------------------------

    def _affine(self, node: onnx.NodeProto, value: str, channels: int, rank: int) -> _Affine | None:
        """What a node does to each channel of a value; None if it does something else."""
        if node.op_type == "BatchNormalization":
            return self._normalization(node, value)
        if node.op_type not in _ELEMENTWISE:
            return None
        first, second = node.input
        other = self._per_channel(second if first == value else first, channels, rank)
        if other is None or (first != value and node.op_type in ("Sub", "Div")):
            return None
        ones, zeros = np.ones(channels), np.zeros(channels)
        with np.errstate(divide="ignore"):
            return {
                "Mul": lambda: _Affine(other, zeros),
                "Div": lambda: _Affine(1 / other, zeros),
                "Add": lambda: _Affine(ones, other),
                "Sub": lambda: _Affine(ones, -other),
            }[node.op_type]()

    def _normalization(self, node: onnx.NodeProto, value: str) -> _Affine | None:
        found = [self._initializer(name) for name in node.input[1:]]
        if node.input[0] != value or _attribute(node, "training_mode", 0) or any(array is None for array in found):
            return None
        scale, shift, mean, variance = (np.asarray(array, np.float64) for array in found)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = scale / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
            return _Affine(factor, shift - mean * factor)

    def _per_channel(self, name: str, channels: int, rank: int) -> np.ndarray | None:
        """A constant as one number for each channel (axis 1); None if it is no constant or varies otherwise."""
        array = self._constant(name)
        if array is None or array.ndim > rank:
            return None
        shape = (1,) * (rank - array.ndim) + array.shape
        if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
            return None
        return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))

    def _constant(self, name: str) -> np.ndarray | None:
        """An initializer, or one with more axes, as a Scale layer's."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Unsqueeze":
            return self._initializer(name)
        array, axes = (self._initializer(source) for source in node.input)
        if array is None or axes is None:
            return None
        return np.expand_dims(array, tuple(int(axis) for axis in axes))

    def _initializer(self, name: str) -> np.ndarray | None:
        if name not in self.tensors:
            return None
        if name in self.changed:
            return self.changed[name]
        weight = self.weights.get(name, self.tensors[name])
        return numpy_helper.to_array(weight) if isinstance(weight, onnx.TensorProto) else weight

    def _folded(self, node: onnx.NodeProto, affine: _Affine) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights and bias in float32; None if they are not finite."""
        weight = np.asarray(self._initializer(node.input[1]))
        bias = self._initializer(node.input[2]) if len(node.input) > 2 else None
        with np.errstate(over="ignore", invalid="ignore"):
            shift = affine.shift + (0 if bias is None else bias * affine.factor)
            shape: Sequence[int]
            if node.op_type == "ConvTranspose":  # [inputs, outputs / group, kernel...]
                groups = _attribute(node, "group", 1)
                grouped = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
                shape = (groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
            elif node.op_type == "Gemm" and not _attribute(node, "transB", 0):
                grouped, shape = weight, (1, -1)
            else:
                grouped, shape = weight, (-1, *[1] * (weight.ndim - 1))
            scaled = np.empty(grouped.shape, np.float32)  # numpy rounds into it part by part
            np.multiply(grouped, affine.factor.reshape(shape), out=scaled, dtype=np.float64, casting="same_kind")
            result = scaled.reshape(weight.shape), shift.astype(np.float32)
        return result if all(np.isfinite(array).all() for array in result) else None


_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}  #: what others than the exporter might ask of it


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def _copy(message: Any) -> Any:
    """A message that stays when the list that it is in is emptied."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
