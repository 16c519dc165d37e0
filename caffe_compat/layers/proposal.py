"""Proposal of PVANET and of synopsys-caffe: regions out of scores and offsets of anchors, with a message of its own.

Source: sanghoon/caffe, branch dev_pvanet, ``proposal_layer.cpp`` and ``nms.cpp``; synopsys-caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.anchors import AnchorGrid, moved, suppress
from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.rpn_onnx import Rules, write_proposals

__all__ = ["FixedProposal", "Proposal"]


class _Proposal(Layer):
    """What the two share: anchors, checks, boxes that are moved and cut."""

    caffe_type = "Proposal"
    bottom_count = (3, 3)
    top_count = (1, 2)
    sized_by_values = True
    grid: AnchorGrid
    before: int  #: boxes that go into suppression
    after: int  #: boxes that stay
    info_most = 4  #: numbers of bottom 2 that are read

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        scores, deltas, info = (tuple(shape) for shape in bottoms)
        anchors = len(self.grid)
        for index, (shape, channels) in enumerate(((scores, 2 * anchors), (deltas, 4 * anchors))):
            self.require(
                len(shape) == 4 and shape[:2] == (1, channels) and shape[2:] == scores[2:],
                f"bottom {index} has the shape {list(shape)}, expected 1 x {channels} x H x W: {anchors} anchors of "
                "one image",
            )
        self.require(
            count(info) >= self.info_most,
            f"bottom 2 has the shape {list(info)}, expected 1 x {self.info_most} (height, width, and their scales) or "
            "longer",
        )
        most = min(anchors * count(scores, 2), self.before, self.after)
        shapes: list[Shape] = [(most, 5), (most,)]
        return shapes[: len(self.params.tops)]

    def _check_numbers(self, bottoms: Sequence[Tensor]) -> None:
        for name, value in zip(self.params.bottoms, bottoms, strict=True):
            if can_look(value) and not bool(torch.isfinite(value).all()):
                raise self.error(f"bottom '{name}' holds NaN or infinite numbers, expected finite ones")

    def _cut(self, anchors: Tensor, deltas: Tensor, high: Tensor, wide: Tensor) -> Tensor:
        """Anchors moved by deltas (Tensor[N, 4] both) and cut to the image."""
        boxes = moved(anchors, deltas)
        last = torch.stack([wide, high, wide, high]).to(boxes) - 1
        boxes = torch.minimum(boxes, last).clamp(min=0)
        if can_look(boxes) and bool(boxes.isnan().any()):
            raise self.error("offsets make boxes that are no numbers, expected smaller ones in bottom 1")
        return boxes

    def _regions(self, boxes: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Regions [R, 5] of boxes, the best first, that overlap no better one by more; and which boxes those are."""
        falling = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
        kept = suppress(self, boxes, falling, float(np.nextafter(threshold, np.inf)))[: self.after]
        return torch.cat([boxes.new_zeros(len(kept), 1), boxes[kept]], 1), kept


@register(dialect="pvanet")
class Proposal(_Proposal):
    """Regions of an image by falling score; no gradient passes.

    Bottoms: probabilities [1, 2 A, H, W], the first A of background, offsets [1, 4 A, H, W], and height and width of
    the image and the scales of both [1, 4] (published nets have [1, 6]: what follows is not read).  Tops: regions
    [R, 5] (0, x1, y1, x2, y2), cut to the image, and scores [R].  Anchors are those of py-faster-rcnn, halves rounded
    up.  Unlike there a box that is smaller than ``min_size`` stays, with a score of 0, and goes into suppression; and
    a box goes where its overlap with a better one is more than ``nms_thresh``, not already where it is that.  Of equal
    scores the first anchor comes first (the original's sort leaves that open).
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("proposal_param")
        ratios, scales = ([float(value) for value in section.value(name)] for name in ("ratio", "scale"))
        stride, base = int(section.feat_stride), int(section.base_size)
        if not (ratios and scales) or min(*ratios, *scales, stride, base) <= 0:
            raise self.error(
                f"proposal_param has ratio {ratios}, scale {scales}, feat_stride {stride} and base_size {base}, "
                "expected positive numbers, one or more of ratio and scale (another fork's fields are not known here)"
            )
        self.grid = AnchorGrid(stride, scales, ratios, base)
        self.grid.anchors = _anchors(base, ratios, scales)
        self.min_size, self.threshold = int(section.min_size), float(section.nms_thresh)
        self.before, self.after = int(section.pre_nms_topn), int(section.post_nms_topn)
        if not (self.before and self.after and math.isfinite(self.threshold)):
            raise self.error(
                f"proposal_param has pre_nms_topn {self.before}, post_nms_topn {self.after} and nms_thresh "
                f"{self.threshold:g}, expected positive numbers and a finite one"
            )

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        """Move, cut, sort, suppress."""
        bottoms = (scores, deltas, info)
        if scores.is_meta:
            return tuple(scores.new_empty(s) for s in self.top_shapes([tuple(value.shape) for value in bottoms]))
        self._check_numbers(bottoms)
        height, width = scores.shape[2:]
        flat = scores[0, len(self.grid) :].permute(1, 2, 0).reshape(-1)
        anchors = self.grid.boxes(height, width, scores.device)
        high, wide, scale_high, scale_wide = info.reshape(-1)[:4]
        boxes = self._cut(anchors, deltas[0].permute(1, 2, 0).reshape(-1, 4), high, wide)
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        least = self.min_size * torch.stack([scale_wide, scale_high]).to(boxes)
        flat = flat * (sides >= least).all(1)
        order = flat.argsort(descending=True, stable=True)[: self.before]
        rois, kept = self._regions(boxes[order], self.threshold)
        return (rois, flat[order][kept])[: len(self.params.tops)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Anchors by broadcasting, TopK, NonMaxSuppression; see ``rpn_onnx.py``."""
        if not 0 <= self.threshold <= 1:
            raise self.export_error(f"nms_thresh is {self.threshold:g}; ONNX's suppression needs 0 to 1")
        rules = Rules(self.before, self.after, self.threshold, self.min_size, scales=(3, 2), small=0.0)
        scores = write_proposals(graph, bottoms, tops[0], self.grid, rules)
        if len(tops) > 1:
            graph.node("Identity", [scores], [tops[1]])


