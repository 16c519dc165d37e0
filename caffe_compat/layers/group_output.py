"""Cascade R-CNN's BoxGroupOutput, regions out of maps of several scales and fields, and FrcnnOutput, its detections.

Source: zhaoweicai/cascade-rcnn, ``box_group_output_layer.cpp`` and ``frcnn_output_layer.cpp``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, Shape, as_rows, count
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.grid_boxes import BoxNorm, Fields, Limits, moved_priors
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes
from caffe_compat.media.pixel_boxes import KINDS, suppressed

__all__ = ["BoxGroupOutput", "FrcnnOutput"]

_log = logging.getLogger(__name__)


def _read_suppression(layer: Layer, field: str) -> tuple[float, str]:
    """``iou_thr`` and ``nms_type``."""
    section = layer.params.section(field)
    threshold, kind = float(section.iou_thr), str(section.nms_type)
    if kind not in KINDS:
        raise layer.error(f"{field}.nms_type is '{kind}', expected {', '.join(KINDS)}")
    if not math.isfinite(threshold):
        raise layer.error(f"{field}.iou_thr is {threshold:g}, expected a finite number")
    return threshold, kind


@register(dialect="cascade")
class BoxGroupOutput(Layer):
    """Regions of all images of a batch by falling score; no gradient passes.

    Bottoms: for each ``box_group_param`` probabilities [N G, C, H, W], the first of background, and offsets
    [N G, 4, H, W] (less ``bbox_reg_param``'s means, in parts of its deviations), where the G maps of an image have a
    ``field_w`` and ``field_h`` each.  The score of a box is 1 less the probability of background, from ``fg_thr`` on it
    counts.  Centres are held within 1 / ``field_xyr`` of the field, sides within ``field_whr`` times it; it is cut to
    0 and the map's width and height times ``stride``, and dropped if smaller than ``min_size``.  Of the best
    ``max_nms_num`` (0: all) those go that overlap a better one by more than ``iou_thr``, by ``nms_type``: IOU, IOMU
    (over the smaller area) or IOFU (over the better one's); ``max_post_nms_num`` of an image stay (0: all).  Of equal
    scores the first box comes first (the original's sort leaves that open).  Tops: regions [R, 5, 1, 1] (image, x1, y1,
    x2, y2; the last pixel counts), and if asked for the same with the score [R, 6, 1, 1]; without any one region
    (0, 1, 1, 10, 10), and zeros.
    """

    caffe_type = "BoxGroupOutput"
    bottom_count = (2, UNLIMITED)
    top_count = (1, 2)
    sized_by_values = True
    onnx_reason = "no ONNX form yet"
    field = "box_group_output_param"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.norm, self.limits = BoxNorm.read(params), Limits.read(params, self.field)
        params.section("bbox_reg_param").ignore("cls_aware")
        groups = section.box_group_param
        if len(bottoms) != 2 * len(groups):
            raise self.error(
                f"has {len(bottoms)} bottoms and {len(groups)} box_group_param, expected two bottoms for each: "
                "probabilities and offsets"
            )
        self.groups = [Fields(tuple(one.field_w), tuple(one.field_h), int(one.stride)) for one in groups]
        for fields in self.groups:
            fields.check(params, f"{self.field}.box_group_param", "stride")
        self.fg_thr, self.min_size = float(section.fg_thr), np.float32(section.min_size)
        if not (math.isfinite(self.fg_thr) and np.isfinite(self.min_size)):
            raise self.error(
                f"{self.field} has fg_thr {self.fg_thr:g} and min_size {self.min_size:g}, expected numbers"
            )
        self.threshold, self.kind = _read_suppression(self, self.field)
        self.before, self.after = int(section.max_nms_num), int(section.max_post_nms_num)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Probabilities."""
        return random.random(shapes[bottom]) if bottom % 2 == 0 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        images, each = bottoms[0][0] // len(self.groups[0]), 0
        for index, fields in enumerate(self.groups):
            scores, offsets = (tuple(shape) for shape in bottoms[2 * index : 2 * index + 2])
            self.require(
                len(scores) == 4 and scores[0] == images * len(fields) and scores[1] == bottoms[0][1] and scores[1] > 0,
                f"bottom {2 * index} has the shape {list(scores)}, expected {images} {len(fields)} x C x H x W with "
                "the C of all: an image has as many maps as fields",
            )
            self.require(
                offsets == (scores[0], 4, *scores[2:]),
                f"bottom {2 * index + 1} has the shape {list(offsets)}, expected {[scores[0], 4, *scores[2:]]}",
            )
            each += len(fields) * count(scores, 2)
        for limit in (self.before, self.after):
            each = min(each, limit) if limit else each
        shapes: list[Shape] = [(max(1, images * each), 5, 1, 1), (max(1, images * each), 6, 1, 1)]
        return shapes[: len(self.params.tops)]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """One row, as in Caffe until the forward pass."""
        return [(1, *shape[1:]) for shape in self.top_shapes([tuple(bottom.shape) for bottom in bottoms])]

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Decode on the device; choose, sort and suppress on the CPU, image by image."""
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
        if bottoms[0].is_meta:
            return tuple(bottoms[0].new_empty(shape) for shape in shapes)
        for index, bottom in enumerate(bottoms):
            unclear(self, bottom, index)
        images = bottoms[0].shape[0] // len(self.groups[0])
        found = []
        for index, fields in enumerate(self.groups):
            boxes, scores = self._decoded(fields, *bottoms[2 * index : 2 * index + 2])
            cells = len(fields) * count(bottoms[2 * index].shape, 2)
            found.append((boxes.reshape(images, cells, 4), scores.reshape(images, cells)))
        boxes, scores = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
        rows = np.concatenate([np.zeros((0, 6), np.float32), *map(self._image, range(images), boxes, scores)])
        regions = rows[:, :5]
        if not len(rows):
            regions, rows = np.array([[0, 1, 1, 10, 10]], np.float32), np.zeros((1, 6), np.float32)
        tops = (torch.from_numpy(np.ascontiguousarray(top)).to(bottoms[0]) for top in (regions, rows))
        return tuple(top[..., None, None] for top in tops)[: len(self.params.tops)]

    def _decoded(self, fields: Fields, scores: Tensor, offsets: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Boxes x1 y1 x2 y2 within the map [M, H W, 4] and scores [M, H W]."""
        height, width = scores.shape[2:]
        spans = fields.decoded(self.norm.undone(offsets, 1), self.limits)
        ends = spans[:, :2] + spans[:, 2:] - 1
        most = ends.new_tensor([width * fields.stride, height * fields.stride])[:, None, None]
        corners = torch.cat([spans[:, :2].clamp(min=0), torch.minimum(ends, most)], 1).flatten(2).movedim(1, 2)
        return corners.cpu().float().numpy(), (1 - scores[:, 0]).flatten(1).cpu().float().numpy()

    def _image(self, item: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Rows (image, corners, score) of one image."""
        sides = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
        large = ((scores >= np.float32(self.fg_thr)) & (sides >= self.min_size).all(1)).nonzero()[0]
        order = large[np.argsort(-scores[large], kind="stable")]
        if self.before:
            order = order[: self.before]
        kept = order[suppressed(boxes[order], self.threshold, self.kind, self.after)]
        return np.concatenate([np.full((len(kept), 1), item, np.float32), boxes[kept], scores[kept, None]], 1)


@register(dialect="cascade")
class FrcnnOutput(Layer):
    """Detections of one image, class by class; no gradient passes.

    Bottoms: probabilities [R, C], the first of background, offsets [R, 8] (background and object) or with
    ``bbox_reg_param``'s cls_aware [R, 4 C], regions [R, 5] (0, x1, y1, x2, y2; the last pixel counts) or with a score
    [R, 6], and height and width of the image [1, 2].  A region counts for each class whose probability is ``conf_thr``
    or more, with the box that its offsets make (less the means, in parts of the deviations), cut to 0, width and
    height; those go that overlap a better one of the class by more than ``iou_thr``, by ``nms_type``.  Of all classes
    together the best ``max_det_num`` stay (0: all).  Top: [K + 1, 7, 1, 1]: a row 0 and -1s, then rows (0, x1, y1, x2,
    y2, class, probability) by class and falling probability; of equal ones the first region, and class, comes first
    (the original's sorts leave that open).  ``save_output_param`` writes no files here.
    """

    caffe_type = "FrcnnOutput"
    bottom_count = (4, 4)
    sized_by_values = True
    onnx_reason = "no ONNX form yet"
    field = "frcnn_output_param"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.norm, self.aware = BoxNorm.read(params), bool(params.section("bbox_reg_param").cls_aware)
        self.least, self.most = float(section.conf_thr), int(section.max_det_num)
        if not math.isfinite(self.least):
            raise self.error(f"{self.field}.conf_thr is {self.least:g}, expected a finite number")
        self.threshold, self.kind = _read_suppression(self, self.field)
        if section.has("save_output_param") and section.save_output_param.output_directory:
            _log.warning("layer '%s': save_output_param writes no files here; use the rows of the top", self.name)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Probabilities, regions of one image, its size."""
        if bottom == 0:
            return random.random(shapes[0])
        if bottom == 2:
            rows, columns = shapes[2][:2]
            found = sample_boxes((rows, 5), [1], (200.0, 100.0), random)
            return np.concatenate([found, np.ones((rows, columns - 5))], 1).reshape(shapes[2])
        return np.array([100.0, 200.0]).reshape(shapes[3]) if bottom == 3 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many rows as there can be."""
        scores, offsets, priors, sizes = ((*shape, 1, 1)[:2] for shape in bottoms)
        for index, (shape, columns) in enumerate(
            (
                (scores, None),
                (offsets, 4 * scores[1] if self.aware else 8),
                (priors, 6 if priors[1] == 6 else 5),
                (sizes, 2),
            )
        ):
            rows = 1 if index == 3 else scores[0]
            wanted = (rows, scores[1] if columns is None else columns)
            self.require(
                shape == wanted and count(bottoms[index], 2) == 1,
                f"bottom {index} has the shape {list(bottoms[index])}, expected {wanted[0]} x {wanted[1]}",
            )
        self.require(scores[1] >= 2, f"bottom 0 has the shape {list(bottoms[0])}, expected two classes or more")
        most = scores[0] * (scores[1] - 1)
        return [((min(most, self.most) if self.most else most) + 1, 7, 1, 1)]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """One row, as in Caffe until the forward pass."""
        return [(1, *shape[1:]) for shape in self.top_shapes([tuple(bottom.shape) for bottom in bottoms])]

    @torch.no_grad()
    def forward(self, scores: Tensor, offsets: Tensor, priors: Tensor, sizes: Tensor) -> Tensor:
        """Move regions on the device; sort and suppress on the CPU, class by class."""
        bottoms = (scores, offsets, priors, sizes)
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
        if scores.is_meta:
            return scores.new_empty(shapes[0])
        for index, bottom in enumerate(bottoms):
            unclear(self, bottom, index)
        regions = as_rows(priors)[:, :5]
        self._check_regions(regions)
        moved = moved_priors(
            self, self.norm.undone(offsets.reshape(len(offsets), offsets.shape[1] // 4, 4), 2), regions[:, 1:]
        )
        height, width = sizes.reshape(-1).tolist()
        ends = moved.new_tensor([width, height])
        corners = torch.cat([moved[..., :2].clamp(min=0), torch.minimum(moved[..., 2:], ends)], -1)
        rows = self._rows(corners.cpu().float().numpy(), as_rows(scores).cpu().float().numpy())
        return torch.from_numpy(rows).to(scores)[..., None, None]

    def _check_regions(self, regions: Tensor) -> None:
        """Raise unless all are of image 0 and have their corners in order."""
        wrong = (regions[:, 0] != 0) | (regions[:, 3:] < regions[:, 1:3]).any(1)
        if bool(wrong.any()):
            first = int(wrong.int().argmax())
            raise self.error(
                f"region {first} in bottom '{self.params.bottoms[2]}' is {regions[first].tolist()}, expected image 0 "
                "(a batch of one) and x1 <= x2, y1 <= y2"
            )

    def _rows(self, corners: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Rows of the top; boxes are [R, C or 2, 4], scores [R, C]."""
        found = [np.array([[0, -1, -1, -1, -1, -1, -1]], np.float32)]
        for label in range(1, scores.shape[1]):
            score, boxes = scores[:, label], corners[:, label if self.aware else 1]
            order = (score >= np.float32(self.least)).nonzero()[0]
            order = order[np.argsort(-score[order], kind="stable")]
            kept = order[suppressed(boxes[order], self.threshold, self.kind)]
            rows = np.zeros((len(kept), 7), np.float32)
            rows[:, 1:5], rows[:, 5], rows[:, 6] = boxes[kept], label, score[kept]
            found.append(rows)
        every = np.concatenate(found)
        if self.most and len(every) - 1 > self.most:
            best = np.argsort(-every[1:, 6], kind="stable")[: self.most]
            every = np.concatenate([every[:1], every[1:][np.sort(best)]])
        return every
