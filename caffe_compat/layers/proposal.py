"""PVANET's Proposal: regions out of scores and offsets of anchors, as a layer with a message of its own.

Source: sanghoon/caffe, branch dev_pvanet, ``proposal_layer.cpp`` and ``nms.cpp``.
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

__all__ = ["Proposal"]


@register(dialect="pvanet")
class Proposal(Layer):
    """Regions of an image by falling score; no gradient passes.

    Bottoms: probabilities [1, 2 A, H, W], the first A of background, offsets [1, 4 A, H, W], and height and width of
    the image and the scales of both [1, 4] (published nets have [1, 6]: what follows is not read).  Tops: regions
    [R, 5] (0, x1, y1, x2, y2), cut to the image, and scores [R].  Anchors are those of py-faster-rcnn, halves rounded
    up.  Unlike there a box that is smaller than ``min_size`` stays, with a score of 0, and goes into suppression; and
    a box goes where its overlap with a better one is more than ``nms_thresh``, not already where it is that.  Of equal
    scores the first anchor comes first (the original's sort leaves that open).
    """

    caffe_type = "Proposal"
    bottom_count = (3, 3)
    top_count = (1, 2)
    sized_by_values = True

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
            count(info) >= 4,
            f"bottom 2 has the shape {list(info)}, expected 1 x 4 (height, width, and their scales) or longer",
        )
        most = min(anchors * count(scores, 2), self.before, self.after)
        shapes: list[Shape] = [(most, 5), (most,)]
        return shapes[: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        """Move, cut, sort, suppress."""
        bottoms = (scores, deltas, info)
        if scores.is_meta:
            return tuple(scores.new_empty(s) for s in self.top_shapes([tuple(value.shape) for value in bottoms]))
        for name, value in zip(self.params.bottoms, bottoms, strict=True):
            if can_look(value) and not bool(torch.isfinite(value).all()):
                raise self.error(f"bottom '{name}' holds NaN or infinite numbers, expected finite ones")
        height, width = scores.shape[2:]
        flat = scores[0, len(self.grid) :].permute(1, 2, 0).reshape(-1)
        anchors = self.grid.boxes(height, width, scores.device)
        boxes = moved(anchors, deltas[0].permute(1, 2, 0).reshape(-1, 4))
        high, wide, scale_high, scale_wide = info.reshape(-1)[:4]
        last = torch.stack([wide, high, wide, high]).to(boxes) - 1
        boxes = torch.minimum(boxes, last).clamp(min=0)
        if can_look(boxes) and bool(boxes.isnan().any()):
            raise self.error("offsets make boxes that are no numbers, expected smaller ones in bottom 1")
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        least = self.min_size * torch.stack([scale_wide, scale_high]).to(boxes)
        flat = flat * (sides >= least).all(1)
        order = flat.argsort(descending=True, stable=True)[: self.before]
        boxes, flat = boxes[order], flat[order]
        kept = suppress(self, boxes, flat, float(np.nextafter(self.threshold, np.inf)))[: self.after]
        rois = torch.cat([boxes.new_zeros(len(kept), 1), boxes[kept]], 1)
        return (rois, flat[kept])[: len(self.params.tops)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Anchors by broadcasting, TopK, NonMaxSuppression; see ``rpn_onnx.py``."""
        if not 0 <= self.threshold <= 1:
            raise self.export_error(f"nms_thresh is {self.threshold:g}; ONNX's suppression needs 0 to 1")
        rules = Rules(self.before, self.after, self.threshold, self.min_size, scales=(3, 2), small=0.0)
        scores = write_proposals(graph, bottoms, tops[0], self.grid, rules)
        if len(tops) > 1:
            graph.node("Identity", [scores], [tops[1]])


def _anchors(base: int, ratios: Sequence[float], scales: Sequence[float]) -> np.ndarray:
    """float64 [A, 4] around the first cell."""
    ratio = np.asarray(ratios, np.float64)
    wide = np.floor(np.sqrt(base * base / ratio) + 0.5)
    high = np.floor(wide * ratio + 0.5)
    half = 0.5 * (np.stack([wide, high], 1)[:, None] * np.asarray(scales)[None, :, None] - 1).reshape(-1, 2)
    middle = 0.5 * (base - 1)
    return np.concatenate([middle - half, middle + half], 1)
