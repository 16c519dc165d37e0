"""Layers of caffe-sds that resize maps to a given height and width: SimpleUpsample, Upsample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.hypercolumn import tents
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register

__all__ = ["SimpleUpsample", "Upsample"]


class _SizeLayer(Layer):
    """What the layers share that resize to a given height and width."""

    centre = 1  #: where pixel 0 samples, in halves of a pixel

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("upsample_param")
        for name in ("width", "height"):
            if not section.optional(name):
                raise self.error(f"upsample_param.{name} is missing or 0, expected a positive number")
        self.size = (int(section.height), int(section.width))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The two pixels on either side of where each samples."""
        rows, columns = (
            (
                ((2 * first + self.centre) * cells - size) // (2 * size),
                ((2 * last + self.centre) * cells - size) // (2 * size) + 1,
            )
            for (first, last), cells, size in zip(spans, bottoms[0][2:], self.size, strict=True)
        )
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        self.require(len(bottoms[0]) == 4, f"expected 4 axes, the bottom has the shape {list(bottoms[0])}")
        self.require(min(bottoms[0][2:]) > 0, f"the bottom has the shape {list(bottoms[0])}, expected some pixels")
        return [(*bottoms[0][:2], *self.size)]


@register
class SimpleUpsample(_SizeLayer):
    """Bilinear resizing with half-pixel centres; the gradient is exact (that of caffe-sds is not)."""

    caffe_type = "SimpleUpsample"

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch interpolation."""
        if not bottom.numel():
            return bottom.new_zeros(*bottom.shape[:2], *self.size)
        return F.interpolate(bottom, self.size, mode="bilinear", align_corners=False)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Resize; batch and channels are those of the bottom."""
        shape = graph.add("Shape", bottoms)
        kept = graph.add("Slice", [shape, graph.constant([0]), graph.constant([2])])
        sizes = graph.add("Concat", [kept, graph.constant(list(self.size))], axis=0)
        graph.node(
            "Resize", [bottoms[0], "", "", sizes], tops, mode="linear", coordinate_transformation_mode="half_pixel"
        )


@register
class Upsample(_SizeLayer):
    """Bilinear resizing that samples at i * in / out - 0.5: half an output pixel aside of SimpleUpsample."""

    caffe_type = "Upsample"
    centre = 0

    def forward(self, bottom: Tensor) -> Tensor:
        """One product with the weights of the rows, one with those of the columns."""
        rows, columns = (self._weights(axis, bottom.shape[2 + axis], bottom) for axis in (0, 1))
        return rows @ bottom @ columns.T

    def _weights(self, axis: int, cells: int, like: Tensor) -> Tensor:
        at = torch.arange(self.size[axis], dtype=torch.float64, device=like.device)
        return tents(at * cells / self.size[axis] - 0.5, cells).to(like)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Two products with constants, which depend on height and width."""
        _, _, height, width = graph.static_shape(bottoms[0], "the weights depend on its size")
        like = torch.empty(0)
        rows, columns = (self._weights(axis, cells, like).numpy() for axis, cells in enumerate((height, width)))
        high = graph.add("MatMul", [graph.constant(rows, np.float32), bottoms[0]])
        graph.node("MatMul", [high, graph.constant(np.ascontiguousarray(columns.T), np.float32)], tops)
