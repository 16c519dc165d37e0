"""Layers that repeat their bottom, or make blocks of pixels of channels: Tile, RepMat, Tiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register

__all__ = ["RepMat", "Tile", "Tiling"]


@register
class Tile(Layer):
    """The bottom ``tiles`` times along an axis, whole blocks one behind the other (numpy's tile)."""

    caffe_type = "Tile"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("tile_param")
        self.section.ignore("axis")
        self.tiles = int(self.section.tiles)
        if self.tiles < 1:
            raise self.error(f"tile_param.tiles is {self.tiles}, expected a positive number (it is required)")

    def _repeats(self, rank: int) -> list[int]:
        axis = self.section.axis("axis", rank)
        return [self.tiles if i == axis else 1 for i in range(rank)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom, times ``tiles`` along the axis."""
        repeats = self._repeats(len(bottoms[0]))
        return [tuple(dim * times for dim, times in zip(bottoms[0], repeats, strict=True))]

    def forward(self, bottom: Tensor) -> Tensor:
        """torch's repeat."""
        return bottom.repeat(self._repeats(bottom.dim()))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Tile."""
        graph.node("Tile", [bottoms[0], graph.constant(self._repeats(len(graph.shape(bottoms[0]))))], tops)


@register
class RepMat(Layer):
    """caffe-sds: the bottom ``rep_n`` x ``rep_c`` x ``rep_h`` x ``rep_w`` times (numpy's tile); the top has 4 axes."""

    caffe_type = "RepMat"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("repmat_param")
        self.repeats = [int(section.rep_n), int(section.rep_c), int(section.rep_h), int(section.rep_w)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Four axes: the dims of the bottom, with ones behind if it has fewer, times the repetitions."""
        shape = bottoms[0]
        self.require(len(shape) <= 4, f"the bottom has shape {list(shape)}, expected at most 4 axes")
        dims = [*shape, *[1] * (4 - len(shape))]
        return [tuple(dim * times for dim, times in zip(dims, self.repeats, strict=True))]

    def forward(self, bottom: Tensor) -> Tensor:
        """torch's repeat."""
        return bottom.reshape(*bottom.shape, *[1] * (4 - bottom.dim())).repeat(self.repeats)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Unsqueeze where axes are missing, then Tile."""
        rank = len(graph.shape(bottoms[0]))
        bottom = bottoms[0]
        if rank < 4:
            bottom = graph.add("Unsqueeze", [bottom, graph.constant(list(range(rank, 4)))])
        graph.node("Tile", [bottom, graph.constant(self.repeats)], tops)


@register
class Tiling(Layer):
    """Channels that become blocks of ``tile_dim`` x ``tile_dim`` pixels of one channel: PixelShuffle.

    Tensor[N, C r r, H, W] -> Tensor[N, C, H r, W r]; channel c r r + y r + x is row y and column x of a block.
    Source: ``tiling_layer.cpp`` of SeokjuLee/VPGNet.
    """

    homogeneous = True
    precision = "any"
    caffe_type = "Tiling"
    field: ClassVar[tuple[str, str]] = ("tiling_param", "tile_dim")

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section, name = self.field
        self.side = int(params.section(section).value(name))
        if self.side < 1:
            raise self.error(f"{section}.{name} is {self.side}, expected 1 or more")

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The pixels whose blocks are touched."""
        rows, columns = ((first // self.side, last // self.side) for first, last in spans)
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C, H r, W r]."""
        shape, block = tuple(bottoms[0]), self.side**2
        self.require(
            len(shape) == 4 and shape[1] % block == 0,
            f"bottom has shape {list(shape)}, expected 4 axes and a multiple of {block} channels ({self.field[1]} "
            f"{self.side})",
        )
        return [(shape[0], shape[1] // block, shape[2] * self.side, shape[3] * self.side)]

    def forward(self, bottom: Tensor) -> Tensor:
        """torch's pixel_shuffle."""
        if not bottom.numel():
            return bottom.reshape(self.top_shapes([tuple(bottom.shape)])[0])
        return F.pixel_shuffle(bottom, self.side)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """DepthToSpace."""
        graph.node("DepthToSpace", bottoms, tops, blocksize=self.side, mode="CRD")
