"""YOLO version 2 before MobileNet-YOLO: DetectionOutput of one map, and Region.

Source: gklz1982/caffe-yolov2 and quhezheng/caffe_yolo_v2, ``detection_output_layer.cpp``, ``bbox_util.hpp``; the
latter's ``region_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.box_coding import overlaps
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["MapDetectionOutput", "Region"]


def _is_of_a_map(params: Params) -> bool:
    section = params.section("detection_output_param")
    return bool(section.has("biases") or section.has("classes"))


@register(when=_is_of_a_map, dialect="yolo")
class MapDetectionOutput(Layer):
    """Detections of a map (Tensor[N, B (5 + C), S, S]): for each box the class of the highest softmax.

    Top: 1 x 1 x K x 7, rows [image, class from 0, score, centre x and y, width, height] in the order of cells and
    boxes.  A score is the class's times the object's, and counts from ``confidence_threshold`` on.  Boxes are cut to
    the image when their overlaps are taken.  With ``num_classes`` (gklz1982/caffe-yolov2, one image only) a box goes
    that overlaps with an earlier one by ``nms_threshold`` or more, whatever the scores.  With ``classes``
    (quhezheng/caffe_yolo_v2) of two such boxes the one with the lower score of the object goes, of equal ones the
    first.  Without any detection there are N rows of -1 with the image's number first.  No gradient.
    """

    caffe_type = "DetectionOutput"
    no_gradient = (0,)
    sized_by_values = True
    rows_axis = 2
    rows_of_centres = True
    onnx_reason = "boxes are suppressed in the order of their cells, which ONNX's suppression does not do"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_output_param")
        section.ignore("label_map_file")  # the names are not used
        self.by_objects = bool(section.has("classes"))
        if self.by_objects == bool(section.has("num_classes")):
            raise self.error("detection_output_param of a map has num_classes and classes or neither, expected one")
        self.classes = int(section.classes if self.by_objects else section.num_classes)
        self.side, self.boxes = int(section.side), int(section.num_box)
        if min(self.classes, self.side, self.boxes) < 1 or section.coords != 4:
            raise self.error(
                f"detection_output_param has {self.classes} classes, side {self.side}, num_box {self.boxes} and coords "
                f"{section.coords}, expected positive numbers and 4"
            )
        self.threshold = float(section.confidence_threshold) if section.has("confidence_threshold") else 0.01
        self.nms = float(section.nms_threshold)
        for name, value in (("confidence_threshold", self.threshold), ("nms_threshold", self.nms)):
            if math.isnan(value):
                raise self.error(f"detection_output_param.{name} is NaN, expected a number")
        self.biases = [float(bias) for bias in section.biases]
        if len(self.biases) < 2 * self.boxes:
            raise self.error(
                f"detection_output_param has {len(self.biases)} biases, expected 2 for each of {self.boxes} boxes"
            )

    def _check(self, shape: Shape) -> None:
        wanted = (self.boxes * (5 + self.classes), self.side, self.side)
        self.require(
            len(shape) == 4 and tuple(shape[1:]) == wanted,
            f"the bottom has the shape {list(shape)}, expected N x {' x '.join(map(str, wanted))}",
        )
        self.require(
            self.by_objects or shape[0] == 1, f"the bottom has {shape[0]} images, expected one with num_classes"
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x K x 7: a detection for each box at most."""
        self._check(tuple(bottoms[0]))
        return [(1, 1, max(1, bottoms[0][0]) * self.side**2 * self.boxes, 7)]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """1 x 1 x 1 x 7: until it has run, Caffe says so too."""
        self._check(tuple(bottoms[0].shape))
        return [(1, 1, 1, 7)]

    @torch.no_grad()
    def forward(self, bottom: Tensor) -> Tensor:
        """Decode, choose, suppress."""
        if bottom.is_meta:
            return bottom.new_empty(self.top_shapes([tuple(bottom.shape)])[0])
        if can_look(bottom) and bool(bottom.isnan().any()):
            raise self.error(f"bottom '{self.params.bottoms[0]}' holds NaN, expected numbers")
        side = self.side
        rows = (
            bottom.cpu().reshape(len(bottom), self.boxes, 5 + self.classes, side, side).permute(0, 3, 4, 1, 2)
        )  # cell by cell
        sizes = torch.tensor(self.biases[: 2 * self.boxes], dtype=rows.dtype).reshape(-1, 2)
        cells = torch.arange(side).to(rows)
        centre = (
            rows[..., :2].sigmoid() + torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1)[:, :, None]
        ) / side
        boxes = torch.cat([centre, rows[..., 2:4].exp() * sizes / side], -1)
        objects = rows[..., 4].sigmoid()
        best, label = rows[..., 5:].softmax(-1).max(-1)
        found = []
        for image in range(len(bottom)):
            score = (best[image] * objects[image]).flatten()
            places = (score >= self.threshold).nonzero()[:, 0]
            own = boxes[image].reshape(-1, 4)[places]
            kept = self._kept(own, objects[image].flatten()[places])
            at = places[kept]
            head = torch.stack([torch.full_like(score[at], image), label[image].flatten()[at].to(score), score[at]], 1)
            found.append(torch.cat([head, own[kept]], 1))
        top = torch.cat(found) if found else rows.new_zeros(0, 7)
        if not len(top):
            top = rows.new_full((len(bottom), 7), -1)
            top[:, 0] = torch.arange(len(bottom))
        return top[None, None].to(bottom.device)

    def _kept(self, boxes: Tensor, objects: Tensor) -> Tensor:
        """Places of the boxes (centre, size) of an image that stay."""
        half = boxes[:, 2:] / 2
        corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1).clamp(0, 1)
        stays = [True] * len(boxes)
        for place in range(len(boxes)):
            if not stays[place]:
                continue
            near = overlaps(corners[place : place + 1], corners[place + 1 :])[0] >= self.nms
            for other in (near.nonzero()[:, 0] + place + 1).tolist():
                if stays[other] and self.by_objects and not objects[place] > objects[other]:
                    stays[place] = False
                    break
                stays[other] = False
        return torch.tensor([place for place, one in enumerate(stays) if one], dtype=torch.int64)


