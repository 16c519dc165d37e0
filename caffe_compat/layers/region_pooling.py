"""Pooling of special regions: RegionPooling of LocNet (rings), MultiROIPooling of PG-CNN (crops around landmarks)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.detection import roi_pool
from caffe_compat.layers.labels import check_regions, read_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes
from caffe_compat.layers.sharing import with_gradient

__all__ = ["MultiROIPooling", "RegionPooling"]

_MASKED_AT_ONCE = 1 << 26  #: elements of masked feature maps that RegionPooling holds at a time


@register
class RegionPooling(Layer):
    """Maxima over a grid of bins in each region, without what lies strictly inside an inner rectangle; at least 0.

    Bottoms: features (Tensor[N, C, H, W]) and regions (Tensor[R, 9]: image, corners of the outer and of the inner
    rectangle in pixels).  A corner x becomes the cell floor((x + 1 + offset) scale + 0.5) at the left and top,
    ceil((x + 1 - offset) scale - 0.5) at the right and bottom; where these are in the wrong order both are half their
    sum, cut towards zero.  A maximum that is not above 0 is 0 and gets no gradient; otherwise the gradient goes to the
    first one, row by row.  Source: ``region_pooling_layer.cpp`` of gidariss/caffe_LocNet.
    """

    caffe_type = "RegionPooling"
    bottom_count = (2, 2)
    per_box = True
    onnx_reason = "ONNX has no masked region pooling"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("region_pooling_param")
        self.size = (int(section.pooled_h), int(section.pooled_w))
        self.scale, self.offset = float(section.spatial_scale), float(section.offset)
        if 0 in self.size:
            raise self.error(
                f"region_pooling_param: pooled_h, pooled_w must be > 0, not {self.size[0]}, {self.size[1]}"
            )

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions with an index, inside the image, with an inner rectangle somewhere."""
        if bottom != 1:
            return None
        number, _, height, width = shapes[0]
        sides = (width / (self.scale or 1.0), height / (self.scale or 1.0))
        outer, inner = (boxes((shapes[1][0], 5), [number], sides, random) for _ in range(2))
        return np.concatenate([outer, inner[:, 1:]], 1).reshape(shapes[1])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One pooled map per region."""
        feature, rois = bottoms
        self.require(len(feature) == 4, f"expected features N x C x H x W, bottom 0 has the shape {list(feature)}")
        self.require(
            len(rois) in (2, 3, 4) and count(rois, 1) == 9,
            f"expected regions R x 9 (index, two rectangles), bottom 1 has the shape {list(rois)}",
        )
        return [(rois[0], feature[1], *self.size)]

    def _cells(self, corners: Tensor) -> Tensor:
        """Corners (Tensor[R, 4]) in whole cells."""
        low = ((corners[:, :2] + 1 + self.offset) * self.scale).double().add(0.5).floor()
        high = ((corners[:, 2:] + 1 - self.offset) * self.scale).double().sub(0.5).ceil()
        middle = ((low + high) / 2).trunc()
        wrong = low > high
        return torch.cat([torch.where(wrong, middle, low), torch.where(wrong, middle, high)], 1)

    def forward(self, feature: Tensor, rois: Tensor) -> Tensor:
        """Some regions at a time, so that their masked features fit into memory."""
        rois = rois.detach().to(feature.dtype).reshape(-1, 9)
        check_regions(self, rois)
        planes = read_indices(self, rois[:, 0], feature.shape[0], f"an image index in '{self.params.bottoms[1]}'")
        outer = self._cells(rois[:, 1:5]).to(feature.dtype)
        inside = self._inside(self._cells(rois[:, 5:]), feature.shape[2], feature.shape[3])
        positive, pooled = feature.relu(), []
        at_once = max(1, _MASKED_AT_ONCE // max(1, count(feature.shape, 1)))
        for start in range(0, max(1, len(rois)), at_once):
            part = slice(start, start + at_once)
            masked = positive[planes[part]].masked_fill(inside[part, None], 0)
            local = torch.arange(len(masked), device=rois.device, dtype=rois.dtype)[:, None]
            pooled.append(roi_pool(self, masked, torch.cat((local, outer[part]), 1), 1.0, self.size))
        return torch.cat(pooled)

    @staticmethod
    def _inside(cells: Tensor, height: int, width: int) -> Tensor:
        """Where a cell is strictly inside a rectangle (Tensor[R, H, W])."""
        x1, y1, x2, y2 = (side[:, None] for side in cells.unbind(1))
        rows, columns = (torch.arange(size, device=cells.device) for size in (height, width))
        return ((rows > y1) & (rows < y2))[:, :, None] & ((columns > x1) & (columns < x2))[:, None]


@register
class MultiROIPooling(Layer):
    """Crops of ``pooled_h`` x ``pooled_w`` around landmarks, one top for each landmark; outside the map they are 0.

    Bottoms: features (Tensor[N, C, H, W]) and landmarks (Tensor[N, R, 2]: x, y in pixels), ``top_num`` and the tops
    are R.  A crop begins at round(x scale - half of its size, cut), halves away from zero.  The backward pass is the
    fork's: all rows of a crop that lie in the map get the diff of the first one of them.  A crop larger than the map
    reads over rows there, and is refused.  Source: ``multi_roi_pooling_layer.cu`` of mysee1989/PG-CNN.
    """

    caffe_type = "MultiROIPooling"
    bottom_count = (2, 2)
    top_count = (2, 30)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("multi_roi_pooling_param")
        self.size = (int(section.pooled_h), int(section.pooled_w))
        self.scale, number = float(section.spatial_scale), int(section.top_num)
        if 0 in self.size:
            raise self.error(
                f"multi_roi_pooling_param: pooled_h, pooled_w must be > 0, not {self.size[0]}, {self.size[1]}"
            )
        if number != len(params.tops):
            raise self.error(
                f"multi_roi_pooling_param.top_num is {number}, expected {len(params.tops)}, as many as tops"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One crop of each item."""
        feature, marks = bottoms
        self.require(len(feature) == 4, f"expected features N x C x H x W, bottom 0 has the shape {list(feature)}")
        number = len(self.params.tops)
        self.require(
            len(marks) >= 2 and tuple(marks[:2]) == (feature[0], number) and count(marks, 2) == 2,
            f"expected landmarks {feature[0]} x {number} x 2, bottom 1 has the shape {list(marks)}",
        )
        self.require(
            self.size[0] <= feature[2] and self.size[1] <= feature[3],
            f"crops of {self.size[0]} x {self.size[1]} are larger than the map, {feature[2]} x {feature[3]}",
        )
        return [(*feature[:2], *self.size)] * number

    def forward(self, feature: Tensor, marks: Tensor) -> tuple[Tensor, ...]:
        """Each top by its rows and columns."""
        marks = marks.detach().to(feature.dtype).reshape(len(feature), len(self.params.tops), 2)
        if not marks.is_meta:
            check_regions(self, marks)
        half = marks.new_tensor([self.size[1] // 2, self.size[0] // 2])
        near = (marks * self.scale - half).double()
        starts = near.sign() * (near.abs() + 0.5).floor()
        return tuple(self._crop(feature, starts[:, index]) for index in range(starts.shape[1]))

    def _crop(self, feature: Tensor, start: Tensor) -> Tensor:
        """``start``: x, y (Tensor[N, 2])."""
        items = torch.arange(len(feature), device=feature.device)[:, None, None]
        places = []
        for axis, size in ((1, self.size[0]), (0, self.size[1])):
            end = feature.shape[3 - axis]
            first = start[:, axis].clamp(-size, end).long()
            places.append((first[:, None] + torch.arange(size, device=feature.device), end))
        (rows, height), (columns, width) = places
        known = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        cells = feature[items, :, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
        top = cells.permute(0, 3, 1, 2).masked_fill(~known[:, None], 0)
        if not top.requires_grad:
            return top
        at = (-rows[:, 0]).clamp(0, self.size[0] - 1)[:, None, None, None].expand(-1, *top.shape[1:])
        return with_gradient(top, top, lambda seed: seed.gather(2, at))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """GatherElements of the map with a margin of zeros, by rows, then by columns."""
        add, const = graph.add, graph.constant
        _, channels, height, width = graph.static_shape(bottoms[0], "the size of the features")
        margins = (self.size[0], self.size[1])
        wide = add("Pad", [bottoms[0], const([0, 0, *margins] * 2), const(0.0)])
        marks = add("Reshape", [bottoms[1], const([-1, len(tops), 2])])
        half = const(np.array([self.size[1] // 2, self.size[0] // 2], np.float32))
        near = add("Sub", [add("Mul", [marks, const(self.scale)]), half])
        starts = add("Mul", [add("Sign", [near]), add("Floor", [add("Add", [add("Abs", [near]), const(0.5)])])])
        for index, top in enumerate(tops):
            found = wide
            for axis, side, end in ((2, 1, height), (3, 0, width)):
                size = self.size[axis - 2]
                start = add("Slice", [starts, const([index, side]), const([index + 1, side + 1]), const([1, 2])])
                start = add("Clip", [start, const(float(-size)), const(float(end))])
                place = add("Add", [start, const(np.arange(size, 2 * size, dtype=np.float32))])
                place = add("Cast", [add("Unsqueeze", [place, const([2 if axis == 3 else 3])])], to=7)
                if axis == 2:  # N x 1 x P -> N x C x P x W
                    place = add("Expand", [place, const([1, channels, size, width + 2 * margins[1]])])
                else:
                    place = add("Expand", [place, const([1, channels, self.size[0], size])])
                found = add("GatherElements", [found, place], axis=axis)
            graph.node("Identity", [found], [top])
