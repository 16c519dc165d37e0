"""Layers that pick parts of their bottoms: Crop, Filter, BatchReindex, PickSlice, PickItems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import NOTHING, Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import indices, marks
from caffe_compat.layers.sharing import Reads

__all__ = ["BatchReindex", "Crop", "Filter", "PickItems", "PickSlice"]

FLOAT = 1  #: onnx.TensorProto.FLOAT
INT64 = 7  #: onnx.TensorProto.INT64


@register
class Crop(Layer):
    """Cuts bottom 0 to the size of bottom 1 along ``axis`` and all behind it, starting at ``offset``.

    Bottom 1 gets no gradient: only its shape matters.
    """

    caffe_type = "Crop"
    precision = "any"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("crop_param")
        self.section.ignore("axis")
        self.offset = [int(offset) for offset in self.section.offset]

    def _start(self, rank: int) -> tuple[int, list[int]]:
        """The first cropped axis, and the offset of each cropped axis."""
        axis = self.section.axis("axis", rank)
        if len(self.offset) < 2:
            return axis, (self.offset or [0]) * (rank - axis)
        self.require(
            len(self.offset) == rank - axis,
            f"crop_param.offset has {len(self.offset)} entries, expected none, 1 or {rank - axis}, one per "
            "cropped axis",
        )
        return axis, self.offset

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims of bottom 0 before ``axis``, those of bottom 1 from there on."""
        source, size = bottoms
        axis, offsets = self._start(len(source))
        self.require(len(size) >= len(source), f"bottom 1 has shape {list(size)}, expected at least {len(source)} axes")
        for i, offset in enumerate(offsets, axis):
            self.require(
                source[i] - offset >= size[i],
                f"the crop of {size[i]} entries from {offset} on along axis {i} is out of bounds: "
                f"bottom 0 has shape {list(source)}",
            )
        return [(*source[:axis], *size[axis : len(source)])]

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The pixels of bottom 0 that are kept."""
        if bottom:
            return NOTHING
        axis, offsets = self._start(len(bottoms[0]))
        rows, columns = (
            (first + offset, last + offset)
            for (first, last), offset in zip(spans, [*[0] * axis, *offsets][2:], strict=True)
        )
        return rows, columns

    def forward(self, bottom: Tensor, size: Tensor) -> Tensor:
        """A view."""
        axis, offsets = self._start(bottom.dim())
        for i, offset in enumerate(offsets, axis):
            bottom = bottom.narrow(i, offset, size.shape[i])
        return bottom

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Slice; its ends come from bottom 1 at run time where it is dynamic."""
        rank = len(graph.shape(bottoms[0]))
        axis, offsets = self._start(rank)
        sizes = graph.shape(bottoms[1])[axis:rank]
        known = [size for size in sizes if size is not None]
        start = graph.constant(offsets)
        if len(known) == len(sizes):
            end = graph.constant([offset + size for offset, size in zip(offsets, known, strict=True)])
        else:
            cut = [graph.constant([number]) for number in (axis, rank)]
            end = graph.add("Add", [graph.add("Slice", [graph.add("Shape", [bottoms[1]]), *cut]), start])
        graph.node("Slice", [bottoms[0], start, end, graph.constant(list(range(axis, rank)))], tops)


@register
class Filter(Layer):
    """Keeps the rows (axis 0) of its bottoms where the last bottom, the selector, is not zero.

    At setup the tops have all rows; a forward pass makes them as long as what was kept, which may be nothing.
    """

    caffe_type = "Filter"
    bottom_count = (2, UNLIMITED)
    top_count = (1, UNLIMITED)
    no_gradient = (-1,)
    sized_by_values = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if len(params.tops) != len(bottoms) - 1:
            raise self.error(f"has {len(params.tops)} tops, expected one per bottom but the last ({len(bottoms) - 1})")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Marks for the selector."""
        return marks(shapes[bottom], random) if bottom == len(shapes) - 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shapes of the bottoms: the largest that can come."""
        *items, selector = bottoms
        self.require(
            len(selector) > 0 and count(selector, 1) == 1,
            f"the selector has shape {list(selector)}, expected axes of size 1 except the first",
        )
        for number, shape in enumerate(items):
            self.require(
                len(shape) > 0 and shape[0] == selector[0],
                f"bottom {number} has shape {list(shape)}, expected {selector[0]} rows as the selector has",
            )
        return [tuple(shape) for shape in items]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """With as many rows as the selector now chooses."""
        shapes = super().shapes_now(bottoms)
        rows = int(bottoms[-1].detach().count_nonzero())
        return [(rows, *shape[1:]) for shape in shapes]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Rows in their order; all of them on the meta device, where nobody knows the selector."""
        *items, selector = bottoms
        if selector.is_meta:
            return tuple(item.clone() for item in items)
        rows = selector.detach().reshape(-1).nonzero().reshape(-1)
        return tuple(item.index_select(0, rows) for item in items)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Compress by the selector as booleans."""
        flat = graph.add("Reshape", [bottoms[-1], graph.constant([-1])])
        chosen = graph.add("Cast", [flat], to=9)
        for bottom, top in zip(bottoms, tops, strict=False):
            graph.node("Compress", [bottom, chosen], [top], axis=0)


