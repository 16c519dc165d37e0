"""How detections of YOLO version 2 meet the ground truth, image by image: EvalDetection.

Source: ``eval_detection_layer.cpp`` of intel/caffe, and of gklz1982/caffe-yolov2, whose ground truth is BoxData's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, Shape, count
from caffe_compat.layers.labels import check_regions
from caffe_compat.layers.params import Params
from caffe_compat.layers.region_truth import first_zero, overlap
from caffe_compat.layers.registry import register

__all__ = ["EvalDetection"]

BOXES = 5  #: of a cell, which the fork's loop counts on
ROWS = 30  #: of an image in BoxData's ground truth
LEAST_SCORE = 0.005  #: from here on a prediction is a detection


@register(dialect="intel")
class EvalDetection(Layer):
    """For each image the number of objects of each class, and of each detection its class, score, and hit or miss.

    Bottoms: scores (Tensor[N, 5 (5 + C), S, S]: x, y, width, height, objectness and classes of each box of each cell);
    ground truth, AnnotatedData's (1 x 1 x G x 8) or BoxData's (N x 150: 30 rows of class, x, y, width and height, up
    to the first with an x of 0).  Further bottoms are not read.
    Top: Tensor[N, C + S S 5 4]: C counts, then (class, score, hit, miss) of each detection, classes ascending, scores
    falling; 0 behind them.  A score is that of the object (``OBJ``), of the best class (``PROB``), or their product.
    As in the fork a prediction goes that overlaps with a better one, of whatever class, by ``nms`` or more; below a
    score of 0.005 none counts; without ``nms`` none does at all.  A detection hits the object of its class that it
    overlaps most, at least by ``threshold``; the second one on an object is a miss, and so is one of a class that the
    image has not; one that overlaps less is neither.
    ``num_object`` must be 5, for which alone the fork's loop is right.  Of equal scores the first comes first
    (std::sort leaves that open).  ``sqrt`` and ``constriant`` say nothing in the fork either.
    """

    caffe_type = "EvalDetection"
    bottom_count = (2, UNLIMITED)
    no_gradient = (0, 1)
    onnx_reason = "compares with ground truth; export the net that gives the scores instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("eval_detection_param")
        section.ignore("sqrt", "constriant")
        self.side, self.classes = int(section.side), int(section.num_class)
        if section.num_object != BOXES or self.classes < 1 or self.side < 1:
            raise self.error(
                f"eval_detection_param has num_object {section.num_object}, num_class {self.classes} and side "
                f"{self.side}, expected {BOXES} and positive numbers"
            )
        biases = [float(value) for value in section.biases]
        if len(biases) < 2 * BOXES:
            raise self.error(
                f"eval_detection_param.biases has {len(biases)} entries, expected {2 * BOXES}: width and height of "
                "each box"
            )
        self.biases = torch.tensor(biases[: 2 * BOXES], dtype=torch.float64).reshape(BOXES, 2)
        self.threshold, self.nms, self.score = float(section.threshold), float(section.nms), section.enum("score_type")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C + S S 5 4]."""
        scores, label = tuple(bottoms[0]), tuple(bottoms[1])
        wanted = (BOXES * (5 + self.classes), self.side, self.side)
        self.require(
            len(scores) == 4 and scores[1:] == wanted,
            f"bottom 0 has the shape {list(scores)}, expected N x {' x '.join(map(str, wanted))}",
        )
        self.require(
            self._annotated(label) or (len(label) > 1 and label[0] == scores[0] and count(label, 1) == ROWS * 5),
            f"bottom 1 has the shape {list(label)}, expected 1 x 1 x G x 8, or {ROWS} x 5 numbers of each image",
        )
        return [(scores[0], self.classes + self.side**2 * BOXES * 4)]

    @staticmethod
    def _annotated(label: Sequence[int]) -> bool:
        return len(label) == 4 and tuple(label[:2]) == (1, 1) and label[3] == 8

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor, *others: Tensor) -> Tensor:
        """Image by image."""
        top = scores.new_zeros(self.top_shapes([tuple(scores.shape), tuple(label.shape)])[0])
        if scores.is_meta:
            return top
        check_regions(self, scores, 0)
        for row, image, objects in zip(top, scores, self._objects(label.to(scores), len(scores)), strict=True):
            wrong = (objects[:, 0] < 0) | (objects[:, 0] >= self.classes)
            if bool(wrong.any()):
                raise self.error(
                    f"an object in bottom '{self.params.bottoms[1]}' has the class {float(objects[wrong][0, 0]):g}, "
                    f"expected 0 to {self.classes - 1}"
                )
            row[: self.classes] = torch.bincount(objects[:, 0].long(), minlength=self.classes).to(row)
            found = self._judged(*self._detections(image), objects).flatten()
            row[self.classes : self.classes + len(found)] = found
        return top

    def _objects(self, label: Tensor, number: int) -> list[Tensor]:
        """Of each image its objects: class from 0, centre and size (Tensor[T, 5])."""
        if not self._annotated(label.shape):
            images = label.reshape(number, ROWS, 5)
            check_regions(self, images.reshape(-1, 5))
            return [_whole(rows[: first_zero(rows[:, 1])]) for rows in images]
        rows = label.reshape(-1, 8)
        check_regions(self, rows)
        items = rows[:, 0].long()
        if bool(((items < -1) | (items > number)).any()):  # the fork has room for one image more
            raise self.error(f"bottom '{self.params.bottoms[1]}' has rows of an image that is not among the {number}")
        low, high = rows[:, 3:5], rows[:, 5:7]
        found = _whole(torch.cat([rows[:, 1:2] - 1, (low + high) / 2, high - low], 1))
        return [found[items == item] for item in range(number)]

    def _detections(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (Tensor[P, 4], centre and size), scores (Tensor[P]) and classes that stay, scores falling."""
        cells = torch.arange(self.side, device=image.device, dtype=image.dtype)
        values = image.reshape(BOXES, 5 + self.classes, self.side, self.side).permute(2, 3, 0, 1)  # row, column, box
        row, column = torch.meshgrid(cells, cells, indexing="ij")
        centre = (torch.stack([column, row], -1)[:, :, None] + values[..., :2].sigmoid()) / self.side
        size = values[..., 2:4].exp() * self.biases.to(image) / self.side
        boxes = torch.cat([centre, size], -1).reshape(-1, 4)
        best, label = values[..., 5:].softmax(-1).reshape(-1, self.classes).max(1)
        sure = values[..., 4].sigmoid().reshape(-1)
        score = {"OBJ": sure, "PROB": best, "MULTIPLY": sure * best}[self.score]
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] >= LEAST_SCORE] if self.nms >= 0 else order[:0]  # what is worse suppresses nothing
        kept = order[self._apart(boxes[order])]
        return boxes[kept], score[kept], label[kept]

    def _apart(self, boxes: Tensor) -> Tensor:
        """Indices of boxes (best first) without those that overlap with a better one by ``nms`` or more."""
        close = (overlap(boxes[:, None], boxes) >= self.nms).cpu().numpy()
        alive = [True] * len(boxes)
        for at in range(len(boxes)):
            if alive[at]:
                for other in (close[at, at + 1 :].nonzero()[0] + at + 1).tolist():
                    alive[other] = False
        return torch.tensor([at for at, lives in enumerate(alive) if lives], dtype=torch.long, device=boxes.device)

    def _judged(self, boxes: Tensor, scores: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
        """Rows (class, score, hit, miss) in the top's order (Tensor[P, 4])."""
        rows = scores.new_zeros(len(scores), 4)
        rows[:, 0], rows[:, 1] = labels.to(scores), scores
        for label in labels.unique().tolist():
            which = (labels == label).nonzero().reshape(-1)
            truth = objects[objects[:, 0] == label, 1:]
            if not len(truth):
                rows[which, 3] = 1
                continue
            best, nearest = overlap(boxes[which][:, None], truth).nan_to_num(nan=-1.0).max(1)
            met: set[int] = set()
            for at, value, place in zip(which.tolist(), best.tolist(), nearest.tolist(), strict=True):
                if value >= self.threshold:
                    rows[at, 3 if place in met else 2] = 1
                    met.add(place)
        return rows[labels.argsort(stable=True)]


def _whole(objects: Tensor) -> Tensor:
    """The same with classes cut to whole numbers."""
    return torch.cat([objects[:, :1].trunc(), objects[:, 1:]], 1)
