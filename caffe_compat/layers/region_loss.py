"""What YOLO version 2 learns from: RegionLoss.

Source: ``region_loss_layer.cpp`` of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.labels import check_regions
from caffe_compat.layers.params import Params
from caffe_compat.layers.region_truth import OBJECTS, SquaredDiff, check_objects, first_zero, overlap
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["RegionLoss"]

_LEAST = 10  #: of fewer biases the fork makes zeros


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
    """

    caffe_type = "RegionLoss"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("region_loss_param")
        section.ignore("side", "softmax", "jitter", "absolute", "random", "class_map")
        if section.softmax_tree:
            raise self.error("region_loss_param.softmax_tree is intel/caffe's, expected none")
        self.classes, self.num = int(section.num_class), int(section.num)
        if section.coords != 4 or self.classes < 1 or self.num < 1:
            raise self.error(
                f"region_loss_param has coords {section.coords}, num_class {self.classes} and num {self.num}, expected "
                "4 and positive numbers"
            )
        biases = [float(bias) for bias in section.biases]
        if len(biases) < max(_LEAST, 2 * self.num) or min(biases) <= 0:
            raise self.error(
                f"region_loss_param.biases is {biases}, expected {max(_LEAST, 2 * self.num)} or more positive numbers: "
                "width and height of each box"
            )
        self.biases = torch.tensor(biases[: 2 * self.num], dtype=torch.float64).reshape(-1, 2)
        self.bias_match, self.rescore = bool(section.bias_match), bool(section.rescore)
        self.thresh, self.coord_scale = float(section.thresh), float(section.coord_scale)
        self.object_scale, self.noobject_scale = float(section.object_scale), float(section.noobject_scale)
        self.class_scale = float(section.class_scale)

    def backward_reads(self) -> Reads:
        """Nothing: the diff is kept."""
        return Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        tops = super().top_shapes(bottoms)
        scores, channels = tuple(bottoms[0]), self.num * (5 + self.classes)
        self.require(
            len(scores) == 4 and scores[1] == channels and scores[2] == scores[3],
            f"bottom 0 has the shape {list(scores)}, expected N x {channels} x S x S",
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
            boxes = scores.detach().reshape(len(scores), self.num, 5 + self.classes, *scores.shape[2:])
            diff = torch.zeros_like(boxes)
            for item, (box, objects) in enumerate(zip(boxes, truth, strict=True)):
                self._fill(box, objects, diff[item])
        loss: Tensor = SquaredDiff.apply(scores, diff.reshape(scores.shape), diff.reshape(scores.shape))
        return loss

    def _fill(self, box: Tensor, objects: Tensor, diff: Tensor) -> None:
        """The diff of one image [num, 5 + classes, S, S]."""
        side = box.shape[-1]
        biases = self.biases.to(box) / max(side, 1)
        cells = torch.arange(side, device=box.device).to(box)
        centre = (box[:, :2].sigmoid() + torch.stack(torch.meshgrid(cells, cells, indexing="xy"))) / max(side, 1)
        predicted = torch.cat([centre, box[:, 2:4].exp() * biases[:, :, None, None]], 1).movedim(1, -1)
        sure = box[:, 4].sigmoid()
        seen = objects[: first_zero(objects[:, 1]), 1:]
        best = sure.new_zeros(sure.shape)
        if len(seen):
            best = overlap(predicted[..., None, :], seen).amax(-1)
        diff[:, 4] = torch.where(best > self.thresh, 0.0, self.noobject_scale * sure * sure * (1 - sure))
        objects = objects[: first_zero(objects[:, 3])]
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
        scale = self.coord_scale * (torch.ones_like(sure) if self.rescore else 2 - truth[:, 2] * truth[:, 3])[:, None]
        place = box[n, :2, j, i].sigmoid()
        wanted = truth[:, :2] * side - torch.stack([i, j], 1)
        diff[n, :2, j, i] = scale * (place - wanted) * place * (1 - place)
        diff[n, 2:4, j, i] = scale * (box[n, 2:4, j, i] - (truth[:, 2:] * side / self.biases.to(box)[n]).log())
        goal = overlap(predicted[n, j, i], truth) if self.rescore else torch.ones_like(sure)
        diff[n, 4, j, i] = self.object_scale * (sure - goal) * sure * (1 - sure)
        right = F.one_hot(labels.long(), self.classes).to(box)
        diff[n, 5:, j, i] = self.class_scale * (box[n, 5:, j, i].softmax(1) - right)
