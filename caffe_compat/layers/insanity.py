"""Leaky ReLU whose slope is drawn for every number: Insanity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads
from caffe_compat.random import Draw

__all__ = ["Insanity"]


@register(dialect="normface")
class Insanity(NeuronLayer):
    """x where it is positive, else x / a: in TRAIN with an a between ``lb`` and ``ub`` for every number.

    In TEST a is (ub - lb) / (ln |ub| - ln |lb|).  Source: ``insanity_layer.cpp`` and ``.cu`` of
    happynear/caffe-windows; its CPU code takes the numbers drawn last for the gradient in TEST, its GPU code, followed
    here, a.
    """

    caffe_type = "Insanity"
    phase_dependent = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("insanity_param")
        self.low, self.high = float(section.lb), float(section.ub)
        if not -math.inf < self.low < self.high < math.inf or self.low == 0 or self.high == 0:
            raise self.error(
                f"insanity_param.lb is {self.low:g} and ub {self.high:g}, expected lb below ub, and neither 0"
            )
        spread = math.log(abs(self.high)) - math.log(abs(self.low))
        self.mean = (self.high - self.low) / spread if spread else math.inf
        self.keeps_sign = self.low > 0
        self._draw = Draw()

    def backward_reads(self) -> Reads:
        """The bottom, of which a layer in place with a negative lb has a copy."""
        return Reads() if self.params.in_place and self.low < 0 else Reads(bottoms=(0,), sign=True)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's, of 2 axes or more."""
        self.require(len(bottoms[0]) > 1, f"the bottom has the shape {list(bottoms[0])}, expected 2 axes or more")
        return super().top_shapes(bottoms)

    def forward(self, bottom: Tensor) -> Tensor:
        """New slopes every time in TRAIN."""
        if not self.training:
            return torch.where(bottom > 0, bottom, bottom / self.mean)
        divisor = torch.empty_like(bottom).uniform_(self.low, self.high, generator=self._draw.generator(bottom.device))
        return torch.where(bottom > 0, bottom, bottom / divisor)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """LeakyRelu with the mean slope."""
        graph.node("LeakyRelu", bottoms, tops, alpha=float(np.float32(1 / self.mean)))
