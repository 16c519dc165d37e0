"""Transpose and Reverse, for layers over sequences.

Source: ``transpose_layer.cpp`` and ``reverse_layer.cpp`` of tianzhi0549/CTPN and senlinuc/caffe_ocr.  The Reverse of
jolibrain/caffe and MhLiao/TextBoxes_plusplus is the same, that of synopsys-caffe takes several axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["Reverse", "Transpose"]


@register
class Transpose(Layer):
    """Axes in another order, always copied; ``dim`` names all axes of the bottom once."""

    caffe_type = "Transpose"
    homogeneous = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.order = tuple(int(axis) for axis in params.section("transpose_param").dim)
        if sorted(self.order) != list(range(len(bottoms[0]))) or not self.order:
            raise self.shape_error(
                f"transpose_param.dim is {list(self.order)}, expected axes 0 to {len(bottoms[0]) - 1} of the bottom, "
                "each once"
            )

    def backward_reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def batch_axis(self, bottom: int) -> int:
        """The first, wherever it goes."""
        return 0

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims in the new order."""
        (bottom,) = bottoms
        self.require(
            len(bottom) == len(self.order),
            f"the bottom has the shape {list(bottom)}, expected {len(self.order)} axes as transpose_param.dim",
        )
        return [tuple(bottom[axis] for axis in self.order)]

    def forward(self, bottom: Tensor) -> Tensor:
        """A copy."""
        return bottom.permute(self.order).clone(memory_format=torch.contiguous_format)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """The operator of that name."""
        graph.node("Transpose", bottoms, tops, perm=list(self.order))


@register
class Reverse(Layer):
    """The other way round along ``axis``, by default the first; not in place."""

    caffe_type = "Reverse"
    homogeneous = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        rank, section = len(bottoms[0]), params.section("reverse_param")
        self.axes = sorted({section.canonical_axis(int(axis), rank) for axis in section.value("axis") or [0]})

    def backward_reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        (bottom,) = bottoms
        self.require(
            self.axes[-1] < len(bottom), f"the bottom has the shape {list(bottom)}, expected an axis {self.axes[-1]}"
        )
        return [tuple(bottom)]

    def forward(self, bottom: Tensor) -> Tensor:
        """A copy."""
        return bottom.flip(self.axes)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Slice with steps of -1."""
        number = len(self.axes)
        bounds = [[-1] * number, [-(2**31)] * number, self.axes, [-1] * number]
        graph.node("Slice", [bottoms[0], *map(graph.constant, bounds)], tops)
