"""Domain guided dropout: channels are kept by how much each helps, which a second bottom says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.random import Draw

__all__ = ["GuidedDropout"]


@register(dialect="Cysu/caffe")
class GuidedDropout(Layer):
    """Drops channels of each item by their guidance, and scales what stays.

    Bottoms: values [N, C, ...] and guidance [N, C] (or [N, C, 1, 1]), which gets no gradient.
    ``type: "deterministic"`` (the default) keeps the channels whose guidance is above ``guidance_threshold``, in both
    phases, times C / their number.  ``"stochastic"`` keeps in TRAIN a channel with the probability
    p = sigmoid(guidance x ``sigmoid_scaler``), times C / the sum of all p of the item; TEST passes its bottom.
    Source: ``guided_dropout_layer.cpp`` of Cysu/caffe, branch domain-guided-dropout.
    """

    caffe_type = "GuidedDropout"
    bottom_count = (2, 2)
    in_place = True
    phase_dependent = True
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("guided_dropout_param")
        kind = str(section.type)
        if kind not in ("deterministic", "stochastic"):
            raise self.error(f"guided_dropout_param.type is '{kind}', expected 'deterministic' or 'stochastic'")
        self.draws = kind == "stochastic"
        self.threshold, self.scaler = float(section.guidance_threshold), float(section.sigmoid_scaler)
        self._draw = Draw()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the values."""
        values, guidance = (tuple(bottom) for bottom in bottoms)
        self.require(len(values) >= 2, f"bottom 0 has the shape {list(values)}, expected N x C x ...")
        self.require(
            guidance[:2] == values[:2] and count(guidance, 2) == 1,
            f"bottom 1 has the shape {list(guidance)}, expected {list(values[:2])}",
        )
        return [values]

    def forward(self, bottom: Tensor, guidance: Tensor) -> Tensor:
        """Factors for whole channels."""
        if self.draws and not self.training:
            return bottom
        guidance = guidance.detach().reshape(guidance.shape[:2])
        if self.draws:
            chance = torch.sigmoid(guidance * self.scaler)
            drawn = torch.empty_like(guidance).uniform_(generator=self._draw.generator(guidance.device))
            kept, total = (drawn <= chance).to(bottom), chance.sum(1, keepdim=True)
        else:
            kept = (guidance > self.threshold).to(bottom)
            total = kept.sum(1, keepdim=True)
        factors = kept * torch.where(total > 0, guidance.shape[1] / total.clamp(min=1e-30), torch.ones_like(total))
        return bottom * factors.reshape(*factors.shape, *[1] * (bottom.dim() - 2))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """What it is in TEST: nothing, or the channels above the threshold."""
        if self.draws:
            graph.node("Identity", bottoms[:1], tops)
            return
        add, constant = graph.add, graph.constant
        shape = graph.shape(bottoms[0])
        if shape[1] is None:
            raise self.export_error("expected a static number of channels")
        rows = add("Reshape", [bottoms[1], constant([0, shape[1]])])
        kept = add("Cast", [add("Greater", [rows, constant(self.threshold)])], to=1)
        total = add("Max", [add("ReduceSum", [kept, constant([1])], keepdims=1), constant(1.0)])
        factors = add("Div", [add("Mul", [kept, constant(float(shape[1]))]), total])
        wide = add("Reshape", [factors, constant([0, shape[1], *[1] * (len(shape) - 2)])])
        graph.node("Mul", [bottoms[0], wide], tops)
