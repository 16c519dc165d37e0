"""BatchNorm, MVN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_compat.layers.base import Layer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.refused import NO_GRADIENT, Refused
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient

__all__ = ["MVN", "BatchNorm", "normalize_rows", "onnx_mean", "onnx_moments"]


@register
class BatchNorm(NeuronLayer):
    """(x - mean) / sqrt(variance + eps) per channel (axis 1); scale and shift are a Scale layer's.

    Blobs, none of them learned: sums of means [C] and of variances [C] and their weight [1], all decayed by
    moving_average_fraction; the statistics are the sums over the weight (0 while the weight is 0).  Batch statistics
    are used, and the sums updated, in every forward pass of the TRAIN phase, or as use_global_stats says.
    """

    caffe_type = "BatchNorm"
    has_blobs = True
    gathers = True
    statistics_section = "batch_norm_param"
    phase_dependent = True
    rates_refused: ClassVar[bool] = True  #: whether a ``lr_mult`` other than 0 for the statistics is an error

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One per number."""
        return count(tops[0])

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("batch_norm_param")
        self.use_global_stats: bool | None = section.optional("use_global_stats")
        self.fraction, self.eps = float(section.moving_average_fraction), float(section.eps)
        if not section.message.stats_batch_size:  # else PartBatchNorm is meant
            section.ignore("stats_batch_size")
        for index, spec in enumerate(params.description.params[:3]):
            if self.rates_refused and spec.lr_mult != 0:
                given = 1 if spec.lr_mult is None else spec.lr_mult
                raise self.error(f"param[{index}].lr_mult is {given:g}, expected 0: statistics are not learned")
        self.require(len(bottoms[0]) > 1, f"bottom has shape {list(bottoms[0])}, expected at least 2 axes")
        self.channels = bottoms[0][1]
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_blob(shape, learnable=False)

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels, unless the statistics are those of the batch."""
        return spans if self.global_stats else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        bottom = bottoms[0]
        self.require(
            len(bottom) > 1 and bottom[1] == self.channels,
            f"bottom has shape {list(bottom)}, expected {self.channels} channels on axis 1",
        )
        return [bottom]

    @property
    def global_stats(self) -> bool:
        """Whether the stored statistics are used."""
        return not self.training if self.use_global_stats is None else self.use_global_stats

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Stored mean [C] and variance [C]."""
        weight = self.blob(2)
        factor = torch.where(weight == 0, 0, 1 / weight)
        return self.blob(0) * factor, self.blob(1) * factor

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize; with batch statistics also update the blobs."""
        if self.global_stats:
            mean, variance = (value.detach() for value in self.statistics())
            if self.eps > 0:
                return F.batch_norm(bottom, mean, variance, eps=self.eps)
            shape = (-1, *[1] * (bottom.dim() - 2))
            return (bottom - mean.view(shape)) / (variance + self.eps).sqrt().view(shape)
        values = bottom.numel() // max(self.channels, 1)
        mean, variance = bottom.new_zeros(self.channels), bottom.new_zeros(self.channels)
        if values and self.eps <= 0:
            top, mean, variance = self._by_hand(bottom, values)
        elif values > 1:  # momentum 1: torch leaves the batch's mean and unbiased variance there
            top = F.batch_norm(bottom, mean, variance, training=True, momentum=1.0, eps=self.eps)
        else:
            top = bottom - bottom
            if values:
                mean = bottom.detach().reshape(self.channels)
        with torch.no_grad():
            self.blob(0).mul_(self.fraction).add_(mean)
            self.blob(1).mul_(self.fraction).add_(variance)
            self.blob(2).mul_(self.fraction).add_(1)
        return top

    def _by_hand(self, bottom: Tensor, values: int) -> tuple[Tensor, Tensor, Tensor]:
        """Top, means and unbiased variances, for the eps that torch refuses; NaN as the root of less than 0."""
        axes = [0, *range(2, bottom.dim())]
        centred = bottom - bottom.mean(axes, keepdim=True)
        spread = centred.square().mean(axes, keepdim=True)
        variance = spread.detach().reshape(self.channels) * (values / max(values - 1, 1))
        return centred / (spread + self.eps).sqrt(), bottom.detach().mean(axes), variance

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """BatchNormalization, or the batch's own statistics where the prototxt asks for them in TEST too."""
        if self.use_global_stats is False:
            axes = [0, *range(2, len(graph.shape(bottoms[0])))]
            centred, variance = onnx_moments(graph, bottoms[0], axes)
            deviation = graph.add("Sqrt", [graph.add("Add", [variance, graph.constant(self.eps)])])
            graph.node("Div", [centred, deviation], tops)
            return
        mean, variance_ = (value.detach().float().cpu().numpy() for value in self.statistics())
        ones = torch.ones(self.channels).numpy()
        blobs = [graph.constant(value) for value in (ones, 0 * ones, mean, variance_)]
        graph.node("BatchNormalization", [bottoms[0], *blobs], tops, epsilon=self.eps)


