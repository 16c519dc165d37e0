"""Layers of nets for phones and of squeeze-and-excitation: ReLU6, Axpy, ShuffleChannel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["Axpy", "ReLU6", "ShuffleChannel"]


class _Rectify6(torch.autograd.Function):
    """The gradient is the fork's: 0 from 6 on and at NaN, that of the negative side at 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return _rectified(x, slope)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return seed * ((x > 0) + ctx.slope * (x <= 0)) * (x < 6), None


def _rectified(x: Tensor, slope: float) -> Tensor:
    top = x.clamp(min=0)
    if slope:
        top = top + slope * x.clamp(max=0)
    return top.clamp(max=6)


@register(dialect="yolo")
class ReLU6(NeuronLayer):
    """min(max(x, 0) + negative_slope * min(x, 0), 6), whose gradient is 0 where x is 6 or more.

    Source: ``relu6_layer.cpp`` of eric612/MobileNet-YOLO.  In place with a negative slope below 0 the sign of the
    bottom is lost.
    """

    caffe_type = "ReLU6"
    own_section = "relu6_param"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.own_section)
        self.negative_slope = float(section.negative_slope)
        section.ignore("engine", "relu6")
        self.keeps_sign = self.survives_in_place = self.negative_slope >= 0

    def backward_reads(self) -> Reads:
        """The bottom: where it is positive, and where it is below 6."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        if bottom.requires_grad and torch.is_grad_enabled():
            top: Tensor = _Rectify6.apply(bottom, self.negative_slope)  # type: ignore[no-untyped-call]
            return top
        return _rectified(bottom, self.negative_slope)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Clip; with a slope LeakyRelu first."""
        if not self.negative_slope:
            graph.node("Clip", [bottoms[0], graph.constant(0.0), graph.constant(6.0)], tops)
            return
        leaky = graph.add("LeakyRelu", bottoms, alpha=self.negative_slope)
        graph.node("Clip", [leaky, "", graph.constant(6.0)], tops)


@register(dialect="senet")
class Axpy(Layer):
    """a x + y, where a holds one number for each item and channel: what ends a squeeze-and-excitation block.

    Bottoms: a (Tensor[N, C] or [N, C, 1, 1]), x and y (Tensor[N, C, ...]).  Source: ``axpy_layer.cpp`` of
    hujie-frank/SENet, whose backward pass computes the diff of x only where a has one; here it is always the
    derivative.
    """

    caffe_type = "Axpy"
    bottom_count = (3, 3)

    def backward_reads(self) -> Reads:
        """a and x."""
        return Reads((0, 1))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels of x and y; the one pixel of a."""
        return ((0, 0), (0, 0)) if bottom == 0 else spans

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of x and y."""
        a, x, y = (tuple(shape) for shape in bottoms)
        self.require(x == y, f"expected equal shapes of bottoms 1 and 2, they are {list(x)} and {list(y)}")
        self.require(len(x) >= 2, f"bottom 1 has the shape {list(x)}, expected N x C x ...")
        self.require(
            a[:2] == x[:2] and count(a, 2) == 1,
            f"bottom 0 has the shape {list(a)}, expected {x[0]} x {x[1]}, one number for each channel of bottom 1",
        )
        return [x]

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """One multiplication with addition."""
        return torch.addcmul(y, a.reshape(*x.shape[:2], *[1] * (x.dim() - 2)), x)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul and Add; a gets or loses axes of size 1."""
        a, x, y = bottoms
        have, rank = len(graph.shape(a)), len(graph.shape(x))
        if have < rank:
            a = graph.add("Unsqueeze", [a, graph.constant(list(range(have, rank)))])
        elif have > rank:
            a = graph.add("Squeeze", [a, graph.constant(list(range(rank, have)))])
        graph.node("Add", [graph.add("Mul", [a, x]), y], tops)


@register(dialect="shufflenet")
class ShuffleChannel(Layer):
    """Channels of ``group`` groups dealt out in turn: channel i C / g + j becomes channel j g + i.

    Source: ``shuffle_channel_layer.cpp`` of farmingyard/ShuffleNet.  The top always has 4 axes.
    """

    homogeneous = True
    pointwise = True
    caffe_type = "ShuffleChannel"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.group = int(params.section("shuffle_channel_param").group)
        if self.group < 1:
            raise self.error(f"shuffle_channel_param.group is {self.group}, expected a positive number")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom with 4 axes."""
        shape = tuple(bottoms[0])
        self.require(2 <= len(shape) <= 4, f"the bottom has the shape {list(shape)}, expected 2 to 4 axes")
        self.require(
            shape[1] % self.group == 0,
            f"shuffle_channel_param.group is {self.group}, expected a divisor of the {shape[1]} channels",
        )
        return [(*shape, *[1] * (4 - len(shape)))]

    def forward(self, bottom: Tensor) -> Tensor:
        """A transposition of groups and their channels."""
        channels = bottom.shape[1] // self.group
        dealt = bottom.reshape(len(bottom), self.group, channels, *bottom.shape[2:]).transpose(1, 2)
        return dealt.reshape(*bottom.shape, *[1] * (4 - bottom.dim()))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape, Transpose, Reshape."""
        shape = graph.shape(bottoms[0])
        channels = shape[1]
        if channels is None:
            raise self.export_error("the number of channels is known at run time only, expected a static one")
        ones = [1] * (4 - len(shape))
        spatial = graph.add("Slice", [graph.add("Shape", bottoms), graph.constant([2]), graph.constant([len(shape)])])
        head = graph.constant([0, self.group, channels // self.group])
        tail = [spatial] if len(shape) > 2 else []
        split = graph.add("Reshape", [bottoms[0], graph.add("Concat", [head, *tail], axis=0)])
        order = [0, 2, 1, *range(3, len(shape) + 1)]
        back = graph.add(
            "Concat", [graph.constant([0, channels]), *tail, *([graph.constant(ones)] if ones else [])], axis=0
        )
        graph.node("Reshape", [graph.add("Transpose", [split], perm=order), back], tops)