@register(dialect="yolo")
class Region(Layer):
    """YOLO version 2's map with its numbers box by box, in the shape of the bottom: scores of objects as sigmoids.

    What lies in the top are H W rows of B (5 + C) numbers.  ``softmax`` is not read, as there, where the layer's own
    mark is what memory holds; here no softmax is taken.  The fork's backward pass gives nothing.
    """

    caffe_type = "Region"
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("region_param")
        section.ignore("softmax", "anchors")
        self.boxes, self.each = int(section.boxes_of_each_grid), int(section.coords) + int(section.classes) + 1
        if self.boxes < 1 or self.each < 5:
            raise self.error(
                f"region_param has boxes_of_each_grid {self.boxes}, coords {section.coords} and classes "
                f"{section.classes}, expected a positive number, and 5 numbers of a box or more"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """That of the bottom."""
        shape, wanted = tuple(bottoms[0]), self.boxes * self.each
        self.require(
            len(shape) == 4 and shape[1] == wanted,
            f"the bottom has the shape {list(shape)}, expected N x {wanted} x H x W",
        )
        return [shape]

    @torch.no_grad()
    def forward(self, bottom: Tensor) -> Tensor:
        """Cell by cell, then the sigmoids."""
        rows = bottom.movedim(1, -1).reshape(-1, self.each).clone()
        rows[:, 4] = rows[:, 4].sigmoid()
        return rows.reshape(bottom.shape)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Transpose, Sigmoid and Where."""
        constant = graph.constant
        shape = graph.add("Shape", bottoms)
        rows = graph.add("Transpose", bottoms, perm=[0, 2, 3, 1])
        rows = graph.add("Reshape", [rows, constant([-1, self.each])])
        mark = constant((torch.arange(self.each) == 4).numpy())
        rows = graph.add("Where", [mark, graph.add("Sigmoid", [rows]), rows])
        graph.node("Reshape", [rows, shape], tops)
