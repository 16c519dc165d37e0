"""What synopsys-caffe adds to Pooling and BatchNorm: padding as TensorFlow's SAME, eps added to the deviation.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``pooling_layer.cpp``, ``batch_norm_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from caffe_compat.layers.base import OnnxGraph, Shape
from caffe_compat.layers.bn import column
from caffe_compat.layers.normalization import BatchNorm, normalize_rows, onnx_moments
from caffe_compat.layers.params import Params
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.pooling_onnx import write_pool
from caffe_compat.layers.registry import register
from caffe_compat.layers.windows import PoolWindow

__all__ = ["DeviationBatchNorm", "SamePooling"]


@register(when=lambda params: params.section("pooling_param").has("pad_type"), dialect="synopsys", marked=True)
class SamePooling(Pooling):
    """Pooling with ``pad_type``: 1 pads so that the top has size / stride pixels, rounded up; 0 is no padding.

    An odd pixel of padding is at the end: TensorFlow's SAME.  Other paddings exclude the field.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("pooling_param")
        kind = int(section.pad_type)
        if kind not in (0, 1):
            raise params.error(f"pooling_param.pad_type is {kind}, expected 0 or 1")
        self.same = False
        super().__init__(params, bottoms)
        if any(section.has(f"pad{side}") for side in ("", "_h", "_w", "_t", "_b", "_l", "_r")):
            raise self.error("pooling_param has pad_type and another padding, expected one of them")
        self.same = kind == 1

    def window_for(self, image: Sequence[int]) -> PoolWindow:
        """The window with what padding this image needs."""
        window = super().window_for(image)
        if not self.same:
            return window
        sides = zip(image, window.kernel, window.stride, strict=True)
        high, wide = (max(kernel - (size % stride or stride), 0) for size, kernel, stride in sides)
        before = (high // 2, wide // 2)
        return replace(window, pad=before, tail=(high - before[0], wide - before[1]), ceil=False)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Those of Pooling; SAME needs a fixed height and width."""
        if not self.same:
            super().to_onnx(graph, bottoms, tops)
            return
        image = [size for size in graph.shape(bottoms[0])[2:] if size is not None]
        if len(image) < 2:
            raise self.export_error("height and width decide the padding of pad_type 1, expected fixed ones")
        write_pool(graph, self.method, bottoms[0], tops, self.window_for(image))


def _says_where_eps_is(params: Params) -> bool:
    return params.section("batch_norm_param").has("add_eps_before_sqrt")


@register(when=_says_where_eps_is, dialect="synopsys", marked=True)
class DeviationBatchNorm(BatchNorm):
    """BatchNorm with ``add_eps_before_sqrt``: where false, (x - mean) / (deviation + eps), as Darknet has it.

    The gradient with the batch's statistics takes deviation + eps for the deviation, as the fork's does.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.before = bool(params.section("batch_norm_param").add_eps_before_sqrt)

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize; with batch statistics also update the blobs."""
        if self.before:
            return super().forward(bottom)
        if self.global_stats:
            mean, variance = (column(value.detach(), bottom.dim()) for value in self.statistics())
            return (bottom - mean) / (variance.sqrt() + self.eps)
        values = bottom.numel() // max(self.channels, 1)
        mean, variance = bottom.new_zeros(self.channels), bottom.new_zeros(self.channels)
        top = bottom
        if values:
            rows = bottom.transpose(0, 1).reshape(self.channels, values)
            top = normalize_rows(rows, self.eps).view(bottom.transpose(0, 1).shape).transpose(0, 1)
            with torch.no_grad():
                mean, variance = rows.mean(1), rows.var(1, correction=int(values > 1))
        with torch.no_grad():
            for index, now in enumerate((mean, variance, torch.ones_like(self.blob(2)))):
                self.blob(index).mul_(self.fraction).add_(now)
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """BatchNormalization of the squared sum of deviation and eps, or the batch's own statistics."""
        if self.before:
            super().to_onnx(graph, bottoms, tops)
            return
        if self.use_global_stats is False:
            axes = [0, *range(2, len(graph.shape(bottoms[0])))]
            centred, variance = onnx_moments(graph, bottoms[0], axes)
            deviation = graph.add("Add", [graph.add("Sqrt", [variance]), graph.constant(self.eps)])
            graph.node("Div", [centred, deviation], tops)
            return
        mean, variance_ = (value.detach().double() for value in self.statistics())
        scale = 1 / (variance_.sqrt() + self.eps)
        factors = (column(value.cpu(), len(graph.shape(bottoms[0]))).float().numpy() for value in (mean, scale))
        mean_, scale_ = (graph.constant(value) for value in factors)
        graph.node("Mul", [graph.add("Sub", [bottoms[0], mean_]), scale_], tops)
