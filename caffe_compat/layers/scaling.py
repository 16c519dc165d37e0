"""Broadcast additions and multiplications: Bias, and the two layers called Scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, kept

__all__ = ["Bias", "ConstantScale", "Scale"]


class _Broadcast(Layer):
    """Common to Bias and Scale: an operand that covers axes [axis, axis + its rank) of bottom 0.

    It is bottom 1, or a learned blob with the shape of ``num_axes`` axes of the bottom (-1: all from ``axis`` on; 0: a
    scalar).
    """

    bottom_count = (1, 2)
    in_place = True
    has_blobs = True
    section: Section

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One per number."""
        return count(tops[0])

    def _learned_shape(self, bottom: Shape) -> Shape:
        start, axes = self.section.axis("axis", len(bottom)), int(self.section.num_axes)
        field = self.section.field
        if axes < -1:
            raise self.error(f"{field}.num_axes is {axes}, expected -1 (to the end) or more")
        self.require(
            start + max(axes, 0) <= len(bottom),
            f"{field}.axis {start} and num_axes {axes} reach beyond the {len(bottom)} axes of the bottom",
        )
        return tuple(bottom[start:] if axes == -1 else bottom[start : start + axes])

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels; all of an operand of another size."""
        return spans if bottom == 0 or bottoms[1] == bottoms[0] else None

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def _trailing(self, rank: int, operand: Shape) -> int:
        """How many axes of the bottom are behind those that the operand covers."""
        start = self.section.axis("axis", rank) if operand else 0
        return rank - start - len(operand)

    def _fit(self, value: Tensor, rank: int) -> Tensor:
        trailing = self._trailing(rank, tuple(value.shape))
        return value.reshape(*value.shape, *[1] * trailing) if trailing and value.dim() else value

    def _operand_shape(self, bottoms: Sequence[Shape]) -> Shape:
        return tuple(bottoms[1]) if len(bottoms) > 1 else self.blob_shapes[0]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of bottom 0, which the operand must fit."""
        bottom, operand = tuple(bottoms[0]), self._operand_shape(bottoms)
        what = "bottom 1" if len(bottoms) > 1 else "the learned blob"
        trailing = self._trailing(len(bottom), operand)
        start = len(bottom) - trailing - len(operand)
        self.require(
            trailing >= 0 and bottom[start : start + len(operand)] == operand,
            f"{what} has shape {list(operand)}, expected that of axes {start} to {start + len(operand) - 1} of "
            f"bottom 0, {list(bottom)}",
        )
        return [bottom]

    def _onnx_operand(self, graph: OnnxGraph, name: str, shape: Sequence[int | None], rank: int) -> str:
        trailing = self._trailing(rank, tuple(dim or 0 for dim in shape)) if shape else 0
        if not trailing:
            return name
        axes = list(range(len(shape), len(shape) + trailing))
        return graph.add("Unsqueeze", [name, graph.constant(axes)])


@register
class Bias(_Broadcast):
    """Bottom 0 plus bottom 1, or plus a learned blob, broadcast from ``axis`` on."""

    caffe_type = "Bias"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("bias_param")
        self.section.ignore("axis", "num_axes", "filler")  # with two bottoms only axis counts
        if len(bottoms) == 1:
            self.add_blob(self._learned_shape(bottoms[0]), self.section.filler("filler"))

    def forward(self, bottom: Tensor, operand: Tensor | None = None) -> Tensor:
        """One broadcast addition."""
        return bottom + self._fit(self.blob(0) if operand is None else operand, bottom.dim())

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Add."""
        rank = len(graph.shape(bottoms[0]))
        if len(bottoms) > 1:
            operand = self._onnx_operand(graph, bottoms[1], graph.shape(bottoms[1]), rank)
        else:
            operand = self._onnx_operand(graph, graph.parameter(self, 0), self.blob_shapes[0], rank)
        graph.node("Add", [bottoms[0], operand], tops)


@register
class Scale(_Broadcast):
    """BVLC's Scale: bottom 0 times bottom 1, or times a learned blob (1 at first), broadcast from ``axis`` on.

    Blobs: the scale (with one bottom only), then the bias of the same shape (with ``bias_term``).

    Where nothing but axes of size 1 is before ``axis`` (a batch of one image), Caffe's backward pass overwrites the
    diff of a learned scale that it should add to.  Measured; pycaffe and the solvers here do the same.
    """

    caffe_type = "Scale"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("scale_param")
        self.section.ignore("axis", "num_axes", "filler", "bias_filler")  # with two bottoms only axis and bias count
        self.bias_term = self.creates_layer = bool(self.section.bias_term)
        shape = self._learned_shape(bottoms[0]) if len(bottoms) == 1 else tuple(bottoms[1])
        if len(bottoms) == 1:
            self.add_blob(shape, self.section.filler("filler", Filler(value=1.0)))
        if self.bias_term:
            self.add_blob(shape, self.section.filler("bias_filler"))

    def backward_reads(self) -> Reads:
        """The bottoms; of an in-place one a copy."""
        number = len(self.params.bottoms)
        return Reads(tuple(range(1 if self.params.in_place else 0, number)))

    def backward_form(self, memory: Reread) -> Tensor:
        """The product again, in place with the copy of the bottom."""
        first, *rest = memory.bottoms
        result: Tensor = self(kept(memory.then[0], first) if self.params.in_place else first, *rest)
        return result

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of bottom 0, which scale and bias must fit."""
        shapes = super().top_shapes(bottoms)
        self.require(
            not self.bias_term or self.blob_shapes[-1] == self._operand_shape(bottoms),
            f"bottom 1 has shape {list(self._operand_shape(bottoms))}, expected that at setup",
        )
        return shapes

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """The learned scale, of more than one number, if there is one outer item."""
        if index or len(bottoms) > 1:
            return False
        bottom, scale = bottoms[0], self.blob_shapes[0]
        outer = count(bottom, 0, len(bottom) - self._trailing(len(bottom), scale) - len(scale))
        return count(bottom) == count(scale) or (outer == 1 and count(scale) > 1)

    def forward(self, bottom: Tensor, operand: Tensor | None = None) -> Tensor:
        """One broadcast multiplication, or multiply-add."""
        scale = self._fit(self.blob(0) if operand is None else operand, bottom.dim())
        if not self.bias_term:
            return bottom * scale
        return torch.addcmul(self._fit(self.blob(len(self.blobs) - 1), bottom.dim()), bottom, scale)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, and Add for the bias."""
        rank = len(graph.shape(bottoms[0]))
        if len(bottoms) > 1:
            scale = self._onnx_operand(graph, bottoms[1], graph.shape(bottoms[1]), rank)
        else:
            scale = self._onnx_operand(graph, graph.parameter(self, 0), self.blob_shapes[0], rank)
        if not self.bias_term:
            graph.node("Mul", [bottoms[0], scale], tops)
            return
        last = len(self.blobs) - 1
        bias = self._onnx_operand(graph, graph.parameter(self, last), self.blob_shapes[last], rank)
        graph.node("Add", [graph.add("Mul", [bottoms[0], scale]), bias], tops)


@register(when=lambda params: params.section("scale_param").has("scale"), dialect="caffe-sds")
class ConstantScale(NeuronLayer):
    """caffe-sds's Scale: the bottom times the number ``scale_param.scale``.  No blobs."""

    caffe_type = "Scale"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.scale = float(params.section("scale_param").scale)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return bottom * self.scale

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul."""
        graph.node("Mul", [bottoms[0], graph.constant(self.scale)], tops)
