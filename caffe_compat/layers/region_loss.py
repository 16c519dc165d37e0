"""What YOLO version 2 learns from: RegionLoss.

Source: ``region_loss_layer.cpp`` of eric612/MobileNet-YOLO, and of intel/caffe.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.labels import check_regions
from caffe_compat.layers.params import Params
from caffe_compat.layers.region_truth import OBJECTS, SquaredDiff, best_overlap, check_objects, first_zero, overlap
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["RegionLoss"]

_ANNOTATED = 8  #: numbers of AnnotatedData's rows
_LEAST = 10  #: of fewer biases the fork makes zeros
_WARM, _WARM_SCALE = 12800, 0.01  #: images in which boxes are drawn to their biases, and how much


def _is_annotated(shape: Shape) -> bool:
    """Whether a bottom is AnnotatedData's."""
    return len(shape) == 4 and tuple(shape[:2]) == (1, 1) and shape[3] == _ANNOTATED


@register(dialect="yolo")
class RegionLoss(LossLayer):
    """YOLO version 2's loss: the sum of squares of its gradient, over the batch.

    Bottoms: N x ``num`` (5 + ``num_class``) x S x S (x, y, width, height, objectness and classes of each box of each
    cell), and ground truth, 300 rows (class, x, y, width, height; centre and size as parts of the image) for each of
    the N images; the first row with a width of 0 ends an image, for the boxes of objects too the first with an x of 0.
    What is added up: objectness where no object overlaps a predicted box by more than ``thresh``; for each object, in
    the cell of its centre, the box whose bias (``bias_match: 0``: prediction) has the most similar size, with its
    offsets (times 2 - area unless ``rescore``), its objectness (towards the overlap if ``rescore``, else 1) and its
    classes.  Of several objects with one box the last counts.  As in the fork the gradient is not that of the top: it
    is what the top squares; softmax is always taken; ``side``, ``softmax``, ``jitter``, ``absolute``, ``random`` and
    ``class_map`` are not used.

    With AnnotatedData's rows as ground truth (1 x 1 x G x 8: image, label from 1, instance, corners, difficult) it is
    intel/caffe's: the top is not divided by the batch, offsets are held within 1 and not weighted by area, and the
    objectness of an object is 2 ``object_scale`` (p - 1)^3 p (1 - p); ``rescore`` is not used, and ``class_map`` and
    ``softmax_tree`` are refused.

    With BoxData's rows (``num_label``, 30, for each image, ended as said) it is gklz1982/caffe-yolov2's and
    quhezheng/caffe_yolo_v2's: as intel/caffe's, but offsets are not held, the objectness of an object is that of the
    first kind without ``rescore``, and in the first 12800 / N passes all boxes are drawn to the centre of their cell
    and to their bias, with a weight of 0.01 (the forks count the passes of all such layers of a process, here each
    counts its own).
    """

    caffe_type = "RegionLoss"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("region_loss_param")
        section.ignore("side", "softmax", "jitter", "absolute", "random")
        self.annotated = _is_annotated(bottoms[1])
        self.boxed = not self.annotated and (section.has("num_label") or count(bottoms[1], 1) != OBJECTS * 5)
        self.rows = int(section.num_label) if self.boxed else OBJECTS
        self.passes, self.warm, self.carries = 0, False, self.boxed
        if section.softmax_tree or (section.class_map and (self.annotated or self.boxed)):
            raise self.error("region_loss_param has a softmax_tree or class_map as in intel/caffe, expected none")
        self.classes, self.num = int(section.num_class), int(section.num)
        if section.coords != 4 or self.classes < 1 or self.num < 1:
            raise self.error(
                f"region_loss_param has coords {section.coords}, num_class {self.classes} and num {self.num}, expected "
                "4 and positive numbers"
            )
        biases = [float(bias) for bias in section.biases]
        least = max(0 if self.annotated or self.boxed else _LEAST, 2 * self.num)
        if len(biases) < least or min(biases) <= 0:
            raise self.error(
                f"region_loss_param.biases is {biases}, expected {least} or more positive numbers: width and height of "
                "each box"
            )
        self.biases = torch.tensor(biases[: 2 * self.num], dtype=torch.float64).reshape(-1, 2)
        self.bias_match, self.rescore = bool(section.bias_match), bool(section.rescore)
        self.thresh, self.coord_scale = float(section.thresh), float(section.coord_scale)
        self.object_scale, self.noobject_scale = float(section.object_scale), float(section.noobject_scale)
        self.class_scale = float(section.class_scale)

    def backward_reads(self) -> Reads:
        """Nothing: the diff is kept."""
        return Reads()

    def seek(self, batches: int) -> None:
        """Count so many passes as made."""
        self.passes = batches

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        tops: list[Shape] = [()] if self.annotated else super().top_shapes(bottoms)
        scores, channels = tuple(bottoms[0]), self.num * (5 + self.classes)
        self.require(
            len(scores) == 4 and scores[1] == channels and scores[2] == scores[3],
            f"bottom 0 has the shape {list(scores)}, expected N x {channels} x S x S",
        )
        self.require(
            _is_annotated(bottoms[1]) if self.annotated else count(bottoms[1], 1) == self.rows * 5,
            f"bottom 1 has the shape {list(bottoms[1])}, expected {self.rows} x 5 numbers of each image or 1 x 1 x G "
            "x 8",
        )
        return tops

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """The diff of each image, then its squares."""
        if scores.is_meta:
            return scores.new_empty(())
        with torch.no_grad():
            boxes = scores.detach().reshape(len(scores), self.num, 5 + self.classes, *scores.shape[2:])
            diff = torch.zeros_like(boxes)
            self.warm = self.boxed and self.passes < _WARM // max(1, len(scores))
            images = (
                self._annotations(label.detach().to(scores), len(scores))
                if self.annotated
                else self._rows(scores, label)
            )
            for item, (box, (seen, objects)) in enumerate(zip(boxes, images, strict=True)):
                self._fill(box, seen, objects, diff[item])
            squared = diff * len(scores) ** 0.5 if self.annotated or self.boxed else diff
            self.passes += 1
        loss: Tensor = SquaredDiff.apply(scores, squared.reshape(scores.shape), diff.reshape(scores.shape))
        return loss

    def _rows(self, scores: Tensor, label: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each image the boxes that predictions are compared with [T, 4], and the objects [T, 5]."""
        truth = label.detach().to(scores).reshape(-1, self.rows, 5)
        check_regions(self, truth.reshape(-1, 5))
        return [(rows[: first_zero(rows[:, 1]), 1:], rows[: first_zero(rows[:, 3])]) for rows in truth]

    def _annotations(self, label: Tensor, number: int) -> list[tuple[Tensor, Tensor]]:
        """The same of AnnotatedData's rows."""
        rows = label.reshape(-1, 8)
        check_regions(self, rows)
        rows = rows[rows[:, 0] != -1]
        items = rows[:, 0].long()
        if bool(((items < 0) | (items >= number)).any()):
            raise self.error(f"bottom '{self.params.bottoms[1]}' has rows of an image that is not among the {number}")
        low, high = rows[:, 3:5], rows[:, 5:7]
        objects = torch.cat([rows[:, 1:2] - 1, (low + high) / 2, high - low], 1)
        return [(objects[items == item, 1:], objects[items == item]) for item in range(number)]

    def _fill(self, box: Tensor, seen: Tensor, objects: Tensor, diff: Tensor) -> None:
        """The diff of one image [num, 5 + classes, S, S]."""
        side = box.shape[-1]
        biases = self.biases.to(box) / max(side, 1)
        cells = torch.arange(side, device=box.device).to(box)
        centre = (box[:, :2].sigmoid() + torch.stack(torch.meshgrid(cells, cells, indexing="xy"))) / max(side, 1)
        predicted = torch.cat([centre, box[:, 2:4].exp() * biases[:, :, None, None]], 1).movedim(1, -1)
        sure = box[:, 4].sigmoid()
        best = best_overlap(predicted, seen)
        diff[:, 4] = torch.where(best > self.thresh, 0.0, self.noobject_scale * sure * sure * (1 - sure))
        if self.warm:
            place = box[:, :2].sigmoid()
            diff[:, :2] = _WARM_SCALE * (place - 0.5) * place * (1 - place)
            diff[:, 2:4] = _WARM_SCALE * box[:, 2:4]
        if not len(objects):
            return
        check_objects(self, objects, self.classes)
        truth = objects[:, 1:]
        column, row = (truth[:, :2] * side).long().unbind(1)
        sizes = biases.expand(len(truth), -1, 2) if self.bias_match else predicted[:, row, column, 2:].movedim(0, 1)
        wanted = truth[:, None, 2:]
        which = overlap(*(torch.cat([torch.zeros_like(size), size], -1) for size in (sizes, wanted))).argmax(1)
        last = {place: at for at, place in enumerate(zip(which.tolist(), row.tolist(), column.tolist(), strict=True))}
        kept = torch.tensor(list(last.values()), device=box.device)
        at, truth, labels = (which[kept], row[kept], column[kept]), truth[kept], objects[kept, 0]
        self._fill_objects(box, predicted, at, truth, labels, diff)

    def _fill_objects(
        self, box: Tensor, predicted: Tensor, at: tuple[Tensor, ...], truth: Tensor, labels: Tensor, diff: Tensor
    ) -> None:
        """The diff of boxes that stand for objects; ``at``: number, row and column of each."""
        n, j, i = at
        side = box.shape[-1]
        sure = box[n, 4, j, i].sigmoid()
        flat = self.rescore or self.annotated or self.boxed
        scale = self.coord_scale * (torch.ones_like(sure) if flat else 2 - truth[:, 2] * truth[:, 3])[:, None]
        most = 1.0 if self.annotated else torch.inf
        place = box[n, :2, j, i].sigmoid()
        wanted = truth[:, :2] * side - torch.stack([i, j], 1)
        diff[n, :2, j, i] = scale * (place - wanted).clamp(-most, most) * place * (1 - place)
        sizes = box[n, 2:4, j, i] - (truth[:, 2:] * side / self.biases.to(box)[n]).log()
        diff[n, 2:4, j, i] = scale * sizes.clamp(-most, most)
        if self.annotated:
            away = 2 * (sure - 1) ** 3
        else:
            towards = self.rescore and not self.boxed
            away = sure - (overlap(predicted[n, j, i], truth) if towards else torch.ones_like(sure))
        diff[n, 4, j, i] = self.object_scale * away * sure * (1 - sure)
        right = F.one_hot(labels.long(), self.classes).to(box)
        diff[n, 5:, j, i] = self.class_scale * (box[n, 5:, j, i].softmax(1) - right)
