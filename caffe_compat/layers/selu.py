"""Self-normalizing units: SeLu and the dropout that belongs to it.

Source: ``selu_layer.cpp`` and ``selu_dropout_layer.cpp`` of soeaver/py-RFCN-priv.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads
from caffe_compat.random import Draw

__all__ = ["SeLu", "SeLuDropout"]


@register(dialect="rfcn")
class SeLu(NeuronLayer):
    """lambda x where x > 0, else lambda alpha (exp(x) - 1).  In place the gradient takes the top for the bottom."""

    caffe_type = "SeLu"
    survives_in_place = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("selu_param")
        self.scale, self.alpha = float(section.value("lambda")), float(section.alpha)

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return F.elu(bottom, self.alpha) * self.scale

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Selu."""
        graph.node("Selu", bottoms, tops, alpha=self.alpha, gamma=self.scale)


@register(dialect="rfcn")
class SeLuDropout(NeuronLayer):
    """TRAIN: a x + b, with alpha for x where it is dropped, so that mean and variance stay; TEST: its bottom.

    With q = 1 - dropout_ratio, a is 1 / sqrt(q (1 + alpha^2 (1 - q))) and b is -a (1 - q) alpha.
    """

    caffe_type = "SeLuDropout"
    phase_dependent = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("selu_dropout_param")
        self.ratio, self.alpha = float(section.dropout_ratio), float(section.alpha)
        if not 0 <= self.ratio < 1:
            raise self.error(f"selu_dropout_param.dropout_ratio is {self.ratio:g}, expected 0 to below 1")
        kept = 1 - self.ratio
        self.factor = (kept * (1 + self.alpha**2 * self.ratio)) ** -0.5
        self.shift = -self.factor * self.ratio * self.alpha
        self._draw = Draw()

    def forward(self, bottom: Tensor) -> Tensor:
        """A new mask every time in TRAIN."""
        if not self.training:
            return bottom
        mask = torch.empty_like(bottom).bernoulli_(1 - self.ratio, generator=self._draw.generator(bottom.device))
        dropped = self.factor * self.alpha + self.shift
        return torch.where(mask > 0, bottom * self.factor + self.shift, dropped)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """What it is in TEST: nothing."""
        graph.node("Identity", bottoms, tops)
