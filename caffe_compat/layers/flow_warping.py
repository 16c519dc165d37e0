"""FlowNet2's FlowWarp and ChannelNorm, PWC-Net's Warp.

Source: the layers' ``.cpp`` and ``.cu`` of lmb-freiburg/flownet2 and NVlabs/PWC-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient

__all__ = ["ChannelNorm", "FlowWarp", "Warp"]

SMALLEST = 1e-9  #: added to the norm that ChannelNorm's gradient is divided by


@register(dialect="flownet")
class FlowWarp(Layer):
    """The picture (Tensor[N, C, H, W]) sampled where the flow (Tensor[N, 2, H, W]: x, then y, in pixels) points to.

    Bilinear between the four pixels around (x + u, y + v), of which those behind the last column or row are the last
    ones; ``fill_value`` (ZERO or NOT_A_NUMBER) where the place is before 0 or at W or H and behind, or the flow NaN.
    Gradients go to both.
    """

    caffe_type = "FlowWarp"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.fill_with = self._fill_with(params)

    def _fill_with(self, params: Params) -> float:
        return 0.0 if params.section("flow_warp_param").enum("fill_value") == "ZERO" else math.nan

    def backward_reads(self) -> Reads:
        """Both bottoms."""
        return Reads((0, 1))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The picture's."""
        picture, flow = (tuple(bottom) for bottom in bottoms)
        self.require(
            len(picture) == 4 and flow == (picture[0], 2, *picture[2:]),
            f"bottoms have the shapes {list(picture)} and {list(flow)}, expected N x C x H x W and N x 2 x H x W",
        )
        return [picture]

    def forward(self, picture: Tensor, flow: Tensor) -> Tensor:
        """Four gathers."""
        if not picture.numel():
            return picture.new_zeros(picture.shape)
        high, wide = picture.shape[2:]
        grid = (
            torch.arange(wide, device=flow.device, dtype=flow.dtype),
            torch.arange(high, device=flow.device, dtype=flow.dtype)[:, None],
        )
        x, y = (start + flow[:, axis : axis + 1] for axis, start in enumerate(grid))
        inside = self._inside(x, wide) & self._inside(y, high)
        x, y = torch.where(inside, x, 0), torch.where(inside, y, 0)
        return torch.where(inside, self._sampled(picture, x, y), self.fill_with)

    def _inside(self, place: Tensor, size: int) -> Tensor:
        """Which places lie in the picture."""
        return (place >= 0) & (place < size)

    def _sampled(self, picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The picture at places (Tensor[N, 1, H, W]) that lie in it."""
        high, wide = picture.shape[2:]
        left, top = x.detach().floor(), y.detach().floor()
        alpha, beta = x - left, y - top
        columns = left.long(), (left.long() + 1).clamp(max=wide - 1)
        rows = top.long(), (top.long() + 1).clamp(max=high - 1)
        warped = torch.zeros_like(picture)
        for row, down in zip(rows, (1 - beta, beta), strict=True):
            for column, right in zip(columns, (1 - alpha, alpha), strict=True):
                warped = warped + right * down * _pixels(picture, row, column)
        return warped

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """GatherElements of the four pixels, exact where GridSample is not; the batch may be open."""
        sizes = graph.shape(bottoms[0])
        if sizes[2] is None or sizes[3] is None:
            sizes = graph.static_shape(bottoms[0], "the places of pixels")
        channels, high, wide = (int(size or 1) for size in sizes[1:])
        rows, columns = np.mgrid[:high, :wide].astype(np.float32).reshape(2, 1, 1, -1)
        flat, flow = (graph.add("Reshape", [bottom, graph.constant([0, 0, -1])]) for bottom in bottoms)
        parts = []
        for axis, (start, size) in enumerate(((columns, wide), (rows, high))):
            limits = [graph.constant([axis]), graph.constant([axis + 1]), graph.constant([1])]
            place = graph.add("Add", [graph.add("Slice", [flow, *limits]), graph.constant(start[0])])
            after = graph.add("Not", [graph.add("Less", [place, graph.constant(0.0)])])
            known = graph.add("And", [after, self._ends(graph, place, size)])
            parts.append((place, known, size))
        inside = graph.add("And", [known for _, known, _ in parts])
        ends = []
        for place, _, size in parts:
            place = graph.add("Where", [inside, place, graph.constant(0.0)])
            first = graph.add("Floor", [place])
            second = graph.add("Min", [graph.add("Add", [first, graph.constant(1.0)]), graph.constant(size - 1.0)])
            share = graph.add("Sub", [place, first])
            whole = [graph.add("Cast", [value], to=7) for value in (first, second)]
            ends.append(list(zip(whole, (graph.add("Sub", [graph.constant(1.0), share]), share), strict=True)))
        many = graph.constant([1, channels, 1])
        terms = []
        for row, down in ends[1]:
            for column, right in ends[0]:
                place = graph.add("Add", [graph.add("Mul", [row, graph.constant(wide)]), column])
                value = graph.add("GatherElements", [flat, graph.add("Expand", [place, many])], axis=2)
                terms.append(graph.add("Mul", [value, graph.add("Mul", [right, down])]))
        warped = graph.add("Where", [inside, graph.add("Sum", terms), graph.constant(self.fill_with)])
        graph.node("Reshape", [warped, graph.constant([0, channels, high, wide])], tops)

    def _ends(self, graph: OnnxGraph, place: str, size: int) -> str:
        """Which places lie before the end of the picture; none that are NaN."""
        return graph.add("Less", [place, graph.constant(float(size))])


@register
class Warp(FlowWarp):
    """PWC-Net's: as :class:`FlowWarp`, but 0 also between the last pixel and the one that would follow it.

    Where the flow points at a column or row itself, its gradient is the mean of the differences to both neighbours, of
    which one outside the picture counts 0.
    """

    caffe_type = "Warp"

    def _fill_with(self, params: Params) -> float:
        return 0.0

    def _inside(self, place: Tensor, size: int) -> Tensor:
        return (place >= 0) & (place <= size - 1)

    def _sampled(self, picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
        whole = [place.detach() == place.detach().floor() for place in (x, y)]
        between = [torch.where(on, place.detach(), place) for on, place in zip(whole, (x, y), strict=True)]
        warped = super()._sampled(picture, *between)
        if not (torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)):
            return warped
        values = picture.detach()
        for on, place, slope in zip(whole, (x, y), self._slopes(values, x.detach(), y.detach()), strict=True):
            warped = warped + torch.where(on, place - place.detach(), 0) * slope
        return warped

    def _slopes(self, values: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the differences to the neighbours left and right, and to those above and below."""
        high, wide = values.shape[2:]
        slopes = []
        for (dx, dy), place, size in (((1, 0), x, wide), ((0, 1), y, high)):
            sides = []
            for step in (1, -1):
                there = self._inside(place + step, size)
                moved = super()._sampled(
                    values, torch.where(there, x + step * dx, x), torch.where(there, y + step * dy, y)
                )
                sides.append(step * (moved - super()._sampled(values, x, y)))
            slopes.append((sides[0] + sides[1]) / 2)
        return slopes[0], slopes[1]

    def _ends(self, graph: OnnxGraph, place: str, size: int) -> str:
        return graph.add("LessOrEqual", [place, graph.constant(float(size - 1))])


def _pixels(picture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The picture's values (Tensor[N, C, H, W]) at whole places (Tensor[N, 1, H, W])."""
    flat = picture.flatten(2)
    places = (rows * picture.shape[3] + columns).flatten(2).expand_as(flat)
    return flat.gather(2, places).view(picture.shape)


@register(dialect="flownet")
class ChannelNorm(Layer):
    """Square root of the sum of squares over the channels: Tensor[N, C, H, W] to Tensor[N, 1, H, W].

    The gradient is x / (norm + 1e-9), 0 where all channels are 0.
    """

    caffe_type = "ChannelNorm"

    def backward_reads(self) -> Reads:
        """Bottom and top."""
        return Reads((0,), (0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """With what the buffers hold."""
        return self._with_rule(memory.tops[0], memory.bottoms[0])

    @staticmethod
    def _with_rule(top: Tensor, bottom: Tensor) -> Tensor:
        values, norm = bottom.detach(), top.detach()
        return with_gradient(top, bottom, lambda seed: seed * values / (norm + SMALLEST))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One channel."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"the bottom has the shape {list(shape)}, expected 4 axes")
        return [(shape[0], 1, *shape[2:])]

    def forward(self, bottom: Tensor) -> Tensor:
        """One norm."""
        norm = bottom.detach().square().sum(1, keepdim=True).sqrt()
        return self._with_rule(norm, bottom) if bottom.requires_grad and torch.is_grad_enabled() else norm

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, ReduceSum and Sqrt."""
        squares = graph.add("Mul", [bottoms[0], bottoms[0]])
        graph.node("Sqrt", [graph.add("ReduceSum", [squares, graph.constant([1])], keepdims=1)], tops)
