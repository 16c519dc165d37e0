"""MS-CNN's BoxOutput: regions out of maps of several scales.

Source: zhaoweicai/mscnn, ``box_output_layer.cpp`` and ``math_functions.cpp`` (BoxIOU).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape, count
from caffe_compat.layers.box_output_onnx import Decoding, write_regions
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["BoxOutput"]


@register(dialect="mscnn")
class BoxOutput(Layer):
    """Regions of all images of a batch by falling score; no gradient passes.

    Bottoms: for each of the ``field_w``, ``field_h`` and ``downsample_rate`` a map [N, C + 4, H, W]: C classes, the
    first of background, and the offsets x, y, width and height of the one box of each cell, which is as large as the
    field (times ``bbox_reg_param``'s bbox_std, plus its bbox_mean, if both are there).  A box counts with the highest
    class less the background, from ``fg_thr`` on.  Offsets of the centre are held within 1 / ``field_xyr``, sides
    within ``field_whr`` times the field; a box is cut to the image, and dropped if smaller than ``min_size``.  Of the
    best ``max_nms_num`` (0: all) those go that overlap a better one by more than ``iou_thr``, by ``nms_type``: IOU,
    IOMU (over the smaller area) or IOFU (over the better one's); ``max_post_nms_num`` of an image stay (0: all).  Of
    equal scores the last box comes first.  Tops: regions [R, 5, 1, 1] (image, x1, y1, x2, y2), and if asked for the
    same with the score [R, 6, 1, 1]; without any one region (0, 1, 1, 10, 10), and zeros.
    """

    caffe_type = "BoxOutput"
    bottom_count = (1, UNLIMITED)
    top_count = (1, 2)
    sized_by_values = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section, norm = params.section("box_output_param"), params.section("bbox_reg_param")
        norm.ignore("cls_aware")
        self.fields = [
            (float(wide), float(high), float(rate))
            for wide, high, rate in zip(section.field_w, section.field_h, section.downsample_rate, strict=False)
        ]
        given = [len(section.value(name)) for name in ("field_w", "field_h", "downsample_rate")]
        if set(given) != {len(bottoms)} or min(min(field) for field in self.fields) <= 0:
            raise self.error(
                f"box_output_param has {given[0]} field_w, {given[1]} field_h and {given[2]} downsample_rate, expected "
                f"{len(bottoms)} positive numbers of each: one for each bottom"
            )
        self.fg_thr, self.iou_thr = float(section.fg_thr), float(section.iou_thr)
        self.whr, self.xyr, self.min_size = float(section.field_whr), float(section.field_xyr), float(section.min_size)
        if not (self.whr >= 1 and self.xyr > 0 and math.isfinite(self.fg_thr) and math.isfinite(self.iou_thr)):
            raise self.error(
                f"box_output_param has field_whr {self.whr:g}, field_xyr {self.xyr:g}, fg_thr {self.fg_thr:g} and "
                f"iou_thr {self.iou_thr:g}, expected 1 or more, a positive number and finite ones"
            )
        self.kind = str(section.nms_type)
        if self.kind not in ("IOU", "IOMU", "IOFU"):
            raise self.error(f"box_output_param.nms_type is '{self.kind}', expected IOU, IOMU or IOFU")
        self.before, self.after = int(section.max_nms_num), int(section.max_post_nms_num)
        means, stds = ([float(v) for v in norm.value(name)] for name in ("bbox_mean", "bbox_std"))
        if (means or stds) and (len(means), len(stds)) != (4, 4):
            raise self.error(f"bbox_reg_param has {len(means)} bbox_mean and {len(stds)} bbox_std, expected 4 of each")
        self.means, self.stds = means or [0.0] * 4, stds or [1.0] * 4

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        first = bottoms[0]
        for index, shape in enumerate(bottoms):
            self.require(
                len(shape) == 4 and shape[1] > 5 and shape[:2] == tuple(first[:2]),
                f"bottom {index} has the shape {list(shape)}, expected N x C x H x W with the C of all: two classes or "
                "more, and 4 offsets",
            )
        each = sum(count(shape, 2) for shape in bottoms)
        for limit in (self.before, self.after):
            each = min(each, limit) if limit else each
        most = max(1, first[0] * each)
        shapes: list[Shape] = [(most, 5, 1, 1), (most, 6, 1, 1)]
        return shapes[: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Decode, choose, sort and suppress, image by image."""
        if bottoms[0].is_meta:
            shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
            return tuple(bottoms[0].new_empty(shape) for shape in shapes)
        for name, bottom in zip(self.params.bottoms, bottoms, strict=True):
            if can_look(bottom) and not bool(torch.isfinite(bottom).all()):
                raise self.error(f"bottom '{name}' holds NaN or infinite numbers, expected finite ones")
        levels = [torch.cat(parts, 1) for parts in zip(*self._decoded(bottoms), strict=True)]
        images = [self._image(item, boxes, scores) for item, (boxes, scores) in enumerate(zip(*levels, strict=True))]
        rows = torch.cat(images) if images else torch.zeros(0, 6)
        if not len(rows):
            rows = torch.zeros(1, 6).to(bottoms[0])
            regions = rows.new_tensor([[0, 1, 1, 10, 10]])
        else:
            regions = rows[:, :5]
        return (regions[..., None, None], rows[..., None, None])[: len(self.params.tops)]

    def _decoded(self, bottoms: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each map boxes x y width height [N, H W, 4] and scores [N, H W]."""
        for bottom, (wide, high, rate) in zip(bottoms, self.fields, strict=True):
            height, width = bottom.shape[2:]
            flat = bottom.flatten(2)
            score = flat[:, 1:-4].amax(1) - flat[:, 0]
            offsets = flat[:, -4:] * flat.new_tensor(self.stds)[:, None] + flat.new_tensor(self.means)[:, None]
            field = flat.new_tensor([wide, high])[:, None]
            rows = torch.arange(height, device=flat.device).repeat_interleave(width)
            columns = torch.arange(width, device=flat.device).repeat(height)
            centre = (torch.stack([columns, rows]) + 0.5) * rate
            middle = offsets[:, :2].clamp(-1 / self.xyr, 1 / self.xyr) * field + centre
            sides = field * offsets[:, 2:].clamp(-math.log(self.whr), math.log(self.whr)).exp()
            low = (middle - sides / 2).clamp(min=0)
            sides = torch.minimum(sides, flat.new_tensor([width * rate, height * rate])[:, None] - low)
            yield torch.cat([low, sides], 1).movedim(1, 2), score

    def _image(self, item: int, boxes: Tensor, scores: Tensor) -> Tensor:
        """Rows (image, corners, score) of one image."""
        kept = (scores >= self.fg_thr) & (boxes[:, 2:] >= self.min_size).all(1)
        boxes, scores = boxes[kept].flip(0), scores[kept].flip(0)
        order = scores.argsort(descending=True, stable=True)
        if self.before:
            order = order[: self.before]
        boxes, scores = boxes[order], scores[order]
        corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        stay = self._suppressed(corners, scores)
        if self.after:
            stay = stay[: self.after]
        return torch.cat([corners.new_full((len(stay), 1), item), corners[stay], scores[stay, None]], 1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Decoding, TopK, NonMaxSuppression; batch and sizes may be open."""
        if self.kind != "IOU":
            raise self.export_error(f"box_output_param.nms_type is {self.kind}; ONNX's suppression has IOU alone")
        if not 0 <= self.iou_thr <= 1 or self.min_size < 0:
            raise self.export_error(
                f"box_output_param has iou_thr {self.iou_thr:g} and min_size {self.min_size:g}, ONNX's suppression "
                "needs overlaps from 0 to 1 and sides of 0 or more"
            )
        decoding = Decoding(self.fields, self.means, self.stds, 1 / self.xyr, self.whr, self.fg_thr, self.min_size)
        write_regions(graph, bottoms, tops, decoding, (self.before, self.after), self.iou_thr)

    def _suppressed(self, corners: Tensor, scores: Tensor) -> Tensor:
        if self.kind == "IOU":
            try:
                importlib.import_module("torchvision")
            except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises RuntimeError
                raise self.error(f"needs torchvision, built for torch {torch.__version__}: {error}") from error
            kept: Tensor = torch.ops.torchvision.nms(corners, scores, self.iou_thr)
            return kept
        area = (corners[:, 2:] - corners[:, :2]).prod(1)
        alive = torch.ones(len(corners), dtype=torch.bool, device=corners.device)
        for place in range(len(corners)):
            if not alive[place]:
                continue
            low = torch.maximum(corners[place, :2], corners[place + 1 :, :2])
            high = torch.minimum(corners[place, 2:], corners[place + 1 :, 2:])
            over = (high - low).clamp(min=0).prod(1)
            under = area[place] if self.kind == "IOFU" else torch.minimum(area[place], area[place + 1 :])
            alive[place + 1 :] &= ~(over / under > self.iou_thr)
        return alive.nonzero().reshape(-1)
