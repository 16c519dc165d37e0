"""LRN, across channels and within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.pooling_onnx import write_average
from caffe_compat.layers.reach import Spans, window_reach
from caffe_compat.layers.refused import NO_GRADIENT, Refused
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient
from caffe_compat.layers.windows import PoolWindow

__all__ = ["LRN"]


def negative_power(s: Tensor, beta: float) -> Tensor:
    """s^-beta; for the usual 0.75 two square roots, several times faster than ``pow``."""
    if beta == 0.75:
        root = s.rsqrt()
        return root * root.sqrt()
    return s.pow(-beta)


def channel_sums(a: Tensor, b: Tensor, size: int) -> Tensor:
    """Sum of a * b over the ``size`` (odd) nearest channels, zeros outside; without gradient.

    Shifted additions: on a CPU up to ten times faster than the three-dimensional pooling of ``F.local_response_norm``,
    which on a GPU is the faster way.
    """
    batch, channels, *image = a.shape
    size = min(size, max(2 * channels - 1, 1))  # what is farther away is 0
    half = size // 2
    if a.is_cuda and len(image) == 2 and channels >= size and a.numel():
        wide = (a * b).unsqueeze(1)
        return F.avg_pool3d(wide, (size, 1, 1), 1, (half, 0, 0), divisor_override=1).squeeze(1)
    if torch.compiler.is_compiling():  # which takes no output in a part of a tensor, and needs none
        wide = F.pad(a * b, [*[0, 0] * len(image), half, half])
    else:
        wide = a.new_zeros(batch, channels + size - 1, *image)
        torch.mul(a, b, out=wide[:, half : half + channels])
    sums = wide[:, :channels].clone()
    for shift in range(1, size):
        sums += wide[:, shift : shift + channels]
    return sums


class _AcrossChannels(torch.autograd.Function):
    """y = x s^-beta, s = k + alpha / n * (sum of x^2 over n channels); the gradient is Caffe's formula."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        s = channel_sums(x, x, size).mul_(alpha / size).add_(k)
        power = negative_power(s, beta)
        ctx.save_for_backward(x, s, power)
        ctx.size, ctx.factor = size, 2 * alpha * beta / size
        return x * power

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, s, power = ctx.saved_tensors
        dx = dy * power
        return dx - ctx.factor * x * channel_sums(dx, x / s, ctx.size), None, None, None, None


@register
class LRN(Layer):
    """Local response normalization.

    ACROSS_CHANNELS: y = x (k + alpha / n * sum of x^2 over n channels)^-beta.  WITHIN_CHANNEL: y = x (1 + alpha * mean
    of x^2 over n x n pixels)^-beta; k is ignored there, as in Caffe.

    In place across channels Caffe overwrites the bottom before its last factor: the top is s^(-2 beta).  That is
    reproduced; its gradient, which would not depend on the loss, is refused.
    """

    caffe_type = "LRN"
    in_place = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("lrn_param")
        section.ignore("engine")
        self.size, self.alpha, self.beta = int(section.local_size), float(section.alpha), float(section.beta)
        self.k = float(section.k)
        self.within = section.enum("norm_region") == "WITHIN_CHANNEL"
        if self.size % 2 == 0:
            raise self.error(f"lrn_param.local_size is {self.size}, expected an odd number")
        self.survives_in_place = False

    def backward_reads(self) -> Reads:
        """The bottom, and across channels the top; in place across channels there is no gradient."""
        if self.within:
            return Reads(bottoms=(0,))
        return Reads() if self.params.in_place else Reads(bottoms=(0,), tops=(0,))

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def backward_form(self, memory: Reread) -> Tensor:
        """Caffe's formulas, with the sums of the forward pass."""
        (then,), (bottom,), (top,) = memory.then, memory.bottoms, memory.tops
        if not self.within:
            s = channel_sums(then, then, self.size).mul_(self.alpha / self.size).add_(self.k)
            factor, power = 2 * self.alpha * self.beta / self.size, negative_power(s, self.beta)
            return with_gradient(
                top, bottom, lambda dy: dy * power - factor * bottom * channel_sums(dy, top / s, self.size)
            )
        s = 1 + self.alpha * self._mean(then * then)
        power = negative_power(s, self.beta)
        slope = -2 * self.alpha * self.beta * power / s
        return with_gradient(top, bottom, lambda dy: dy * power + bottom * self._mean(dy * bottom * slope))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The same pixels, or within channels a square around each."""
        if not self.within:
            return spans
        return window_reach(spans, (self.size, self.size), (1, 1), (self.size // 2, self.size // 2))

    def _mean(self, x: Tensor) -> Tensor:
        """Mean of n x n pixels; its own adjoint."""
        return F.avg_pool2d(x, self.size, 1, self.size // 2) if x.numel() else x

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom, exactly four axes."""
        bottom = bottoms[0]
        self.require(len(bottom) == 4, f"bottom has shape {list(bottom)}, expected 4 axes (N, C, H, W)")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize."""
        if self.within:
            return bottom * negative_power(1 + self.alpha * self._mean(bottom * bottom), self.beta)
        if torch.is_grad_enabled() and bottom.requires_grad and not self.params.in_place:
            found: Tensor = _AcrossChannels.apply(bottom, self.size, self.alpha, self.beta, self.k)
            return found
        with torch.no_grad():
            s = channel_sums(bottom, bottom, self.size).mul_(self.alpha / self.size).add_(self.k)
            if not self.params.in_place:
                return negative_power(s, self.beta).mul_(bottom)
            top = negative_power(s, 2 * self.beta)
        refused: Tensor = Refused.apply(bottom, top, self.error(NO_GRADIENT))
        return refused

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """LRN; for the usual beta 0.75 a 1 x 1 Conv with a banded matrix; for WITHIN_CHANNEL AveragePool.

        ONNX Runtime's LRN kernel on CPU costs more than the Conv that sums the window and two square roots.
        """
        if self.params.in_place and not self.within:
            raise self.export_error("in place across channels is not a normalization, expected a top of another name")
        half = self.size // 2
        channels = graph.shape(bottoms[0])[1]
        if not self.within and (self.beta != 0.75 or channels is None):
            graph.node("LRN", bottoms, tops, size=self.size, alpha=self.alpha, beta=self.beta, bias=self.k)
            return
        if not self.within and channels is not None:
            distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
            band = np.where(distance <= half, self.alpha / self.size, 0).astype(np.float32)[:, :, None, None]
            bias = graph.constant(np.full(channels, self.k, np.float32))
            s = graph.add("Conv", [graph.add("Mul", [bottoms[0], bottoms[0]]), graph.constant(band), bias])
            root = graph.add("Sqrt", [s])
            graph.node("Div", [bottoms[0], graph.add("Mul", [root, graph.add("Sqrt", [root])])], tops)
            return
        square = graph.add("Mul", [bottoms[0], bottoms[0]])
        mean = write_average(graph, square, bottoms[0], PoolWindow((self.size,) * 2, (1, 1), (half, half)))
        s = graph.add("Add", [graph.add("Mul", [mean, graph.constant(self.alpha)]), graph.constant(1.0)])
        graph.node("Mul", [bottoms[0], graph.add("Pow", [s, graph.constant(-self.beta)])], tops)
