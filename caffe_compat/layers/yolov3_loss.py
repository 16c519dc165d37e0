"""What YOLO version 3 learns from: Yolov3.

Source: ``yolov3_layer.cpp`` and ``bbox_util.cpp`` of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.labels import check_regions
from caffe_compat.layers.params import Params
from caffe_compat.layers.region_truth import OBJECTS, SquaredDiff, best_overlap, check_objects, first_zero
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["Yolov3"]

_FOCAL = 0.5  #: the weight of the focal loss


@register(dialect="yolo")
class Yolov3(LossLayer):
    """The loss of one map of YOLO version 3: the sum of squares of a diff, over the batch.

    Bottoms: N x ``num`` (5 + ``num_class``) x H x W (x, y, width, height, objectness and classes of each box of each
    cell), and ground truth, 300 rows (class, x, y, width, height; centre and size as parts of the image) for each of
    the N images; the first row with a width of 0 ends an image, for the boxes of objects too the first with an x of 0.
    Box n of a cell has the biases number ``mask[n]``, widths and heights in pixels, of which a cell has
    ``anchors_scale``.  The diff: the objectness where no object overlaps a predicted box by more than ``thresh``; for
    each object, in the cell of its centre, the box of the most similar bias if this map has it, and every other whose
    overlap with the object is above ``iou_thresh``, with offsets (times 2 - area), objectness and classes.

    Kept as they are there: of several objects with one box the last counts, but for classes, where a later one only
    adds its own; the best box is looked for among the others by its place in ``mask``, not by its number;
    ``noobject_scale`` is not used, and ``object_scale`` only with ``use_logic_gradient``.  The gradient is the diff
    over the batch, times the sigmoids' slope with ``use_logic_gradient``; without it that of the cross entropy.
    ``iou_loss`` other than MSE is refused; so ``iou_normalizer``, ``max_delta`` and ``accumulate`` are not used.
    """

    caffe_type = "Yolov3"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("yolov3_param")
        section.ignore("side", "noobject_scale", "iou_normalizer", "max_delta", "accumulate")
        self.classes, self.num = int(section.num_class), int(section.num)
        if section.enum("iou_loss") != "MSE":
            raise self.error(f"yolov3_param.iou_loss is {section.enum('iou_loss')}, expected MSE: others are not here")
        self.mask, biases = [int(number) for number in section.mask], [float(bias) for bias in section.biases]
        if self.classes < 1 or self.num < 1 or len(self.mask) < self.num:
            raise self.error(
                f"yolov3_param has num_class {self.classes}, num {self.num} and {len(self.mask)} entries of mask, "
                "expected positive numbers, and one entry for each box"
            )
        self.mask = self.mask[: self.num]
        if len(biases) < 2 or len(biases) % 2 or 2 * max(self.mask) >= len(biases) or min(biases) <= 0:
            raise self.error(
                f"yolov3_param.biases is {biases}, expected width and height, in pixels, of {max(self.mask) + 1} or "
                "more boxes: mask names the last"
            )
        self.biases = np.array(biases).reshape(-1, 2)
        self.pixels = int(section.anchors_scale)
        if self.pixels < 1:
            raise self.error(f"yolov3_param.anchors_scale is {self.pixels}, expected a positive number")
        self.thresh, self.iou_thresh = float(section.thresh), float(section.iou_thresh)
        self.coord_scale, self.class_scale = float(section.coord_scale), float(section.class_scale)
        self.slope, self.focal = bool(section.use_logic_gradient), bool(section.use_focal_loss)
        scale = float(section.object_scale)
        self.object_scale = scale if self.slope else 1.0
        self.smooth = float(section.label_smooth_eps)

    def backward_reads(self) -> Reads:
        """Nothing: the diff is kept."""
        return Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        tops = super().top_shapes(bottoms)
        scores, channels = tuple(bottoms[0]), self.num * (5 + self.classes)
        self.require(
            len(scores) == 4 and scores[1] == channels,
            f"bottom 0 has the shape {list(scores)}, expected N x {channels} x H x W",
        )
        self.require(
            count(bottoms[1], 1) == OBJECTS * 5,
            f"bottom 1 has the shape {list(bottoms[1])}, expected {OBJECTS} x 5 numbers for each image",
        )
        return tops

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """The diff of each image, then its squares."""
        if scores.is_meta:
            return scores.new_empty(())
        with torch.no_grad():
            truth = label.detach().to(scores).reshape(-1, OBJECTS, 5)
            check_regions(self, truth.reshape(-1, 5))
            values = scores.detach().reshape(len(scores), self.num, 5 + self.classes, *scores.shape[2:]).sigmoid()
            values[:, :, 2:4] = scores.detach().reshape(values.shape)[:, :, 2:4]
            diff = torch.zeros_like(values)
            for item, (value, objects) in enumerate(zip(values, truth, strict=True)):
                self._fill(value, objects, diff[item])
            gradient = diff
            if self.slope:
                gradient = diff * values * (1 - values)
                gradient[:, :, 2:4] = diff[:, :, 2:4]
        loss: Tensor = SquaredDiff.apply(scores, diff.reshape(scores.shape), gradient.reshape(scores.shape))
        return loss

    def _fill(self, value: Tensor, objects: Tensor, diff: Tensor) -> None:
        """The diff of one image [num, 5 + classes, H, W]; ``value``: sigmoids, but widths and heights as they are."""
        seen = objects[: first_zero(objects[:, 1]), 1:]
        best = best_overlap(self._boxes(value), seen)
        diff[:, 4] = torch.where(best > self.thresh, 0.0, value[:, 4])
        objects = objects[: first_zero(objects[:, 3])]
        if not len(objects):
            return
        check_objects(self, objects, self.classes)
        boxes = objects.cpu().numpy()
        height, width = value.shape[2:]
        column, row = (boxes[:, 1:3] * np.array([width, height])).astype(np.int64).T
        which, owner = self._chosen(boxes[:, 3:], width, height)
        if not len(which):
            return
        at = tuple(torch.from_numpy(part).to(value.device) for part in (which, row[owner], column[owner]))
        found = value[at[0], :, at[1], at[2]].cpu().numpy()
        rows = self._rows(found, boxes[owner], list(zip(*(part.tolist() for part in at), strict=True)), width, height)
        last = {place: number for number, place in enumerate(zip(*(part.tolist() for part in at), strict=True))}
        kept = torch.tensor(list(last.values()), device=value.device)
        n, j, i = (part[kept] for part in at)
        diff[n, :, j, i] = torch.from_numpy(rows).to(value)[kept]

    def _boxes(self, value: Tensor) -> Tensor:
        """The predicted boxes [num, H, W, 4], centre and size, as parts of the image."""
        height, width = value.shape[2:]
        columns, rows = torch.arange(width, device=value.device), torch.arange(height, device=value.device)
        x = (value[:, 0] + columns) / max(width, 1)
        y = (value[:, 1] + rows[:, None]) / max(height, 1)
        sizes = torch.from_numpy(self.biases[self.mask]).to(value) / self.pixels
        w = value[:, 2].exp() * sizes[:, 0, None, None] / max(width, 1)
        h = value[:, 3].exp() * sizes[:, 1, None, None] / max(height, 1)
        return torch.stack([x, y, w, h], -1)

    def _chosen(self, sizes: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Which boxes of a cell learn which objects, in the fork's order: places in ``mask``, and numbers of objects.

        Args:
            sizes: [T, 2] of objects, as parts of the image.
        """
        if not width * height:  # no cell, so no box
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        shapes = self.biases / np.array([width * self.pixels, height * self.pixels])
        both = np.minimum(shapes, sizes[:, None]).prod(-1)
        iou = both / (shapes.prod(-1) + sizes.prod(-1)[:, None] - both)
        places = {number: place for place, number in reversed(list(enumerate(self.mask)))}
        which, owner = [], []
        for t, of in enumerate(iou):
            best = int(of.argmax())
            if best in places:
                best = places[best]  # the fork's variable is a number of a bias before, a place from here on
                which.append(best)
                owner.append(t)
            for number, value in enumerate(of):
                if number in places and number != best and value > self.iou_thresh and self.iou_thresh < 1:
                    which.append(places[number])
                    owner.append(t)
        return np.array(which, np.int64), np.array(owner, np.int64)

    def _rows(
        self, value: np.ndarray, objects: np.ndarray, places: Sequence[tuple[int, ...]], width: int, height: int
    ) -> np.ndarray:
        """The diff of boxes that learn objects, [A, 5 + classes]; of those of one place the last is right.

        Args:
            value: the boxes' own [A, 5 + classes].
            objects: what each learns [A, 5].
            places: which box each is: its place in ``mask``, row and column.
        """
        rows = np.zeros_like(value)
        sides = np.array([width, height])
        scale = self.coord_scale * (2 - objects[:, 3:].prod(1, keepdims=True))
        cell = np.array([place[:0:-1] for place in places]).reshape(-1, 2)
        wanted = objects[:, 1:3] * sides - cell
        rows[:, :2] = scale * (value[:, :2] - wanted)
        biases = self.biases[[self.mask[place[0]] for place in places]].reshape(-1, 2)
        rows[:, 2:4] = scale * (value[:, 2:4] - np.log(objects[:, 3:] * sides * self.pixels / biases))
        rows[:, 4] = self.object_scale * (value[:, 4] - 1)
        held: dict[tuple[int, ...], np.ndarray] = {}
        for number, place in enumerate(places):
            before = held.get(place)
            label = int(objects[number, 0])
            rows[number, 5:] = self._class_row(value[number, 5:], label, before)
            held[place] = rows[number, 5:]
        return rows

    def _class_row(self, value: np.ndarray, label: int, before: np.ndarray | None) -> np.ndarray:
        """The diff of the classes of one box; ``before``: what an earlier object left there."""
        high, low = 1 - self.smooth / 2, self.smooth / 2
        if before is not None and before[label]:
            row = before.copy()
            row[label] = self.class_scale * (value[label] - high)
            return row
        one = np.arange(self.classes) == label
        away: np.ndarray = value - (one if self.focal else np.where(one, high, low))
        if self.focal:
            p = value[label] + 1e-15
            away *= _FOCAL * -(1 - p) * (2 * p * np.log(p) + p - 1)
        return self.class_scale * away