def _means_synopsys(params: Params) -> bool:
    """None of the fields that only PVANET's has."""
    section = params.section("proposal_param")
    return not any(
        section.has(name) for name in ("ratio", "scale", "base_size", "min_size", "post_nms_topn", "nms_thresh")
    )


@register(when=_means_synopsys, dialect="synopsys")
class FixedProposal(_Proposal):
    """Regions of an image by falling score, of py-faster-rcnn's nine anchors; no gradient passes.

    Bottoms: probabilities [1, 2 A, H, W], the first A of background, offsets [1, 4 A, H, W], and height, width and
    scale of the image [1, 3].  Tops: regions [R, 5] (0, x1, y1, x2, y2), cut to the image, and scores [R, 1].
    ``anchor_scale`` 3 stands for scales of 8, 16, 32, ``anchor_ratio`` 3 for ratios of 0.5, 1, 2; every other number
    for 32 and for 1.  Boxes below ``rpn_min_size`` times the scale go, but for the last anchor of the last cell, which
    the fork does not look at.  Of equal scores the later box comes first, by anchor, row and column.  A box goes where
    its overlap with a better one is more than ``rpn_nms_thresh``.  Past the best ``pre_nms_topn`` boxes the fork goes
    on with the others in no order; here they go.  Source: ``proposal_layer.cpp`` of synopsys-caffe.
    """

    info_most = 3
    onnx_reason = "the last box stays however small it is, which no exported form does yet"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("proposal_param")
        scales = (8.0, 16.0, 32.0) if section.anchor_scale == 3 else (32.0,)
        ratios = (0.5, 1.0, 2.0) if section.anchor_ratio == 3 else (1.0,)
        stride, base = int(section.feat_stride), int(section.anchor_base_size)
        self.before, self.after = int(section.pre_nms_topn), int(section.max_rois)
        self.min_size, self.threshold = float(section.rpn_min_size), float(np.float32(section.rpn_nms_thresh))
        if min(stride, base, self.before, self.after) < 1 or not math.isfinite(self.min_size + self.threshold):
            raise self.error(
                f"proposal_param has feat_stride {stride}, anchor_base_size {base}, pre_nms_topn {self.before}, "
                f"max_rois {self.after}, rpn_min_size {self.min_size:g} and rpn_nms_thresh {self.threshold:g}, "
                "expected positive numbers"
            )
        self.grid = AnchorGrid(stride, scales, ratios, base)
        self.grid.anchors = _anchors(base, ratios, scales)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        return [(*shape, *[1] * (2 - len(shape))) for shape in super().top_shapes(bottoms)]

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        """Move, cut, drop, sort, suppress."""
        bottoms = (scores, deltas, info)
        if scores.is_meta:
            return tuple(scores.new_empty(s) for s in self.top_shapes([tuple(value.shape) for value in bottoms]))
        self._check_numbers(bottoms)
        each, (height, width) = len(self.grid), scores.shape[2:]
        flat = scores[0, each:].reshape(-1)
        anchors = self.grid.boxes(height, width, scores.device).view(height, width, each, 4)
        anchors = anchors.permute(2, 0, 1, 3).reshape(-1, 4)
        high, wide, scale = info.reshape(-1)[:3]
        moves = deltas[0].view(each, 4, height, width).permute(0, 2, 3, 1).reshape(-1, 4)
        boxes = self._cut(anchors, moves, high.trunc(), wide.trunc())
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= self.min_size * scale).all(1)
        large[-1:] = True
        boxes, flat = boxes[large].flip(0), flat[large].flip(0)
        order = flat.argsort(descending=True, stable=True)[: self.before]
        rois, kept = self._regions(boxes[order], self.threshold)
        return (rois, flat[order][kept, None])[: len(self.params.tops)]


def _anchors(base: int, ratios: Sequence[float], scales: Sequence[float]) -> np.ndarray:
    """float64 [A, 4] around the first cell."""
    ratio = np.asarray(ratios, np.float64)
    wide = np.floor(np.sqrt(base * base / ratio) + 0.5)
    high = np.floor(wide * ratio + 0.5)
    half = 0.5 * (np.stack([wide, high], 1)[:, None] * np.asarray(scales)[None, :, None] - 1).reshape(-1, 2)
    middle = 0.5 * (base - 1)
    return np.concatenate([middle - half, middle + half], 1)
