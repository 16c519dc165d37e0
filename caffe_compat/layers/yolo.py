"""YOLO's Reorg.

Source: ``reorg_layer.hpp`` and ``reorg_layer.cpp`` of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["Reorg"]


class _NoGradient(torch.autograd.Function):
    """A value whose gradient is 0: the fork's backward pass moves a buffer that nobody writes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        ctx.shape = x.shape
        return value

    @staticmethod
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None]:
        return seed.new_zeros(ctx.shape), None


@register(dialect="yolo")
class Reorg(Layer):
    """Blocks of stride x stride pixels to channels and back, in darknet's order.

    With ``reverse`` channel (i stride + j) C' + c of C = stride^2 C' becomes pixel (i, j) of each block of channel c.
    Without, the same map the other way round reads the bottom as if it had the shape [N, C / stride^2, stride H,
    stride W], so that blocks are not those of the image.  The gradient is 0: the fork's backward pass reads a diff of
    its own, which stays empty, and not the top's.
    """

    homogeneous = True
    caffe_type = "Reorg"
    stride_field: ClassVar[str] = "reorg_param.stride"  #: for errors

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("reorg_param")
        if not section.has("stride") or section.stride < 1:
            raise self.error("reorg_param.stride is missing or 0, expected a positive number")
        self.stride, self.reverse = int(section.stride), bool(section.reverse)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Channels and pixels traded."""
        shape, stride = tuple(bottoms[0]), self.stride
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {list(shape)}")
        number, channels, height, width = shape
        self.require(
            channels % stride**2 == 0,
            f"the bottom has {channels} channels, expected a multiple of {self.stride_field} squared, {stride**2}",
        )
        if self.reverse:
            return [(number, channels // stride**2, height * stride, width * stride)]
        self.require(
            height % stride == 0 and width % stride == 0,
            f"the bottom has {height} x {width} pixels, expected multiples of {self.stride_field} {stride}",
        )
        return [(number, channels * stride**2, height // stride, width // stride)]

    def forward(self, bottom: Tensor) -> Tensor:
        """One transposition."""
        (number, channels, height, width), stride = bottom.shape, self.stride
        fewer = channels // stride**2
        if self.reverse:
            split = bottom.reshape(number, stride, stride, fewer, height, width)
            moved = split.permute(0, 3, 4, 1, 5, 2)
        else:
            split = bottom.reshape(number, fewer, height, stride, width, stride)
            moved = split.permute(0, 3, 5, 1, 2, 4)
        top = moved.reshape(self.top_shapes([tuple(bottom.shape)])[0])
        if not (bottom.requires_grad and torch.is_grad_enabled()):
            return top
        found: Tensor = _NoGradient.apply(bottom, top.detach())  # type: ignore[no-untyped-call]
        return found

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape, Transpose, Reshape; sizes but the batch are static."""
        add, constant, stride = graph.add, graph.constant, self.stride
        shape = graph.shape(bottoms[0])
        if None in shape[1:]:
            raise self.export_error(f"the bottom has the shape {shape}, expected static channels, height and width")
        _, channels, height, width = (n or 0 for n in shape)
        _, *made = self.top_shapes([(1, channels, height, width)])[0]
        fewer = channels // stride**2
        if self.reverse:
            split, order = [0, stride, stride, fewer, height, width], [0, 3, 4, 1, 5, 2]
        else:
            split, order = [0, fewer, height, stride, width, stride], [0, 3, 5, 1, 2, 4]
        moved = add("Transpose", [add("Reshape", [bottoms[0], constant(split)])], perm=order)
        graph.node("Reshape", [moved, constant([0, *made])], tops)
