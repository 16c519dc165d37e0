"""Detections of YOLO nets: YoloDetectionOutput, Yolov3DetectionOutput.

Source: ``yolo_detection_output_layer.cpp`` and ``yolov3_detection_output_layer.cpp`` of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register

__all__ = ["YoloDetectionOutput", "Yolov3DetectionOutput"]


class _YoloOutput(Layer):
    """What both share: boxes by falling score, of which those go that overlap with a better one, whatever their class.

    Top: 1 x 1 x K x 7, rows [0, label from 1, score, x1, y1, x2, y2], boxes as parts of the image and not cut to it.
    All images of a batch are one image, as in the fork.  Without any detection there are N rows of -1 with the image's
    number first.  Of equal scores the first prediction comes first (std::sort leaves that open).
    """

    top_count = (1, 1)
    sized_by_values = True
    rows_axis = 2
    coordinates = 4

    def _read(self, section: Section, boxes: str) -> None:
        if not section.has("num_classes") or section.num_classes < 1:
            raise self.error(f"{section.field}.num_classes is missing or 0, expected a positive number")
        self.classes, self.boxes = int(section.num_classes), int(section.value(boxes))
        if self.boxes < 1:
            raise self.error(f"{section.field}.{boxes} is {self.boxes}, expected a positive number")
        self.threshold, self.nms = float(section.confidence_threshold), float(section.nms_threshold)
        for name, value in (("confidence_threshold", self.threshold), ("nms_threshold", self.nms)):
            if math.isnan(value):
                raise self.error(f"{section.field}.{name} is NaN, expected a number")

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        """Width and height of each box of a cell, in cells of the map of ``bottom``."""
        raise NotImplementedError

    def scores(self, objects: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of predictions (Tensor[P], Tensor[P, C]) the scores that count, and their places and classes."""
        raise NotImplementedError

    def check_bottoms(self, bottoms: Sequence[Shape]) -> int:
        """The number of boxes of all cells of all images."""
        total = 0
        for index, shape in enumerate(bottoms):
            wanted = self.boxes * (self.coordinates + 1 + self.classes)
            self.require(
                len(shape) == 4 and shape[1] == wanted and shape[0] == bottoms[0][0],
                f"bottom {index} has the shape {list(shape)}, expected N x {wanted} x H x W: {self.boxes} boxes of "
                f"{self.coordinates} coordinates, a score and {self.classes} classes",
            )
            total += self.boxes * shape[0] * count(shape, 2)
        return total

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """1 x 1 x 1 x 7: until it has run, Caffe says so too."""
        self.check_bottoms([tuple(bottom.shape) for bottom in bottoms])
        return [(1, 1, 1, 7)]

    def _predictions(self, bottom: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes x1 y1 x2 y2 (Tensor[P, 4]), scores of objects (Tensor[P]) and values of classes (Tensor[P, C])."""
        number, _, height, width = bottom.shape
        each = 5 + self.classes
        rows = bottom.reshape(number, self.boxes, each, height, width).permute(0, 3, 4, 1, 2)  # cell by cell
        anchors = bottom.new_tensor(self.anchors(index))
        column = torch.arange(width, device=bottom.device, dtype=bottom.dtype)[None, :, None]
        row = torch.arange(height, device=bottom.device, dtype=bottom.dtype)[:, None, None]
        x = (column + rows[..., 0].sigmoid()) / width
        y = (row + rows[..., 1].sigmoid()) / height
        w = rows[..., 2].exp() * anchors[:, 0] / width
        h = rows[..., 3].exp() * anchors[:, 1] / height
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1).reshape(-1, 4)
        return boxes, rows[..., 4].sigmoid().flatten(), rows[..., 5:].flatten(0, 3)

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> Tensor:
        """Decode, choose, sort, suppress."""
        if bottoms[0].is_meta:
            return bottoms[0].new_empty(self.top_shapes([tuple(bottom.shape) for bottom in bottoms])[0])
        for name, bottom in zip(self.params.bottoms, bottoms, strict=True):
            if can_look(bottom) and bool(bottom.isnan().any()):
                raise self.error(f"bottom '{name}' holds NaN, expected numbers")
        found = [torch.cat(parts) for parts in zip(*self._found(bottoms), strict=True)]
        boxes, scores, labels = found
        order = scores.argsort(descending=True, stable=True)
        kept = order[_suppressed(self, boxes[order], scores[order], self.nms)]
        if not len(kept):
            top = bottoms[0].new_full((len(bottoms[0]), 7), -1)
            top[:, 0] = torch.arange(len(top))
            return top[None, None]
        head = torch.stack([torch.zeros_like(scores[kept]), labels[kept].to(scores) + 1, scores[kept]], 1)
        return torch.cat([head, boxes[kept]], 1)[None, None]

    def _found(self, bottoms: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for index, bottom in enumerate(bottoms):
            boxes, objects, classes = self._predictions(bottom, index)
            scores, places, labels = self.scores(objects, classes)
            yield boxes[places], scores, labels

    # -- ONNX -------------------------------------------------------------------------------------------------

    def onnx_scores(self, graph: OnnxGraph, objects: str, classes: str) -> str:
        """Scores float32[P, C] of predictions, of which those up to 0 never count."""
        raise NotImplementedError

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Decoding, NonZero, NonMaxSuppression; sizes but the batch are static."""
        add, constant = graph.add, graph.constant
        parts = [self._onnx_predictions(graph, bottom, index) for index, bottom in enumerate(bottoms)]
        boxes, scores = (add("Concat", list(values), axis=0) for values in zip(*parts, strict=True))
        strict = self.threshold if self.strict else float(np.nextafter(np.float32(self.threshold), np.float32(-1)))
        places = add("NonZero", [add("Greater", [scores, constant(strict)])])  # [2, M]: prediction and class
        which, label = (add("Gather", [places, constant(np.array(n))], axis=0) for n in (0, 1))
        values = add("GatherND", [scores, add("Transpose", [places], perm=[1, 0])])
        rows = add("Gather", [boxes, which], axis=0)
        head = add("Add", [add("Cast", [label], to=1), constant(1.0)])
        columns = [
            add("Unsqueeze", [value, constant([1])]) for value in (add("Mul", [values, constant(0.0)]), head, values)
        ]
        table = add("Concat", [*columns, rows], axis=1)
        chosen = add(
            "NonMaxSuppression",
            [
                add("Unsqueeze", [rows, constant([0])]),
                add("Unsqueeze", [values, constant([0, 1])]),
                add("Shape", [values]),
                constant(np.array([np.nextafter(np.float32(self.nms), np.float32(-1))], np.float32)),
            ],
        )
        found = add("Gather", [table, add("Gather", [chosen, constant(np.array(2))], axis=1)], axis=0)
        images = add("Gather", [add("Shape", [bottoms[0]]), constant(np.array(0))], axis=0)
        first = add(
            "Unsqueeze",
            [add("Cast", [add("Range", [constant(np.array(0)), images, constant(np.array(1))])], to=1), constant([1])],
        )
        rest = add("Add", [add("Mul", [first, constant(np.zeros((1, 6), np.float32))]), constant(-1.0)])
        nothing = add("Concat", [first, rest], axis=1)
        none = add("Equal", [add("Shape", [found], start=0, end=1), constant([0])])
        spare = add("Compress", [nothing, add("Expand", [none, add("Unsqueeze", [images, constant([0])])])], axis=0)
        graph.node("Unsqueeze", [add("Concat", [found, spare], axis=0), constant([0, 1])], tops)

    def _onnx_predictions(self, graph: OnnxGraph, bottom: str, index: int) -> tuple[str, str]:
        """Boxes float32[P, 4] and scores float32[P, C]."""
        add, constant = graph.add, graph.constant
        shape = graph.shape(bottom)
        if None in shape[1:]:
            raise self.export_error(f"bottom {index} has the shape {shape}, expected a static height and width")
        height, width = (n or 0 for n in shape[2:])
        split = add("Reshape", [bottom, constant([0, self.boxes, -1, height, width])])
        rows = add("Transpose", [split], perm=[0, 3, 4, 1, 2])
        anchors = np.array(self.anchors(index), np.float32)

        def part(start: int, end: int) -> str:
            return add("Slice", [rows, constant([start]), constant([end]), constant([4])])

        cells = np.stack(np.broadcast_arrays(np.arange(width)[None, :, None], np.arange(height)[:, None, None]), -1)
        sides = np.array([width, height], np.float32)
        middle = add("Add", [add("Sigmoid", [part(0, 2)]), constant(cells.astype(np.float32))])
        middle = add("Div", [middle, constant(sides)])
        extent = add("Div", [add("Mul", [add("Exp", [part(2, 4)]), constant(anchors)]), constant(sides)])
        half = add("Div", [extent, constant(2.0)])
        corners = add("Concat", [add("Sub", [middle, half]), add("Add", [middle, half])], axis=4)
        boxes = add("Reshape", [corners, constant([-1, 4])])
        objects = add("Reshape", [add("Sigmoid", [part(4, 5)]), constant([-1, 1])])
        classes = add("Reshape", [part(5, 5 + self.classes), constant([-1, self.classes])])
        return boxes, self.onnx_scores(graph, objects, classes)

    strict = True  #: whether a score has to be above the threshold, not at it


def _suppressed(layer: Layer, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Places of the boxes that stay: an overlap of the threshold or more is too much."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises RuntimeError
        raise layer.error(f"needs torchvision, built for torch {torch.__version__}: {error}") from error
    limit = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores, limit)
    return kept


@register(dialect="yolo")
class YoloDetectionOutput(_YoloOutput):
    """YOLO 2: one class for each box, that of the highest softmax; its score times the object's is at the threshold.

    Bottoms: one or two square maps (Tensor[N, B (4 + 1 + C), S, S]) with the same boxes; ``biases`` are widths and
    heights of the boxes in cells.
    """

    caffe_type = "YoloDetectionOutput"
    bottom_count = (1, 2)
    strict = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("yolo_detection_output_param")
        section.ignore("side", "label_map_file")
        self._read(section, "num_box")
        if section.coords != 4:
            raise self.error(f"yolo_detection_output_param.coords is {section.coords}, expected 4")
        self.biases = [float(value) for value in section.biases]
        if len(self.biases) < 2 * self.boxes:
            raise self.error(
                f"yolo_detection_output_param has {len(self.biases)} biases, expected 2 for each of {self.boxes} boxes"
            )

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        """The first ones, of every map."""
        return [(self.biases[2 * n], self.biases[2 * n + 1]) for n in range(self.boxes)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x K x 7: a detection for each box at most."""
        total = self.check_bottoms(bottoms)
        for index, shape in enumerate(bottoms):
            self.require(shape[2] == shape[3], f"bottom {index} has the shape {list(shape)}, expected a square map")
        return [(1, 1, max(total, bottoms[0][0]), 7)]

    def scores(self, objects: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best class of each box."""
        best, label = classes.softmax(1).max(1)
        best = best * objects
        places = (best >= float(np.float32(self.threshold))).nonzero().reshape(-1)
        return best[places], places, label[places]

    def onnx_scores(self, graph: OnnxGraph, objects: str, classes: str) -> str:
        """0 but for the best class; of a threshold of 0 or less everything would count."""
        add, constant = graph.add, graph.constant
        if self.threshold <= 0:
            raise self.export_error(f"confidence_threshold is {self.threshold:g}, expected more than 0")
        label = add("Unsqueeze", [add("ArgMax", [classes], axis=1, keepdims=0), constant([1])])
        best = add("Equal", [label, constant(np.arange(self.classes)[None])])
        return add("Mul", [add("Mul", [add("Softmax", [classes], axis=1), objects]), add("Cast", [best], to=1)])


@register(dialect="yolo")
class Yolov3DetectionOutput(_YoloOutput):
    """YOLO 3: every class whose sigmoid times the object's is above the threshold is a detection of its own.

    Bottoms: maps (Tensor[N, B (4 + 1 + C), H, W]), ``mask_group_num`` of them; box n of map t has the biases number
    ``mask[t len(mask) / mask_group_num + n]``, widths and heights in pixels, of which a cell of map t has
    ``anchors_scale[t]``.  ``gaussian_box`` is refused.
    """

    caffe_type = "Yolov3DetectionOutput"
    bottom_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("yolov3_detection_output_param")
        self._read(section, "num_box")
        if section.gaussian_box:
            raise self.error(
                "yolov3_detection_output_param.gaussian_box is true, expected false: it has no meaning here"
            )
        self.biases = [float(value) for value in section.biases]
        self.mask, self.pixels = [int(v) for v in section.mask], [float(v) for v in section.anchors_scale]
        groups = int(section.mask_group_num)
        if groups != len(bottoms):
            raise self.error(
                f"yolov3_detection_output_param.mask_group_num is {groups}, expected {len(bottoms)}, the bottoms"
            )
        self.each = len(self.mask) // groups
        needed = (len(bottoms) - 1) * self.each + self.boxes
        if self.each == 0 or len(self.mask) < needed or len(self.pixels) < len(bottoms):
            raise self.error(
                f"yolov3_detection_output_param has {len(self.mask)} entries of mask and {len(self.pixels)} of "
                f"anchors_scale, expected {needed} or more and {len(bottoms)}"
            )
        if max(self.mask[:needed]) * 2 + 1 >= len(self.biases) or min(self.pixels) <= 0:
            raise self.error(
                f"yolov3_detection_output_param has {len(self.biases)} biases, expected 2 for each box of mask, "
                "and positive anchors_scale"
            )

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        """Those that the mask names, in cells."""
        mask = self.mask[bottom * self.each :][: self.boxes]
        return [(self.biases[2 * n] / self.pixels[bottom], self.biases[2 * n + 1] / self.pixels[bottom]) for n in mask]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x K x 7: a detection for each class of each box at most."""
        total = self.check_bottoms(bottoms)
        return [(1, 1, max(total * self.classes, bottoms[0][0]), 7)]

    def scores(self, objects: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All classes above the threshold."""
        values = classes.sigmoid() * objects[:, None]
        places, labels = (values > float(np.float32(self.threshold))).nonzero(as_tuple=True)
        return values[places, labels], places, labels

    def onnx_scores(self, graph: OnnxGraph, objects: str, classes: str) -> str:
        """Sigmoid times that of the object."""
        return graph.add("Mul", [graph.add("Sigmoid", [classes]), objects])
