"""RefineDet's MultiBoxLoss and DetectionOutput, whose priors are refined first, and its soft suppression.

Source: sfzhang15/RefineDet and jolibrain/caffe, ``detection_output_layer.cpp`` and ``bbox_util.cpp``
(OSGetConfidenceScores, CasRegDecodeBBoxesAll, CasRegFindMatches, ApplySoftNMSFast).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.box_coding import Priors, overlaps, unclear
from caffe_compat.layers.detection_output import DetectionOutput
from caffe_compat.layers.multibox import MultiBoxLoss, Stage
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["RefinedMultiBoxLoss", "RefinedOutput"]


def check_refining(layer: Layer, bottoms: Sequence[Shape], first: int, priors: int) -> None:
    """Raise a ShapeError unless the bottoms from ``first`` on have two scores and four numbers of each prior."""
    images = bottoms[0][0]
    for number, (shape, each) in enumerate(zip(bottoms[first:], (2, 4), strict=False), first):
        layer.require(
            bool(shape) and shape[0] == images and count(shape, 1) == each * priors,
            f"bottom {number} has the shape {list(shape)}, expected {images} x {each * priors}: {each} numbers of each "
            f"of {priors} priors",
        )


def _is_refined(params: Params) -> bool:
    section = params.section("detection_output_param")
    soft = section.has("nms_param") and section.nms_param.HasField("soft_nms")
    parted = section.no_permute or section.has("nbottom")  # synopsys-caffe's, whose bottoms are those of maps
    return bool(section.has("objectness_score") or soft or (len(params.bottoms) > 4 and not parted))


@register(when=_is_refined, dialect="refinedet")
class RefinedOutput(DetectionOutput):
    """DetectionOutput with refined priors (bottoms 3 and 4) and with ``soft_nms``.

    Bottom 3, N x (P 2): background and object of each prior; where the object is below ``objectness_score`` class 0 has
    the score 1 and every other 0.  Bottom 4, N x (P 4): moves the priors, which boxes are decoded against.

    With ``soft_nms`` a candidate that is compared with a box that stays goes back into the queue with its score times
    exp(-overlap^2 / ``theta``), and is dropped as by hard suppression.  As there, each comparison but the first takes
    from the queue whatever stands first by then, which may be another candidate: that one is lost, and the same one may
    stand in the queue several times.  Rows have the scores of the bottom, in the order in which boxes were kept unless
    ``keep_top_k`` sorts them.
    """

    bottom_count = (3, 5)
    no_gradient = (0, 1, 2, 3, 4)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_output_param")
        self.objectness = float(np.float32(section.objectness_score))
        self.soft, self.theta = bool(section.nms_param.soft_nms), np.float32(section.nms_param.theta)
        if self.soft and not self.theta > 0:
            raise self.error(f"nms_param.theta is {self.theta:g}, expected a positive number")
        if len(bottoms) > 4 and not self.share:
            raise self.error("detection_output_param.share_location is false with refined priors, expected true")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As SSD's, after checks of the other bottoms."""
        check_refining(self, bottoms, 3, self._priors(bottoms))
        return super().top_shapes(bottoms)

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """As SSD's."""
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        check_refining(self, shapes, 3, self._priors(shapes))
        return super().shapes_now(bottoms)

    def decoded(self, priors: Priors, predicted: Tensor, more: Sequence[Tensor]) -> Tensor:
        """Of each image against its own priors."""
        if len(more) < 2:
            return super().decoded(priors, predicted, more)
        unclear(self, more[1], 4)
        moved = more[1].to(predicted).reshape(len(predicted), -1, 4)
        refined = [Priors(boxes, priors.variances) for boxes in self.coding.decode(priors, moved)]
        for own in refined:
            self.coding.check(self, own)
        boxes = [self.coding.decode(own, one) for own, one in zip(refined, predicted, strict=True)]
        return torch.stack(boxes) if boxes else predicted

    def scored(self, scores: Tensor, more: Sequence[Tensor]) -> Tensor:
        """Without what is no object."""
        if not more:
            return scores
        unclear(self, more[0], 3)
        objects = more[0].to(scores).reshape(*scores.shape[:2], 2)[..., 1:]
        nothing = scores.new_zeros(self.classes)
        nothing[0] = 1
        return torch.where(objects < self.objectness, nothing, scores)

    def suppressed(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Places of the boxes of one class that stay; with ``soft_nms`` in the order of their lowered scores."""
        if not self.soft:
            return super().suppressed(boxes, scores)
        places = self.best(scores)
        boxes, values = boxes[places], scores[places]
        queue = [(-float(value), place) for place, value in enumerate(values)]
        kept: list[int] = []
        threshold = np.float32(self.nms)
        while queue:
            lowered, place = queue[0]
            keep = True
            near = overlaps(boxes[place : place + 1], boxes[kept])[0].float().numpy()
            for overlap in near:
                del queue[0]
                decay = math.exp(float(-(overlap * overlap) / self.theta))
                # what is added stands behind what has the same score: stable_sort
                entry = (-float(np.float32(-lowered * decay)), place)
                bisect.insort_right(queue, entry, key=_score)
                if overlap > threshold:
                    keep = False
                    break
            del queue[0]
            if keep:
                kept.append(place)
                if self.eta < 1 and threshold > 0.5:
                    threshold *= np.float32(self.eta)
        return places[torch.tensor(kept, dtype=torch.int64)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """As SSD's; the priors are decoded twice."""
        if self.soft:
            raise self.export_error("nms_param.soft_nms; ONNX's suppression knows no lowered scores")
        super().to_onnx(graph, bottoms, tops)

    def onnx_bottoms(self, graph: OnnxGraph, bottoms: Sequence[str]) -> list[str]:
        """Scores of what is no object are replaced."""
        predicted, scores, priors, *more = bottoms
        if more:
            total = graph.static_shape(priors, "the number of priors")[2] // 4
            ints = graph.constant
            objects = graph.add("Reshape", [more[0], ints([-1, total, 2])])
            objects = graph.add("Slice", [objects, ints([1]), ints([2]), ints([2])])
            low = graph.add("Less", [objects, graph.constant(self.objectness)])
            nothing = np.zeros(self.classes, np.float32)
            nothing[0] = 1
            table = graph.add("Reshape", [scores, ints([-1, total, self.classes])])
            scores = graph.add("Where", [low, graph.constant(nothing), table])
        return [predicted, scores, priors, *more[1:]]


def _score(entry: tuple[float, int]) -> float:
    return entry[0]


def _learns_refined(params: Params) -> bool:
    section = params.section("multibox_loss_param")
    return bool(section.has("objectness_score") or len(params.bottoms) > 4)


@register(when=_learns_refined, dialect="refinedet")
class RefinedMultiBoxLoss(MultiBoxLoss):
    """MultiBoxLoss whose priors are refined before they are matched (if ``use_prior_for_matching``) and learnt against.

    Bottom 4, N x (P 2): a prior whose object is below ``objectness_score`` is no negative.  Bottom 5, N x (P 4): moves
    the priors.  Mining ranks and suppresses with those that were not moved, as there.  No gradient to both.
    """

    bottom_count = (4, 6)
    no_gradient = (2, 3, 4, 5)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.objectness = float(np.float32(params.section("multibox_loss_param").objectness_score))
        if len(bottoms) > 5 and not self.share:
            raise self.error("multibox_loss_param.share_location is false with refined priors, expected true")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As SSD's, after checks of the other bottoms."""
        tops = super().top_shapes(bottoms)
        check_refining(self, bottoms, 4, bottoms[2][2] // 4)
        return tops

    def stage(self, known: Priors, more: Sequence[Tensor]) -> Stage:
        """Priors of each image, and which of them may be objects."""
        if not more:
            return super().stage(known, more)
        objects = more[0].reshape(len(more[0]), -1, 2)[..., 1]
        open_to = (objects >= self.objectness).numpy()
        if len(more) < 2:
            return Stage(known, known, open_to)
        moved = more[1].reshape(len(more[1]), -1, 4)
        refined = Priors(self.coding.decode(known, moved), known.variances)
        for boxes in refined.boxes:
            self.coding.check(self, Priors(boxes, known.variances))
        return Stage(known, refined, open_to)
