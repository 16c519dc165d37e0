"""Position-sensitive pooling of regions, as R-FCN has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import check_regions, read_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes

__all__ = ["PSROIPooling"]

_HALF = float(np.nextafter(np.float32(0.5), np.float32(0)))  #: 0.5 would make 1 of 0.49999997
_LEAST = float(np.float32(0.1))


def _rounded(value: Tensor) -> Tensor:
    """C's ``round``: halves away from zero."""
    return (value + torch.copysign(torch.full_like(value, _HALF), value)).trunc()


@register(dialect="rfcn")
class PSROIPooling(Layer):
    """Means over a grid of bins in each region, each bin over channels of its own.

    Bottoms: features (Tensor[N, D g g, H, W]; D is ``output_dim``, g ``group_size``) and regions (Tensor[R, 5]: index
    in the batch, x1, y1, x2, y2 in image coordinates, corners inclusive).  Bin (i, j) of channel d is the mean of
    channel (d g + i) g + j.  Corners are rounded first, halves away from zero, the last ones grow by 1, and all are
    then scaled in float32; a region is at least 0.1 cells wide and high; bins reach out to whole cells; empty ones
    are 0.  Sums come from a table of sums in float64.  Source: ``psroi_pooling_layer.cu`` of daijifeng001/caffe-rfcn,
    ``psroi_pooling_layer.cpp`` of intel/caffe.
    """

    caffe_type = "PSROIPooling"
    bottom_count = (2, 2)
    homogeneous = True
    per_box = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("psroi_pooling_param")
        self.scale = float(section.spatial_scale)
        if not np.isfinite(self.scale):
            raise self.error(f"psroi_pooling_param.spatial_scale is {self.scale}, expected a finite number")
        self.outputs, self.group = int(section.output_dim), int(section.group_size)
        for name, value in (("output_dim", self.outputs), ("group_size", self.group)):
            if value < 1:
                raise self.error(f"psroi_pooling_param.{name} is {value}, expected a positive number")

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions with an index, inside the image."""
        number, _, height, width = shapes[0]
        scale = self.scale or 1.0
        return boxes(shapes[1], [number], (width / scale, height / scale), random) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """R x D x g x g."""
        feature, rois = bottoms
        self.require(len(feature) == 4, f"expected features N x C x H x W, bottom 0 has the shape {list(feature)}")
        self.require(
            len(rois) in (2, 3, 4) and count(rois, 1) == 5,
            f"expected regions R x 5 (index, x1, y1, x2, y2), bottom 1 has the shape {list(rois)}",
        )
        wanted = self.outputs * self.group**2
        self.require(
            feature[1] == wanted,
            f"bottom 0 has {feature[1]} channels, expected output_dim {self.outputs} x group_size {self.group} squared "
            f"({wanted})",
        )
        top = (rois[0], self.outputs, self.group, self.group)
        self.require_memory("the top", [top])
        return [top]

    def _edges(self, low: Tensor, high: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """First cell of each bin and the one after its last (int64[R, g]), cut to the map."""
        start = _rounded(low) * self.scale
        side = ((_rounded(high) + 1) * self.scale - start).clamp(min=_LEAST) / self.group
        at = torch.arange(self.group, device=low.device, dtype=low.dtype)
        first = (at * side[:, None] + start[:, None]).floor()
        last = ((at + 1) * side[:, None] + start[:, None]).ceil()
        first, last = (edge.nan_to_num(0).clamp(0, cells).long() for edge in (first, last))
        return first, last

    def forward(self, feature: Tensor, rois: Tensor) -> Tensor:
        """Four numbers of the table of sums for each bin."""
        rois = rois.detach().to(feature.dtype).reshape(-1, 5)
        image = read_indices(self, rois[:, 0], feature.shape[0], f"an image index in '{self.params.bottoms[1]}'")
        g, (height, width) = self.group, feature.shape[2:]
        check_regions(self, rois)
        if not feature.numel() or not len(rois):
            return feature.new_zeros(len(rois), self.outputs, g, g) + 0 * feature.sum()
        left, right = self._edges(rois[:, 1], rois[:, 3], width)
        above, below = self._edges(rois[:, 2], rois[:, 4], height)
        sums = F.pad(feature.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
        table = sums.reshape(len(feature), self.outputs, g, g, height + 1, width + 1).permute(0, 2, 3, 4, 5, 1)
        row = torch.arange(g, device=rois.device)
        which = (image[:, None, None], row[:, None], row)

        def corner(y: Tensor, x: Tensor) -> Tensor:
            return table[(*which, y[:, :, None], x[:, None, :])]

        total = corner(below, right) - corner(above, right) - corner(below, left) + corner(above, left)
        area = (below - above)[:, :, None] * (right - left)[:, None, :]
        empty = (below <= above)[:, :, None] | (right <= left)[:, None, :]
        mean = total / area.clamp(min=1)[..., None]
        return mean.masked_fill(empty[..., None], 0).permute(0, 3, 1, 2).to(feature.dtype)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """CumSum in float64, GatherND at the four corners of each bin."""
        feature, rois = bottoms
        add, constant, g = graph.add, graph.constant, self.group
        if len(graph.shape(rois)) != 2:
            rois = add("Reshape", [rois, constant([-1, 5])])
        _, _, height, width = graph.static_shape(feature, "the table of sums of PSROIPooling")
        table = add("Cast", [feature], to=11)
        for axis in (2, 3):
            table = add("CumSum", [table, constant(axis)])
        table = add("Pad", [table, constant([0, 0, 1, 1, 0, 0, 0, 0])])
        table = add("Reshape", [table, constant([-1, self.outputs, g, g, height + 1, width + 1])])
        table = add("Transpose", [table], perm=[0, 2, 3, 4, 5, 1])
        edges = self._onnx_edges(graph, rois, (width, height))  # int64 [2 (first, last), R, 2 (x, y), g]
        area, corners = self._onnx_corners(graph, rois, edges)
        total = None
        for sign, index in corners:
            value = add("GatherND", [table, index])
            total = value if total is None else add("Add" if sign > 0 else "Sub", [total, value])
        counted = add("Cast", [add("Max", [area, constant(1)])], to=11)
        mean = add("Cast", [add("Div", [total or "", counted])], to=1)
        full = add("Cast", [add("Greater", [area, constant(0)])], to=1)
        graph.node("Transpose", [add("Mul", [mean, full])], tops, perm=[0, 3, 1, 2])

    def _onnx_edges(self, graph: OnnxGraph, rois: str, sides: tuple[int, int]) -> str:
        add, constant, g = graph.add, graph.constant, self.group
        corners = add("Slice", [rois, constant([1]), constant([5]), constant([1])])
        half = add("Mul", [add("Sign", [corners]), constant(float(_HALF))])
        whole = add("Cast", [add("Cast", [add("Add", [corners, half])], to=7)], to=1)
        grown = add("Add", [whole, constant(np.array([[0, 0, 1, 1]], np.float32))])
        scaled = add("Mul", [grown, constant(float(self.scale))])
        start, end = (add("Slice", [scaled, constant([low]), constant([low + 2]), constant([1])]) for low in (0, 2))
        side = add("Max", [add("Sub", [end, start]), constant(float(_LEAST))])
        # a division by a constant becomes a product in some runtimes: the divisor is made of what is fed
        groups = add("Add", [add("Mul", [side, constant(float(0))]), constant(float(g))])
        step = add("Unsqueeze", [add("Div", [side, groups]), constant([2])])
        start = add("Unsqueeze", [start, constant([2])])
        at = np.arange(g, dtype=np.float32).reshape(1, 1, g)
        first, last = (
            add(op, [add("Add", [add("Mul", [step, constant(values)]), start])])
            for op, values in (("Floor", at), ("Ceil", at + 1))
        )
        both = add("Concat", [add("Unsqueeze", [value, constant([0])]) for value in (first, last)], axis=0)
        limit = np.array(sides, np.float32).reshape(1, 1, 2, 1)
        return add("Cast", [add("Min", [add("Max", [both, constant(float(0))]), constant(limit)])], to=7)

    def _onnx_corners(self, graph: OnnxGraph, rois: str, edges: str) -> tuple[str, list[tuple[int, str]]]:
        """Cells of each bin (int64[R, g, g, 1], 0 if it is empty), and the indices of its corners with their sign."""
        add, constant, g = graph.add, graph.constant, self.group

        def pick(end: int, axis: int, place: int) -> str:
            one = add(
                "Gather", [add("Gather", [edges, constant(np.array(end))], axis=0), constant(np.array(axis))], axis=1
            )
            return add("Unsqueeze", [one, constant([place, 3])])

        x1, x2, y1, y2 = pick(0, 0, 1), pick(1, 0, 1), pick(0, 1, 2), pick(1, 1, 2)
        wide, high = (add("Max", [add("Sub", [last, first]), constant(0)]) for first, last in ((x1, x2), (y1, y2)))
        area = add("Mul", [wide, high])
        image = add("Slice", [rois, constant([0]), constant([1]), constant([1])])
        zeros = add("Mul", [area, constant(0)])
        image = add("Add", [zeros, add("Unsqueeze", [add("Cast", [image], to=7), constant([2, 3])])])
        i = add("Add", [zeros, constant(np.arange(g).reshape(1, g, 1, 1))])
        j = add("Add", [zeros, constant(np.arange(g).reshape(1, 1, g, 1))])
        found = []
        for sign, y, x in ((1, y2, x2), (-1, y1, x2), (-1, y2, x1), (1, y1, x1)):
            found.append((sign, add("Concat", [image, i, j, add("Add", [zeros, y]), add("Add", [zeros, x])], axis=3)))
        return area, found
