"""DetectionAccuracy and DetectionGroupAccuracy: how good the classes and boxes of the cells of a map are.

Source: zhaoweicai/mscnn, ``detection_accuracy_layer.cpp``; zhaoweicai/cascade-rcnn,
``detection_group_accuracy_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.grid_boxes import BoxNorm, Fields, Limits, span_overlap
from caffe_compat.layers.grid_loss import GridTruth, ignored_label
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["DetectionAccuracy", "DetectionGroupAccuracy"]


class _GridAccuracy(Layer):
    """What the two share.  Tops: the part of cells, and of those with a class, whose class is right (1 x 1 x 1 x 2),
    and the mean overlap of predicted and true boxes of cells with a class (1 x 1 x 1 x 1); -1 where there are no cells.
    Cells of the background whose overlap is ``bg_threshold`` or more do not count, nor do ignored ones; the fork's own
    solver leaves -1 out of its means.
    """

    top_count = (1, 2)
    onnx_reason = "it judges training; export the deploy net instead"
    field: ClassVar[str]
    stride: ClassVar[str]
    pixel: ClassVar[int]  #: whether the last pixel of a box counts

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.fields, self.limits = Fields.read(params, self.field, self.stride), Limits.read(params, self.field)
        self.norm, self.ignore = BoxNorm.read(params), ignored_label(params)
        params.section("bbox_reg_param").ignore("cls_aware")
        self.classes, self.objectness = int(section.cls_num), bool(section.objectness)
        self.most_overlap = float(section.bg_threshold)
        if self.classes < 2 or (self.objectness and self.classes != 2):
            wanted = "2 with objectness" if self.objectness else "2 or more"
            raise self.error(f"{self.field}.cls_num is {self.classes}, expected {wanted}")

    def _shapes(self) -> list[Shape]:
        shapes: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return shapes[: len(self.params.tops)]

    def right(self, scores: Tensor, own: Tensor, label: Tensor) -> Tensor:
        """Which cells have their class among the best (Tensor[M, H, W]).

        Args:
            own: the score of each cell's class (Tensor[M, 1, H, W]).
            label: that class (the same).
        """
        raise NotImplementedError

    def judged(self, scores: Tensor, offsets: Tensor, blob: Tensor) -> tuple[Tensor, ...]:
        """The tops."""
        truth = GridTruth.of(blob)
        label = truth.label.clamp(max=1) if self.objectness else truth.label
        counts = ~((label == 0) & (truth.overlap >= self.most_overlap))
        boxed = truth.label != 0
        if self.ignore is not None:
            counts, boxed = counts & (label != self.ignore), boxed & (truth.label != self.ignore)
        index = label.clamp(0, self.classes - 1)[:, None]
        found = self.right(scores, scores.gather(1, index), index) & (index[:, 0] == label)
        fore = counts & (label != 0)
        boxes = self.fields.decoded(self.norm.undone(offsets, 1), self.limits).unbind(1)
        x, y, wide, high = truth.boxes.unbind(1)
        overlap = span_overlap(boxes, (x - wide / 2, y - high / 2, wide, high), self.pixel)
        means = [_mean(found.to(scores), counts), _mean(found.to(scores), fore), _mean(overlap, boxed)]
        tops = torch.stack(means[:2]).reshape(1, 1, 1, 2), means[2].reshape(1, 1, 1, 1)
        return tops[: len(self.params.tops)]


def _mean(values: Tensor, cells: Tensor) -> Tensor:
    """Over some cells, -1 without any."""
    number = cells.sum()
    mean = values.masked_fill(~cells, 0).sum() / number.clamp(min=1)
    return torch.where(number > 0, mean, torch.full_like(mean, -1))


@register(dialect="mscnn")
class DetectionAccuracy(_GridAccuracy):
    """Bottoms: scores and offsets [N, cls_num + 4, H, W], and what is right [N, 6, H, W], as DetectionLoss has them.

    A class is right if it is among the ``top_k`` of highest score; of equal scores the later class comes first.
    """

    caffe_type = "DetectionAccuracy"
    bottom_count = (2, 2)
    field, stride, pixel = "detection_accuracy_param", "downsample_rate", 0

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.best = int(section.top_k)
        if section.coord_num != 4 or not 1 <= self.best <= self.classes:
            raise self.error(
                f"{self.field} has coord_num {section.coord_num} and top_k {self.best}, expected 4, and 1 to cls_num, "
                f"{self.classes}"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 2 and 1 x 1 x 1 x 1."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and shape[1] == self.classes + 4,
            f"bottom 0 has the shape {list(shape)}, expected N x {self.classes + 4} x H x W: cls_num scores, 4 offsets",
        )
        self.require(
            tuple(bottoms[1]) == (shape[0], 6, *shape[2:]),
            f"bottom 1 has the shape {list(bottoms[1])}, expected {[shape[0], 6, *shape[2:]]}",
        )
        return self._shapes()

    def right(self, scores: Tensor, own: Tensor, label: Tensor) -> Tensor:
        """Fewer than ``top_k`` scores come before."""
        kinds = torch.arange(self.classes, device=scores.device)[:, None, None]
        return ((scores > own) | ((scores == own) & (kinds > label))).sum(1) < self.best

    @torch.no_grad()
    def forward(self, maps: Tensor, blob: Tensor) -> tuple[Tensor, ...]:
        """Compare."""
        unclear(self, maps, 0)
        return self.judged(maps[:, : self.classes], maps[:, self.classes :], blob)


@register(dialect="cascade")
class DetectionGroupAccuracy(_GridAccuracy):
    """Bottoms: scores [N G, cls_num, H, W], offsets [N G, 4, H, W], and what is right [N G, 6, H, W], as
    DetectionGroupLoss has them.  A class is right if its score is the highest; of equal ones the first class is.
    """

    caffe_type = "DetectionGroupAccuracy"
    bottom_count = (3, 3)
    field, stride, pixel = "detection_group_accuracy_param", "stride", 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 2 and 1 x 1 x 1 x 1."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and shape[1] == self.classes and shape[0] % len(self.fields) == 0,
            f"bottom 0 has the shape {list(shape)}, expected N {len(self.fields)} x {self.classes} x H x W",
        )
        for index, channels in ((1, 4), (2, 6)):
            self.require(
                tuple(bottoms[index]) == (shape[0], channels, *shape[2:]),
                f"bottom {index} has the shape {list(bottoms[index])}, expected {[shape[0], channels, *shape[2:]]}",
            )
        return self._shapes()

    def right(self, scores: Tensor, own: Tensor, label: Tensor) -> Tensor:
        """No score comes before."""
        kinds = torch.arange(self.classes, device=scores.device)[:, None, None]
        return ~((scores > own) | ((scores == own) & (kinds < label))).any(1)

    @torch.no_grad()
    def forward(self, scores: Tensor, offsets: Tensor, blob: Tensor) -> tuple[Tensor, ...]:
        """Compare."""
        unclear(self, scores, 0)
        unclear(self, offsets, 1)
        return self.judged(scores, offsets, blob)