class _Normalize(torch.autograd.Function):
    """(x - mean) / (deviation + eps) per row; the gradient takes deviation + eps for the deviation, as Caffe's does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        deviation = centred.square().mean(1, keepdim=True).sqrt_().add_(eps)
        y = centred.div_(deviation)
        ctx.save_for_backward(y, deviation)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        y, deviation = ctx.saved_tensors
        return _normalized_gradient(dy, y, deviation), None


def normalize_rows(rows: Tensor, eps: float) -> Tensor:
    """(x - mean) / (deviation + eps) of each row (Tensor[R, N]), with Caffe's gradient; N is 1 or more."""
    found: Tensor = _Normalize.apply(rows, eps)
    return found


def _normalized_gradient(dy: Tensor, y: Tensor, deviation: Tensor) -> Tensor:
    return (dy - dy.mean(1, keepdim=True) - y * (dy * y).mean(1, keepdim=True)) / deviation


@register
class MVN(Layer):
    """Mean-variance normalization per image and channel, or per image with across_channels.

    eps is added to the standard deviation, not to the variance.  The top always has four axes: missing ones become 1.
    The gradient in place, which Caffe computes from overwritten values, is refused.
    """

    caffe_type = "MVN"
    in_place = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("mvn_param")
        self.variance, self.across = bool(section.normalize_variance), bool(section.across_channels)
        self.eps = float(section.eps)

    def backward_reads(self) -> Reads:
        """The top, if the variance is normalized; in place there is no such gradient."""
        return Reads(tops=(0,)) if self.variance and not self.params.in_place else Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """Caffe's formula with the deviation of the forward pass."""
        (then,), (bottom,), (top,) = memory.then, memory.bottoms, memory.tops
        rows = then.reshape(top.shape[0] if self.across else top.shape[0] * top.shape[1], -1)
        deviation = (rows - rows.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt_().add_(self.eps)
        y = top.reshape(rows.shape)

        def rule(seed: Tensor) -> Tensor:
            dy = seed.reshape(rows.shape)
            return _normalized_gradient(dy, y, deviation).reshape(bottom.shape)

        return with_gradient(top, bottom, rule)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C, H, W]."""
        bottom = bottoms[0]
        self.require(len(bottom) <= 4, f"bottom has shape {list(bottom)}, expected at most 4 axes")
        return [(*bottom, *[1] * (4 - len(bottom)))]

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize."""
        shape = (*bottom.shape, *[1] * (4 - bottom.dim()))
        if not bottom.numel():
            return bottom.reshape(shape)
        rows = bottom.reshape(shape[0] if self.across else shape[0] * shape[1], -1)
        if not self.variance:
            return (rows - rows.mean(1, keepdim=True)).view(shape)
        if not self.params.in_place:
            return normalize_rows(rows, self.eps).view(shape)
        with torch.no_grad():
            top = _Normalize.apply(rows, self.eps).view(shape)
        refused: Tensor = Refused.apply(bottom, top, self.error(NO_GRADIENT))
        return refused

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ReduceMean and elementwise nodes."""
        x, rank = bottoms[0], len(graph.shape(bottoms[0]))
        if rank < 4:
            x = graph.add("Unsqueeze", [x, graph.constant(list(range(rank, 4)))])
        axes = [1, 2, 3] if self.across else [2, 3]
        if not self.variance:
            graph.node("Sub", [x, onnx_mean(graph, x, axes)], tops)
            return
        centred, variance = onnx_moments(graph, x, axes)
        deviation = graph.add("Add", [graph.add("Sqrt", [variance]), graph.constant(self.eps)])
        graph.node("Div", [centred, deviation], tops)


def onnx_mean(graph: OnnxGraph, x: str, axes: Sequence[int]) -> str:
    """Mean over axes, which stay with size 1."""
    if graph.opset < 18:
        return graph.add("ReduceMean", [x], axes=list(axes), keepdims=1)
    return graph.add("ReduceMean", [x, graph.constant(list(axes))], keepdims=1)


def onnx_moments(graph: OnnxGraph, x: str, axes: Sequence[int]) -> tuple[str, str]:
    """x less its mean, and its biased variance."""
    centred = graph.add("Sub", [x, onnx_mean(graph, x, axes)])
    return centred, onnx_mean(graph, graph.add("Mul", [centred, centred]), axes)