class _Picking(Layer):
    """Common to the layers whose second bottom holds indices, as floats that are truncated."""

    bottom_count = (2, 2)

    def backward_reads(self) -> Reads:
        """The indices."""
        return Reads((1,))

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Indices of items."""
        return indices(shapes[bottom], shapes[0][0], random) if bottom == 1 else None

    def indices(self, bottom: Tensor, limit: int) -> Tensor:
        """The second bottom as a vector of integers.

        Raises:
            ShapeError: an index is outside [0, limit).
        """
        index = bottom.detach().reshape(-1).long()
        if index.is_meta or index.numel() == 0:
            return index
        low, high = (int(value) for value in torch.stack(index.aminmax()).tolist())
        self.require(low >= 0 and high < limit, f"indices run from {low} to {high}, expected 0 to {limit - 1}")
        return index

    @staticmethod
    def _onnx_indices(graph: OnnxGraph, bottom: str) -> str:
        return graph.add("Cast", [graph.add("Reshape", [bottom, graph.constant([-1])])], to=INT64)


@register
class BatchReindex(_Picking):
    """top[i] = bottom 0 [index i of bottom 1]; gradients of an item taken twice add up."""

    caffe_type = "BatchReindex"
    no_gradient = (1,)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many items as indices."""
        items, index = bottoms
        self.require(len(index) == 1, f"bottom 1 has shape {list(index)}, expected one axis of indices")
        self.require(len(items) > 0, "bottom 0 has no axes, expected at least one")
        return [(index[0], *items[1:])]

    def forward(self, bottom: Tensor, index: Tensor) -> Tensor:
        """index_select."""
        return bottom.index_select(0, self.indices(index, bottom.shape[0]))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Gather."""
        graph.node("Gather", [bottoms[0], self._onnx_indices(graph, bottoms[1])], tops, axis=0)


class _PickItemsFunction(torch.autograd.Function):
    """Items by index; of an item taken twice the gradient is that of the last time."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.items = bottom.shape[0]
        return bottom.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor, None]:
        (index,), seed = ctx.saved_tensors, seeds[0]
        if index.numel() == 0:
            return seed.new_zeros(ctx.items, *seed.shape[1:]), None
        order = torch.arange(index.numel(), device=index.device)
        last = torch.full((ctx.items,), -1, device=index.device).scatter_reduce(0, index, order, "amax")
        taken = (last >= 0).view(-1, *[1] * (seed.dim() - 1))
        return torch.where(taken, seed.index_select(0, last.clamp(min=0)), 0), None


@register
class PickItems(_Picking):
    """caffe-sds: top[i] = bottom 0 [index i of bottom 1].

    The gradient is copied, not added: of an item taken twice the last one counts.
    """

    caffe_type = "PickItems"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many items as bottom 1 has elements."""
        self.require(len(bottoms[0]) > 0, "bottom 0 has no axes, expected at least one")
        return [(count(bottoms[1]), *bottoms[0][1:])]

    def forward(self, bottom: Tensor, index: Tensor) -> Tensor:
        """index_select with Caffe's gradient."""
        top: Tensor = _PickItemsFunction.apply(bottom, self.indices(index, bottom.shape[0]))
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Gather."""
        graph.node("Gather", [bottoms[0], self._onnx_indices(graph, bottoms[1])], tops, axis=0)


@register
class PickSlice(_Picking):
    """caffe-sds: of item i the channels k * index[i] to k * index[i] + k - 1, where k is ``channels``."""

    caffe_type = "PickSlice"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.channels = int(params.section("pick_slice_param").channels)
        if self.channels < 1:
            raise self.error(f"pick_slice_param.channels is {self.channels}, expected a positive number")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Indices of slices."""
        return indices(shapes[bottom], shapes[0][1] // self.channels, random) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of bottom 0 with ``channels`` channels."""
        items, index = bottoms
        self.require(2 <= len(items) <= 4, f"bottom 0 has shape {list(items)}, expected 2 to 4 axes")
        self.require(
            count(index) >= items[0], f"bottom 1 has {count(index)} elements, expected one index per item ({items[0]})"
        )
        return [(items[0], self.channels, *items[2:])]

    def forward(self, bottom: Tensor, index: Tensor) -> Tensor:
        """One gather."""
        items, tail = bottom.shape[0], bottom.shape[2:]
        first = self.indices(index.reshape(-1)[:items], bottom.shape[1] // self.channels) * self.channels
        chosen = first[:, None] + torch.arange(self.channels, device=bottom.device)
        return bottom.gather(1, chosen.view(items, self.channels, *[1] * len(tail)).expand(-1, -1, *tail))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """GatherND over the channels of each item."""
        index = self._onnx_indices(graph, bottoms[1])
        items = graph.add("Slice", [graph.add("Shape", [bottoms[0]]), graph.constant([0]), graph.constant([1])])
        index = graph.add("Slice", [index, graph.constant([0]), items])
        first = graph.add("Mul", [index, graph.constant([self.channels])])
        column = graph.add("Unsqueeze", [first, graph.constant([1])])
        chosen = graph.add("Add", [column, graph.constant(list(range(self.channels)))])
        chosen = graph.add("Unsqueeze", [chosen, graph.constant([2])])
        graph.node("GatherND", [bottoms[0], chosen], tops, batch_dims=1)
