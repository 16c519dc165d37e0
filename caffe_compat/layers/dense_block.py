"""DenseBlock: a whole block of DenseNet in one layer, as Tongcheng's DenseNet and senlinuc/caffe_ocr have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.bn import by_batch, column
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.random import Draw

__all__ = ["DenseBlock"]


@register
class DenseBlock(Layer):
    """``numTransition`` times normalization, ReLU and a 3 x 3 convolution, whose channels are appended to its bottom.

    Tensor[N, C, H, W] becomes Tensor[N, C + numTransition growthRate, H, W].  With ``use_BC`` there are a 1 x 1
    convolution to 4 growthRate channels, a normalization and a ReLU before each 3 x 3 convolution.  The blobs, of all
    transitions in turn: filters, scales, biases, averages of means and of variances [1, channels, 1, 1]; with
    ``use_BC`` 1 x 1 filters and what their normalization has; last one number that nothing reads.  No convolution has a
    bias.  In TRAIN means and biased variances are the batch's, 1e-5 is added to a variance, and new averages are
    ``moving_average_fraction`` x the batch's (whose variance there is the unbiased one) + the rest of the old one; in
    TEST they are the averages.  With ``use_dropout`` TRAIN drops each new number with probability ``dropout_amount``
    and scales what is kept.

    As in the GPU code, by which nets were trained: the CPU code gathers sums of another kind, divides by them, and
    knows no dropout.  Its backward pass in TEST too is that of normalization by the batch.  ``initChannel``, kernels,
    pads and strides are read nowhere: the bottom has the channels, and windows are as above.  Specs of parameters are
    refused, as there.  Source: ``DenseBlock_layer.cpp`` and ``.cu`` of senlinuc/caffe_ocr.
    """

    caffe_type = "DenseBlock"
    has_blobs = True
    phase_dependent = True
    EPS: ClassVar[float] = 1e-5

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("denseblock_param")
        section.ignore("initChannel", "pad_h", "pad_w", "conv_verticalStride", "conv_horizentalStride")
        section.ignore("filter_H", "filter_W", "gpuIdx", "workspace_MB", "BC_ultra_space_efficient")
        self.times, self.growth = int(section.numTransition), int(section.growthRate)
        self.bottleneck, self.drops = bool(section.use_BC), bool(section.use_dropout)
        self.fraction, self.ratio = float(section.moving_average_fraction), float(section.dropout_amount)
        self._draw = Draw()
        self._check()
        self.channels = self._check_bottom(bottoms)[1]
        most = self.channels + self.times * self.growth
        if most > 2**31 - 1:
            raise self.error(f"denseblock_param makes {most} channels, expected less than 2^31")
        names = ("Filter_Filler", "BN_Scaler_Filler", "BN_Bias_Filler")
        self._add_blobs([section.filler(name, Filler()) for name in names])

    def _check(self) -> None:
        if self.times < 1 or self.growth < 1:
            raise self.error(
                f"denseblock_param has numTransition {self.times} and growthRate {self.growth}, expected positive "
                "numbers"
            )
        for name, value in (("moving_average_fraction", self.fraction), ("dropout_amount", self.ratio)):
            if not 0 <= value <= 1:
                raise self.error(f"denseblock_param.{name} is {value:g}, expected 0 to 1")
        if self.params.description.params:
            raise self.error("has param blocks, which the fork refuses: it writes those of its blobs itself")

    def _check_bottom(self, bottoms: Sequence[Shape]) -> Shape:
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and 0 not in shape[1:],
            f"the bottom has the shape {list(shape)}, expected 4 axes, all but the first positive",
        )
        return shape

    def _add_blobs(self, fillers: Sequence[Filler]) -> None:
        """Sets of one blob for each transition, as listed above."""
        wide = [self.channels + self.growth * index for index in range(self.times)]
        middle = [4 * self.growth] * self.times
        before = middle if self.bottleneck else wide
        self._add_set([(self.growth, channels, 3, 3) for channels in before], fillers[0])
        self._add_normalization(wide, fillers)
        if self.bottleneck:
            self._add_set([(4 * self.growth, channels, 1, 1) for channels in wide], fillers[0])
            self._add_normalization(middle, fillers)
        self.add_blob((1,), learnable=False)

    def _add_set(self, shapes: Sequence[Shape], filler: Filler, learnable: bool = True) -> None:
        for shape in shapes:
            self.add_blob(shape, filler, learnable)

    def _add_normalization(self, channels: Sequence[int], fillers: Sequence[Filler]) -> None:
        shapes = [(1, number, 1, 1) for number in channels]
        self._add_set(shapes, fillers[1])
        self._add_set(shapes, fillers[2])
        self._add_set(shapes, Filler(), learnable=False)
        self._add_set(shapes, Filler(value=1.0), learnable=False)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Of the convolutions."""
        ranges = [0, 5] if self.bottleneck else [0]
        filters = [self.blob_shapes[part * self.times + index] for part in ranges for index in range(self.times)]
        return tops[0][0] * count(tops[0], 2) * sum(count(shape) for shape in filters)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """More channels."""
        number, channels, *sides = self._check_bottom(bottoms)
        self.require(channels == self.channels, f"the bottom has {channels} channels, expected {self.channels}")
        return [(number, channels + self.times * self.growth, *sides)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Transition by transition."""
        merged = bottom
        for index in range(self.times):
            merged = torch.cat([merged, self._transition(merged, index)], 1)
        return merged

    def _transition(self, x: Tensor, index: int) -> Tensor:
        """The new channels; in TEST with the gradient of what TRAIN computes."""
        if self.training:
            new = self._computed(x, index, moving=False, gather=True)
            if not self.drops:
                return new
            mask = torch.empty_like(new).bernoulli_(1 - self.ratio, generator=self._draw.generator(new.device))
            return new * (mask / (1 - self.ratio) if self.ratio < 1 else mask)
        if not torch.is_grad_enabled():
            return self._computed(x, index, moving=True)
        with torch.no_grad():
            value = self._computed(x, index, moving=True)
        by_its_batch = self._computed(x, index, moving=False)
        return value + (by_its_batch - by_its_batch.detach())

    def _computed(self, x: Tensor, index: int, moving: bool, gather: bool = False) -> Tensor:
        x = self._normalized(x, self.times + index, moving, gather).relu()
        if self.bottleneck:
            x = F.conv2d(x, self.blob(5 * self.times + index))
            x = self._normalized(x, 6 * self.times + index, moving, gather).relu()
        return F.conv2d(x, self.blob(index), padding=1)

    def _normalized(self, x: Tensor, first: int, moving: bool, gather: bool) -> Tensor:
        """By the blobs ``first`` (scale) and the three that follow at distances of one set."""
        scale, shift, mean, variance = (self.blob(first + place * self.times).reshape(-1) for place in range(4))
        if moving:
            return (x - column(mean, 4)) * column((variance + self.EPS).rsqrt() * scale, 4) + column(shift, 4)
        top, now_mean, now_variance = by_batch(x, scale, shift, self.EPS)
        if gather and x.numel():
            number = count(x.shape) // x.shape[1]
            with torch.no_grad():
                for average, now in ((mean, now_mean), (variance, now_variance * number / max(number - 1, 1))):
                    average.mul_(1 - self.fraction).add_(self.fraction * now)
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """BatchNormalization, Relu, Conv and Concat for each transition."""
        merged = bottoms[0]
        for index in range(self.times):
            x = self._onnx_normalized(graph, merged, self.times + index)
            if self.bottleneck:
                x = graph.add("Conv", [x, graph.parameter(self, 5 * self.times + index)])
                x = self._onnx_normalized(graph, x, 6 * self.times + index)
            new = graph.add("Conv", [x, graph.parameter(self, index)], pads=[1, 1, 1, 1])
            if index + 1 == self.times:
                graph.node("Concat", [merged, new], tops, axis=1)
            else:
                merged = graph.add("Concat", [merged, new], axis=1)

    def _onnx_normalized(self, graph: OnnxGraph, x: str, first: int) -> str:
        numbers = [self.blob(first + place * self.times).detach() for place in range(4)]
        blobs = [graph.constant(blob.float().cpu().numpy().reshape(-1)) for blob in numbers]
        return graph.add("Relu", [graph.add("BatchNormalization", [x, *blobs], epsilon=self.EPS)])
