"""SSD's Normalize: the length of every feature becomes a learned number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradients

__all__ = ["Normalize"]


class _Normalized(torch.autograd.Function):
    """x / norm * scale, where ``axes`` share a norm; the gradient is Caffe's, or that of x the error ``refusal``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, axes: tuple[int, ...], eps: float, refusal: NetError | None
    ) -> Tensor:
        norm = _norm(x, axes, eps)
        ctx.save_for_backward(x, scale, norm)
        ctx.axes, ctx.refusal = axes, refusal
        return x / norm * _broadcast(scale, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, scale, norm = ctx.saved_tensors
        if ctx.needs_input_grad[0] and ctx.refusal is not None:
            raise ctx.refusal
        slope = _slope(dy, x, scale, norm, ctx.axes) if ctx.needs_input_grad[0] else None
        return slope, _gathered(dy * x / norm, scale), None, None, None


def _norm(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (x.square().sum(axes, keepdim=True) + eps).sqrt()


def _broadcast(scale: Tensor, x: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (x.dim() - 2)) if scale.dim() else scale


def _slope(dy: Tensor, x: Tensor, scale: Tensor, norm: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Caffe multiplies by the scale last, which is the derivative only where all channels have one scale."""
    along = (x * dy).sum(axes, keepdim=True) / norm.square()
    return (dy - x * along) / norm * _broadcast(scale, x)


def _gathered(products: Tensor, scale: Tensor) -> Tensor:
    """Sums over all that one number of the scale multiplies."""
    return products.sum([axis for axis in range(products.dim()) if axis != 1]) if scale.dim() else products.sum()


@register
class Normalize(Layer):
    """bottom / sqrt(sum of squares + eps) times a learned scale, as SSD (weiliu89/caffe) has it.

    The sum is over an image, or with ``across_spatial: false`` over the channels of every pixel.  Blob 0 is the scale:
    one number without axes, or with ``channel_shared: false`` one per channel [C]; 1 at first without a filler.  Where
    the channels have different scales the gradient of the bottom is Caffe's, which is not the derivative: the scale is
    left out of the projection.  In place that gradient, where Caffe subtracts a buffer from itself, is refused.
    """

    caffe_type = "Normalize"
    in_place = True
    has_blobs = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("norm_param")
        self.across, self.shared = bool(section.across_spatial), bool(section.channel_shared)
        self.pointwise = not self.across
        self.eps = float(section.eps)
        self._check(bottoms)
        self.channels = bottoms[0][1]
        self.add_blob(() if self.shared else (self.channels,), section.filler("scale_filler", Filler(value=1.0)))

    def _check(self, bottoms: Sequence[Shape]) -> None:
        legacy_rank(self, bottoms)
        self.require(len(bottoms[0]) >= 2, f"the bottom has the shape {list(bottoms[0])}, expected 2 to 4 axes")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One per number, as of Scale."""
        return count(tops[0])

    def backward_reads(self) -> Reads:
        """Bottom and top; the norms are kept.  In place there is no gradient that would read the bottom."""
        return Reads(bottoms=() if self.params.in_place else (0,), tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """Caffe's formula with the norms of the forward pass; the gradient of the scale comes from the top."""
        (then,), (bottom,), (top,) = memory.then, memory.bottoms, memory.tops
        axes, scale = self._axes(then.dim()), self.blob(0)
        norm, wanted, refusal = _norm(then.detach(), axes, self.eps), bottom.requires_grad, self._refusal()

        def rule(dy: Tensor) -> Sequence[Tensor | None]:
            if wanted and refusal is not None:
                raise refusal
            values = scale.detach()
            slope = _slope(dy, bottom.detach(), values, norm, axes) if wanted else None
            return slope, _gathered(dy * top, values) / values

        return with_gradients(top, [bottom, scale], rule)

    def _refusal(self) -> NetError | None:
        """The error that the gradient of the bottom is in place."""
        return self.error("no gradient in place, expected a top of another name") if self.params.in_place else None

    def _axes(self, rank: int) -> tuple[int, ...]:
        """The axes of one norm."""
        return tuple(range(1, rank)) if self.across else (1,)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        self._check(bottoms)
        self.require(
            self.shared or bottoms[0][1] == self.channels,
            f"the bottom has the shape {list(bottoms[0])}, expected {self.channels} channels on axis 1",
        )
        return [tuple(bottoms[0])]

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize and scale."""
        axes = self._axes(bottom.dim())
        top: Tensor = _Normalized.apply(bottom, self.blob(0), axes, self.eps, self._refusal())  # type: ignore[no-untyped-call]
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, ReduceSum, Add, Sqrt, Div, Mul."""
        rank = len(graph.shape(bottoms[0]))
        squares = graph.add("Mul", [bottoms[0], bottoms[0]])
        sums = graph.add("ReduceSum", [squares, graph.constant(list(self._axes(rank)))], keepdims=1)
        norm = graph.add("Sqrt", [graph.add("Add", [sums, graph.constant(self.eps)])])
        scale = graph.parameter(self, 0)
        if not self.shared and rank > 2:
            scale = graph.add("Unsqueeze", [scale, graph.constant(list(range(1, rank - 1)))])
        graph.node("Mul", [graph.add("Div", [bottoms[0], norm]), scale], tops)
