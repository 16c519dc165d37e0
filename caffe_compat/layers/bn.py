"""The layer type BN in its two meanings: SegNet's and ENet's, PSPNet's and yjxiong's.

Both have a message ``bn_param``; its fields tell which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.normalization import onnx_mean, onnx_moments
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["MovingBN", "ScaleShiftBN", "by_batch", "column"]


def _means_segnet(params: Params) -> bool:
    section = params.section("bn_param")
    if section.has("icnet"):  # both are synopsys-caffe's, which says so
        return not section.icnet
    return any(section.has(name) for name in ("scale_filler", "shift_filler", "bn_mode"))


def _means_pspnet(params: Params) -> bool:
    """PSPNet's, by a field or by specs of four blobs."""
    section = params.section("bn_param")
    if section.has("icnet"):
        return bool(section.icnet)
    named = any(section.has(name) for name in ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine"))
    return named or (len(params.description.params) == 4 and not _means_segnet(params))


def column(vector: Tensor, rank: int) -> Tensor:
    """A vector over the channels, to be multiplied with a blob of ``rank`` axes."""
    return vector.reshape(-1, *[1] * (rank - 2))


def by_batch(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized by the batch's statistics, scaled and shifted; means and biased variances, without a gradient.

    Differences first: torch's batch_norm multiplies x by scale / deviation and adds, which for a channel that hardly
    varies is the difference of two large numbers.
    """
    if not x.numel():
        return x * column(scale, x.dim()), torch.zeros_like(scale), torch.zeros_like(scale)
    axes = [0, *range(2, x.dim())]
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    variance = centred.square().mean(axes, keepdim=True)
    top = centred * ((variance + eps).rsqrt() * column(scale, x.dim())) + column(shift, x.dim())
    return top, mean.detach().reshape(-1), variance.detach().reshape(-1)


class _BN(Layer):
    """What the two share."""

    in_place = True
    has_blobs = True
    vector_blobs = True
    caffe_type = "BN"
    channels: int

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One per number."""
        return count(tops[0])

    def check_bottom(self, bottoms: Sequence[Shape]) -> Shape:
        """2 to 4 axes."""
        legacy_rank(self, bottoms)
        self.require(len(bottoms[0]) > 1, f"the bottom has the shape {list(bottoms[0])}, expected 2 to 4 axes")
        return tuple(bottoms[0])

    def check_channels(self, bottoms: Sequence[Shape]) -> Shape:
        """The same, with the channels of set-up."""
        shape = self.check_bottom(bottoms)
        self.require(
            shape[1] == self.channels,
            f"the bottom has the shape {list(shape)}, expected {self.channels} channels on axis 1",
        )
        return shape


@register(when=_means_segnet, dialect="segnet")
class ScaleShiftBN(_BN):
    """Normalization by the batch, also in TEST, and a learned scale and shift; or these alone.

    Blobs: scale and shift [1, C, 1, 1].  ``bn_mode: LEARN`` (the default) normalizes by mean and biased variance of the
    very batch, whatever the phase, with 1e-9 added to the variance; tops 2 and 3, if asked for, are the means and the
    variances [1, C, 1, 1], without a gradient.  ``INFERENCE`` is scale x + shift: the statistics are in the weights by
    then.  A backward pass sets the diffs of the blobs instead of adding to them.  The top has 4 axes.  The fork takes
    E(x^2) - E(x)^2 in float32 for the variance, which cancels; here it is that of the differences.
    Source: ``bn_layer.cpp`` of alexgkendall/caffe-segnet.
    """

    top_count = (1, 3)
    EPS: ClassVar[float] = 1e-9

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("bn_param")
        section.ignore("icnet")
        self.learns = section.enum("bn_mode") == "LEARN"
        if not self.learns and len(params.tops) > 1:
            raise self.error(
                f"with bn_mode INFERENCE there are no statistics for {len(params.tops)} tops, expected one"
            )
        self.survives_in_place = self.learns
        self.channels = self.check_bottom(bottoms)[1]
        for name in ("scale_filler", "shift_filler"):
            self.add_blob((1, self.channels, 1, 1), section.filler(name, Filler()))

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Always."""
        return True

    def backward_reads(self) -> Reads:
        """The bottom, of scale x + shift; otherwise the normalized values are kept."""
        return Reads() if self.learns else Reads(bottoms=(0,))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels, unless the statistics are those of the batch."""
        return None if self.learns else spans

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's with 4 axes; 1 x C x 1 x 1 for the statistics."""
        shape = self.check_channels(bottoms)
        vector = (1, self.channels, 1, 1)
        return [(*shape, *[1] * (4 - len(shape))), vector, vector][: len(self.params.tops)]

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        """Normalize, scale and shift."""
        x = bottom.reshape(*bottom.shape, *[1] * (4 - bottom.dim()))
        if not self.learns:
            return (x * self.blob(0) + self.blob(1),)
        top, mean, variance = by_batch(x, self.blob(0).reshape(-1), self.blob(1).reshape(-1), self.EPS)
        vector = (1, self.channels, 1, 1)
        return (top, mean.reshape(vector), variance.reshape(vector))[: len(self.params.tops)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul and Add; before that the batch's own statistics."""
        x, rank = bottoms[0], len(graph.shape(bottoms[0]))
        if rank < 4:
            x = graph.add("Unsqueeze", [x, graph.constant(list(range(rank, 4)))])
        if self.learns:
            centred, variance = onnx_moments(graph, x, [0, 2, 3])
            for top, value in zip(tops[1:], (onnx_mean(graph, x, [0, 2, 3]), variance), strict=False):
                graph.node("Identity", [value], [top])
            x = graph.add("Div", [centred, graph.add("Sqrt", [graph.add("Add", [variance, graph.constant(self.EPS)])])])
        graph.node("Add", [graph.add("Mul", [x, graph.parameter(self, 0)]), graph.parameter(self, 1)], tops[:1])


class _Stored(torch.autograd.Function):
    """Normalized by stored statistics, with the gradient that the fork has there unless the layer is frozen.

    It is that of normalization by the batch, of values and deviations that are not the batch's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, slope, mean, inverse)
        return F.batch_norm(x, mean, variance, slope, bias, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, slope, mean, inverse = ctx.saved_tensors
        axes = [0, *range(2, x.dim())]
        normed = (x - column(mean, x.dim())) * column(inverse, x.dim())
        diff = seed * column(slope, x.dim())
        inner = normed * (diff * normed).mean(axes, keepdim=True) + diff.mean(axes, keepdim=True)
        found = (diff - inner) * column(inverse, x.dim())
        return found, (normed * seed).sum(axes), seed.sum(axes), None, None, None


@register(when=_means_pspnet, dialect="pspnet")
class MovingBN(_BN):
    """Normalization with a learned slope and bias, and moving averages of the statistics.

    Blobs: slope, bias, and the averages of mean and *variance* [1, C, 1, 1] (yjxiong/caffe: [1, C]; files may have
    either).  In TRAIN the statistics are the batch's, the variance biased, and new averages are momentum x old +
    (1 - momentum) x the batch's; no solver updates them.  In TEST, and with ``frozen`` in both phases, they are the
    averages, and a frozen layer's slope and bias are not learned either; its variance starts at 1, not 0.  In TEST
    without ``frozen`` the gradient of the bottom is the fork's, which takes the averages for the batch's statistics.
    Source: ``bn_layer.cpp`` of hszhao/PSPNet and yjxiong/caffe.
    """

    phase_dependent = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("bn_param")
        section.ignore("engine", "icnet")
        self.momentum, self.eps, self.frozen = float(section.momentum), float(section.eps), bool(section.frozen)
        if not self.eps > 0:
            raise self.error(f"bn_param.eps is {self.eps:g}, expected a positive number")
        self.channels = self.check_bottom(bottoms)[1]
        shape = (1, self.channels, 1, 1)
        self.add_blob(shape, section.filler("slope_filler", Filler()), learnable=not self.frozen)
        self.add_blob(shape, section.filler("bias_filler", Filler()), learnable=not self.frozen)
        self.add_blob(shape, learnable=False)
        self.add_blob(shape, Filler(value=1.0 if self.frozen else 0.0), learnable=False)

    @property
    def stored(self) -> bool:
        """Whether the moving averages are used."""
        return self.frozen or not self.training

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels, unless the statistics are those of the batch."""
        return spans if self.stored else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        return [self.check_channels(bottoms)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize; with batch statistics also update the averages."""
        slope, bias, mean, variance = (self.blob(index).reshape(-1) for index in range(4))
        if not bottom.numel():
            return bottom * column(slope, bottom.dim())
        if self.frozen:
            return F.batch_norm(bottom, mean.detach(), variance.detach(), slope, bias, eps=self.eps)
        if not self.training:
            moving = mean.detach(), variance.detach()
            found: Tensor = _Stored.apply(bottom, slope, bias, *moving, self.eps)  # type: ignore[no-untyped-call]
            return found
        top, now_mean, now_variance = by_batch(bottom, slope, bias, self.eps)
        with torch.no_grad():
            for index, now in ((2, now_mean), (3, now_variance)):
                average = self.blob(index)
                average.mul_(self.momentum).add_((1 - self.momentum) * now.reshape(average.shape))
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """BatchNormalization."""
        blobs = [graph.constant(self.blob(index).detach().float().cpu().numpy().reshape(-1)) for index in range(4)]
        graph.node("BatchNormalization", [bottoms[0], *blobs], tops, epsilon=self.eps)
