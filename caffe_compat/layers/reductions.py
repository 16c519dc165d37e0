"""Layers that make few numbers of many: ArgMax, Reduction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, as_rows, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["ArgMax", "Reduction"]

FLOAT = 1  #: onnx.TensorProto.FLOAT


@register
class ArgMax(Layer):
    """Indices (as floats) of the ``top_k`` largest numbers, largest first; of equal ones the larger index comes first.

    With ``axis``: along that axis; ``out_max_val`` gives the values instead.  Without: over each item, shape
    (N, 1, top_k) with ones behind up to the rank of the bottom; ``out_max_val`` adds the values as second channel.
    """

    caffe_type = "ArgMax"
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("argmax_param")
        self.section.ignore("axis")
        self.top_k, self.values = int(self.section.top_k), bool(self.section.out_max_val)
        self.has_axis = self.section.has("axis")
        if self.top_k < 1:
            raise self.error(f"argmax_param.top_k is {self.top_k}, expected at least 1")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """See the class."""
        shape = tuple(bottoms[0])
        if self.has_axis:
            axis = self.section.axis("axis", len(shape))
            self._check(shape[axis])
            return [(*shape[:axis], self.top_k, *shape[axis + 1 :])]
        self.require(len(shape) > 0, "the bottom has no axes, expected at least one")
        self._check(count(shape, 1))
        return [(shape[0], 2 if self.values else 1, self.top_k, *[1] * (len(shape) - 3))]

    def _check(self, candidates: int) -> None:
        self.require(
            self.top_k <= candidates,
            f"argmax_param.top_k is {self.top_k}, expected at most {candidates}, the candidates",
        )

    def forward(self, bottom: Tensor) -> Tensor:
        """A stable sort of the reversed axis; detached."""
        shape = self.top_shapes([bottom.shape])[0]
        axis = self.section.axis("axis", bottom.dim()) if self.has_axis else 1
        scores = bottom.detach() if self.has_axis else as_rows(bottom.detach())
        if not scores.numel():
            return bottom.new_zeros(shape)
        turned = scores.flip(axis)
        if self.top_k == 1:
            found = turned.argmax(axis, keepdim=True)
        else:
            found = turned.sort(dim=axis, descending=True, stable=True).indices.narrow(axis, 0, self.top_k)
        index = scores.shape[axis] - 1 - found
        parts = [index.to(bottom.dtype)] if not (self.has_axis and self.values) else []
        if self.values:
            parts.append(scores.gather(axis, index))
        return torch.stack(parts, 1).reshape(shape) if len(parts) == 2 else parts[0].reshape(shape)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """TopK of the reversed axis, which puts the larger of equal indices first."""
        rank = len(graph.shape(bottoms[0]))
        axis = self.section.axis("axis", rank) if self.has_axis else 1
        scores = bottoms[0] if self.has_axis else graph.add("Flatten", bottoms, axis=1)
        one = [graph.constant([number]) for number in (-1, -(2**63) + 1, axis, -1)]
        turned = graph.add("Slice", [scores, *one])
        values, found = f"{tops[0]}/values", f"{tops[0]}/indices"
        graph.node("TopK", [turned, graph.constant([self.top_k])], [values, found], axis=axis)
        if self.has_axis and self.values:
            graph.node("Identity", [values], tops)
            return
        cut = [graph.constant([number]) for number in (axis, axis + 1)]
        size = graph.add("Slice", [graph.add("Shape", [scores]), *cut])
        last = graph.add("Sub", [size, graph.constant([1])])
        index = graph.add("Cast", [graph.add("Sub", [last, found])], to=FLOAT)
        if self.has_axis:
            graph.node("Identity", [index], tops)
            return
        both = graph.add("Concat", [index, values], axis=1) if self.values else index
        shape = [0, 2 if self.values else 1, self.top_k, *[1] * (rank - 3)]
        graph.node("Reshape", [both, graph.constant(shape)], tops)


@register
class Reduction(Layer):
    """Sum, sum of absolute values, sum of squares or mean over all axes from ``axis`` on, times ``coeff``."""

    caffe_type = "Reduction"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("reduction_param")
        self.section.ignore("axis")
        self.operation, self.coeff = self.section.enum("operation"), float(self.section.coeff)
        if self.operation == "TOPK":
            raise self.error("reduction_param.operation is TOPK, which is for BatchReduction only, as in yjxiong/caffe")

    def backward_reads(self) -> Reads:
        """The bottom, unless the gradient is the same everywhere."""
        return Reads((0,)) if self.operation in ("ASUM", "SUMSQ") else Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims before ``axis``."""
        return [tuple(bottoms[0][: self.section.axis("axis", len(bottoms[0]))])]

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch reduction."""
        axes = tuple(range(self.section.axis("axis", bottom.dim()), bottom.dim()))
        if self.operation == "MEAN":
            top = bottom.mean(axes)
        elif self.operation == "SUM":
            top = bottom.sum(axes)
        else:
            top = (bottom.abs() if self.operation == "ASUM" else bottom.square()).sum(axes)
        return top if self.coeff == 1 else top * self.coeff

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ReduceSum, ReduceSumSquare or ReduceMean, then Mul; ASUM sums Abs.

        OpenVINO overlooks the axes of ReduceL1 at opset 17.
        """
        rank = len(graph.shape(bottoms[0]))
        op = {"SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}.get(self.operation, "ReduceSum")
        axes = list(range(self.section.axis("axis", rank), rank))
        as_input = op == "ReduceSum" or graph.opset >= 18
        source = graph.add("Abs", bottoms) if self.operation == "ASUM" else bottoms[0]
        inputs = [source, graph.constant(axes)] if as_input else [source]
        attributes = {"keepdims": 0, "axes": None if as_input else axes}
        if self.coeff == 1:
            graph.node(op, inputs, tops, **attributes)
        else:
            graph.node("Mul", [graph.add(op, inputs, **attributes), graph.constant(self.coeff)], tops)
