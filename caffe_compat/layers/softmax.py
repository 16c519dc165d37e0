"""Softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient

__all__ = ["Softmax", "softmax_section"]


def softmax_section(params: Params, bottom: Shape) -> Section:
    """The ``softmax_param`` of a layer that has a softmax in it; ``engine`` means nothing here.

    Raises:
        LayerError: the bottom does not have the axis.
    """
    section = params.section("softmax_param")
    section.ignore("engine")
    if section.normalize_type != "Softmax":  # happynear/caffe-windows's
        raise params.error(f"softmax_param.normalize_type is '{section.normalize_type}', expected Softmax")
    section.axis("axis", len(bottom))
    return section


@register
class Softmax(NeuronLayer):
    """exp(x) divided by its sum along ``axis``; any number of axes."""

    caffe_type = "Softmax"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.softmax = softmax_section(params, bottoms[0])
        self.pointwise = self.softmax.axis("axis", len(bottoms[0])) < 2

    def backward_reads(self) -> Reads:
        """The top."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """top (diff - sum of diff times top)."""
        top = memory.tops[0]
        axis = self.softmax.axis("axis", top.dim())
        return with_gradient(top, memory.bottoms[0], lambda seed: top * (seed - (seed * top).sum(axis, keepdim=True)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom, which must have the axis."""
        self.softmax.axis("axis", len(bottoms[0]))
        return [tuple(bottoms[0])]

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch softmax."""
        return torch.softmax(bottom, self.softmax.axis("axis", bottom.dim()))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Softmax along the axis."""
        graph.node("Softmax", bottoms, tops, axis=self.softmax.axis("axis", len(graph.shape(bottoms[0]))))
