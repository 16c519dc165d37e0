"""MS-CNN's and Cascade R-CNN's ROIAlign: features at the corners of a grid in each region."""

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

__all__ = ["ROIAlign"]


@register(dialect="mscnn")
class ROIAlign(Layer):
    """Bilinear values at the (pooled_h + 1) x (pooled_w + 1) corners of the bins of each region.

    Bottoms: features [N, C, H, W] and regions [R, 5] (index in the batch, x1, y1, x2, y2 in image coordinates).  A
    region is wider by ``pad_ratio`` of its width (the last pixel counts) on each side, and higher; its corners are
    multiplied by ``spatial_scale`` and moved by -0.5, and nothing is rounded.  A corner of a bin outside of the map, by
    more than half a cell, is 0, and so are all of a region without an area; one on the rim has the value of the cell
    beside it.  Source: ``roi_align_layer.cu`` of zhaoweicai/mscnn and zhaoweicai/cascade-rcnn, which are the same.
    """

    caffe_type = "ROIAlign"
    bottom_count = (2, 2)
    homogeneous = True
    per_box = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("roi_pooling_param")
        self.bins = (int(section.pooled_h), int(section.pooled_w))
        self.scale, self.pad = float(section.spatial_scale), float(section.pad_ratio)
        if 0 in self.bins:
            raise self.error(f"roi_pooling_param: pooled_h, pooled_w must be > 0, not {self.bins[0]}, {self.bins[1]}")
        if not (np.isfinite(self.scale) and 0 <= self.pad < float("inf")):
            raise self.error(
                f"roi_pooling_param has spatial_scale {self.scale:g} and pad_ratio {self.pad:g}, expected a finite "
                "number, and 0 or more"
            )

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
        """One map a region, a cell larger than ``pooled_h`` and ``pooled_w``."""
        feature, rois = bottoms
        self.require(len(feature) == 4, f"expected features N x C x H x W, bottom 0 has the shape {list(feature)}")
        self.require(
            len(rois) in (2, 3, 4) and count(rois, 1) == 5,
            f"expected regions R x 5 (index, x1, y1, x2, y2), bottom 1 has the shape {list(rois)}",
        )
        return [(rois[0], feature[1], self.bins[0] + 1, self.bins[1] + 1)]

    def forward(self, feature: Tensor, rois: Tensor) -> Tensor:
        """A weighted sum of four cells for each corner."""
        rois = rois.detach().to(feature.dtype).reshape(-1, 5)
        if feature.is_meta:
            return feature.new_empty(self.top_shapes([tuple(feature.shape), tuple(rois.shape)])[0])
        check_regions(self, rois)
        if not feature.numel() or not len(rois):
            return feature.new_zeros(self.top_shapes([tuple(feature.shape), tuple(rois.shape)])[0])
        images = read_indices(self, rois[:, 0], feature.shape[0], f"an image index in '{self.params.bottoms[1]}'")
        pad = (rois[:, 3:] - rois[:, 1:3] + 1) * self.pad
        low, high = (rois[:, 1:3] - pad) * self.scale - 0.5, (rois[:, 3:] + pad) * self.scale - 0.5
        valid = (high > low).all(1)
        rows, columns = (
            self._line(low[:, 1 - axis], high[:, 1 - axis], valid, self.bins[axis], feature.shape[2 + axis])
            for axis in (0, 1)
        )
        number, channels, height, width = feature.shape
        cells = feature.movedim(1, -1).reshape(number * height * width, channels)
        index, weight = [], []
        for row, row_weight in rows:
            for column, column_weight in columns:
                index.append(((images[:, None, None] * height + row[:, :, None]) * width + column[:, None]).reshape(-1))
                weight.append((row_weight[:, :, None] * column_weight[:, None]).reshape(-1))
        found = F.embedding_bag(torch.stack(index, 1), cells, per_sample_weights=torch.stack(weight, 1), mode="sum")
        return found.reshape(len(rois), self.bins[0] + 1, self.bins[1] + 1, channels).movedim(-1, 1)

    @staticmethod
    def _line(low: Tensor, high: Tensor, valid: Tensor, bins: int, size: int) -> list[tuple[Tensor, Tensor]]:
        """Along an axis the cell before each corner and that behind it (Tensor[R, bins + 1]), with their weights."""
        step = ((high - low) / bins)[:, None]
        at = low[:, None] + torch.arange(bins + 1, device=low.device, dtype=low.dtype) * step
        inside = valid[:, None] & (at >= -0.5) & (at <= size - 0.5)
        at = torch.where(inside, at, 0)
        before = at.floor().long().clamp(0, size - 1)
        behind = (at.floor().long() + 1).clamp(0, size - 1)
        part = at.clamp(0, size - 1) - before
        return [(before, (1 - part) * inside), (behind, part * inside)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Four GatherND and their weights."""
        feature, rois = bottoms
        _, channels, height, width = graph.shape(feature)
        if channels is None or height is None or width is None:
            raise self.export_error("needs features of a fixed number of channels, height and width")
        add, constant = graph.add, graph.constant
        rois = add("Reshape", [rois, constant([-1, 5])])

        def part(start: int, end: int) -> str:
            return add("Slice", [rois, constant([start]), constant([end]), constant([1])])

        low, high = part(1, 3), part(3, 5)
        if self.pad:
            pad = add("Mul", [add("Add", [add("Sub", [high, low]), constant(1.0)]), constant(self.pad)])
            low, high = add("Sub", [low, pad]), add("Add", [high, pad])
        low, high = (add("Sub", [add("Mul", [side, constant(self.scale)]), constant(0.5)]) for side in (low, high))
        axes = [constant([1]), constant([0])]  # y stands behind x
        ends = [[add("Gather", [side, axis], axis=1) for side in (low, high)] for axis in axes]
        valid = add("And", [add("Greater", [high, low]) for low, high in ends])
        lines = [
            _onnx_line(graph, (*ends[axis], valid), self.bins[axis], size, axis)
            for axis, size in enumerate((height, width))
        ]
        image = add("Reshape", [add("Cast", [part(0, 1)], to=7), constant([-1, 1, 1])])
        image = add("Mul", [image, constant(height)])
        cells = add("Reshape", [add("Transpose", [feature], perm=[0, 2, 3, 1]), constant([-1, channels])])
        total = ""
        for row, row_weight in lines[0]:
            first = add("Mul", [add("Add", [image, row]), constant(width)])
            for column, column_weight in lines[1]:
                found = add("Gather", [cells, add("Add", [first, column])], axis=0)
                weight = add("Unsqueeze", [add("Mul", [row_weight, column_weight]), constant([3])])
                found = add("Mul", [found, weight])
                total = add("Add", [total, found]) if total else found
        graph.node("Transpose", [total], tops, perm=[0, 3, 1, 2])


def _onnx_line(graph: OnnxGraph, ends: Sequence[str], bins: int, size: int, axis: int) -> list[tuple[str, str]]:
    """As :meth:`ROIAlign._line`; rows are [R, bins + 1, 1], columns [R, 1, bins + 1].

    Args:
        ends: where regions begin and end along the axis, and which of them have an area, [R, 1] each.
    """
    add, constant = graph.add, graph.constant
    low, high, valid = ends
    step = add("Div", [add("Sub", [high, low]), constant(float(bins))])
    at = add("Add", [low, add("Mul", [step, constant(np.arange(bins + 1, dtype=np.float32)[None])])])
    inside = [add("GreaterOrEqual", [at, constant(-0.5)]), add("LessOrEqual", [at, constant(size - 0.5)])]
    reached = add("And", [valid, add("And", inside)])
    at = add("Where", [reached, at, constant(0.0)])
    floor, last = add("Floor", [at]), float(size - 1)

    def held(value: str) -> str:
        return add("Min", [add("Max", [value, constant(0.0)]), constant(last)])

    before, behind = held(floor), held(add("Add", [floor, constant(1.0)]))
    part = add("Sub", [held(at), before])
    counts, shape = add("Cast", [reached], to=1), constant([-1, bins + 1, 1] if axis == 0 else [-1, 1, bins + 1])
    weights = [add("Mul", [add("Sub", [constant(1.0), part]), counts]), add("Mul", [part, counts])]
    return [
        (add("Reshape", [add("Cast", [cell], to=7), shape]), add("Reshape", [weight, shape]))
        for cell, weight in zip((before, behind), weights, strict=True)
    ]
