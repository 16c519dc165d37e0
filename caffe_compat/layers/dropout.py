"""Layers that drop numbers at random: Dropout, and whole channels as ENet's layer written in Python does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.data.regions import is_named, read_yaml
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.random import Draw

__all__ = ["Dropout", "SpatialDropoutLayer"]


@register
class Dropout(NeuronLayer):
    """TRAIN: drops each element with probability dropout_ratio; TEST: its bottom, unchanged.

    What is kept is scaled by 1 / (1 - ratio) in TRAIN.  With ``scale_train: false`` (faster-rcnn's fork) it is not, and
    TEST scales by 1 - ratio instead.  With ``sample_weights_test`` TEST does what TRAIN does: Bayesian SegNet takes the
    mean and the variance of many passes (``dropout_layer.cpp`` of alexgkendall/caffe-segnet).
    """

    homogeneous = True
    precision = "any"
    caffe_type = "Dropout"
    phase_dependent = True
    keeps_sign = True  # a dropped number is 0, and so is its gradient

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        dropout = params.section("dropout_param")
        self.ratio, self.scale_train = float(dropout.dropout_ratio), bool(dropout.scale_train)
        self.always = bool(dropout.sample_weights_test)
        if not 0 <= self.ratio <= 1:
            raise self.error(f"dropout_param.dropout_ratio is {self.ratio:g}, expected 0 to 1")
        if self.always and not self.scale_train:
            raise self.error("dropout_param has sample_weights_test and scale_train: false, of two forks; expected one")
        self._draw = Draw()

    def forward(self, bottom: Tensor) -> Tensor:
        """A new mask every time in TRAIN."""
        kept = 1 - self.ratio
        if not (self.training or self.always):
            return bottom if self.scale_train else bottom * kept
        mask = torch.empty_like(bottom).bernoulli_(kept, generator=self._draw.generator(bottom.device))
        return bottom * (mask.div_(kept) if self.scale_train and kept else mask)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """What it is in TEST: nothing, a factor, or ONNX's Dropout in its training mode."""
        if self.always:
            ratio, training = graph.constant(self.ratio), graph.constant(np.array(True))
            graph.node("Dropout", [bottoms[0], ratio, training], tops)
        elif self.scale_train:
            graph.node("Identity", bottoms, tops)
        else:
            graph.node("Mul", [bottoms[0], graph.constant(1 - self.ratio)], tops)


class _Channels(torch.autograd.Function):
    """Factors for the channels of each image; the gradient takes those of the last image for all."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors[-1:])
        return bottom * factors

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (last,) = ctx.saved_tensors
        return seed * last, None


@register(
    when=lambda params: is_named(params, "spatial_dropout", "SpatialDropoutLayer"), dialect="enet: SpatialDropoutLayer"
)
class SpatialDropoutLayer(NeuronLayer):
    """ENet's dropout of whole channels, which prototxts name as a layer written in Python.

    ``param_str`` is ``{'phase': 'TRAIN', 'p': '0.01'}``, and its phase counts, not that of the net.  TRAIN: each
    channel of each image is dropped with probability p; TEST: all are kept.  Both scale by 1 / (1 - p), TEST too.  As
    in the original, all images of a batch get the gradient that the mask of the last one makes.  Source:
    ``python/spatial_dropout.py`` of TimoSaemann/caffe-enet.
    """

    caffe_type = "Python"
    homogeneous = True
    keeps_sign = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        text = str(section.param_str)
        values = read_yaml(self, text, "{'phase': 'TEST', 'p': '0.01'}")
        phase, probability = values.get("phase"), values.get("p")
        if set(values) != {"phase", "p"}:
            raise self.error(f"param_str is {text!r}, expected phase and p in it and nothing else")
        if phase not in ("TRAIN", "TEST"):
            raise self.error(f"param_str: phase is {phase!r}, expected 'TRAIN' or 'TEST'")
        try:
            self.p = float(str(probability))
        except ValueError as error:
            raise self.error(f"param_str: p is {probability!r}, expected a number between 0 and 1") from error
        if not 0 < self.p < 1:
            raise self.error(f"param_str: p is {self.p:g}, expected a number between 0 and 1")
        self.drops = phase == "TRAIN"
        self._draw = Draw()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom, N x C x H x W."""
        self.require(len(bottoms[0]) == 4, f"expected 4 axes, the bottom has the shape {list(bottoms[0])}")
        return super().top_shapes(bottoms)

    def forward(self, bottom: Tensor) -> Tensor:
        """A new mask every time, if its phase is TRAIN."""
        if not self.drops:
            return bottom * (1 / (1 - self.p))
        mask = bottom.new_empty((*bottom.shape[:2], 1, 1))
        mask.bernoulli_(1 - self.p, generator=self._draw.generator(bottom.device))
        top: Tensor = _Channels.apply(bottom, mask.div_(1 - self.p))
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """The factor of TEST; what drops is for training."""
        if self.drops:
            raise self.export_error("its param_str says phase TRAIN, in which it drops channels at random")
        graph.node("Mul", [bottoms[0], graph.constant(1 / (1 - self.p))], tops)
