"""py-faster-rcnn's AnchorTargetLayer and ProposalTargetLayer: what region proposal nets and detectors learn.

Source: ``lib/rpn/anchor_target_layer.py`` and ``proposal_target_layer.py`` of rbgirshick/py-faster-rcnn, with
``agnostic`` boxes and all regions as in YuwenXiong/py-R-FCN.  Random choices are this package's, not numpy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.layers.anchors import box_overlaps, offsets
from caffe_compat.layers.base import Shape, count
from caffe_compat.layers.data.regions import four_axes, is_named
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.rpn import ANCHORS, RpnLayer, number
from caffe_compat.random import Draw

__all__ = ["AnchorTargetLayer", "AnchorTargetSettings", "ProposalTargetLayer", "ProposalTargetSettings"]

ONES = (1.0, 1.0, 1.0, 1.0)
TRAINS = "it makes training examples; export the deploy net instead"


class _TargetLayer(RpnLayer):
    """What the two share: random choices, and boxes of one image."""

    onnx_reason = TRAINS

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._draw = Draw()

    def chosen(self, among: Tensor, most: float, random: torch.Generator | None) -> Tensor:
        """So many of some indices, at random without replacement; all if there are not more."""
        if len(among) <= most:
            return among
        return among[torch.randperm(len(among), generator=random)[: int(most)].to(among.device)]

    def check_boxes(self, shape: Shape, bottom: int) -> None:
        """G x 5."""
        self.require(
            len(shape) in (2, 3, 4) and count(shape, 1) == 5,
            f"bottom {bottom} has the shape {list(shape)}, expected G x 5 (x1, y1, x2, y2, class)",
        )

    def require_boxes(self, boxes: Tensor) -> Tensor:
        """Ground truth as float64 [G, 5], at least one."""
        if not len(boxes):
            raise self.error(f"bottom '{self.params.bottoms[1]}' has no boxes, expected at least one object")
        return boxes.double().reshape(-1, 5)


@dataclass(frozen=True)
class AnchorTargetSettings:
    """TRAIN.RPN_* of py-faster-rcnn's configuration.

    Attributes:
        positive_overlap, negative_overlap: from which on an anchor is foreground, below which it is background.
        clobber_positives: background wins where an anchor is both.
        fg_fraction, batch_size: anchors that count, and at most which part of them is foreground.
        inside_weights: of the four offsets of foreground.
        positive_weight: what foreground counts of all; below 0 every anchor counts the same.
    """

    positive_overlap: float = 0.7
    negative_overlap: float = 0.3
    clobber_positives: bool = False
    fg_fraction: float = 0.5
    batch_size: int = 256
    inside_weights: tuple[float, ...] = ONES
    positive_weight: float = -1.0


@register(
    when=lambda params: is_named(params, "rpn.anchor_target_layer", "AnchorTargetLayer"),
    dialect="faster-rcnn: AnchorTargetLayer",
)
class AnchorTargetLayer(_TargetLayer):
    """Which anchors are foreground, background or neither, and where foreground has to move.

    Bottoms: scores [1, 2 A, H, W] (for their size), ground truth [G, 5] (x1 y1 x2 y2 class), height, width and scale of
    the image, and the image, which is not read.  Tops: labels [1, 1, A H, W] (1, 0, or -1), offsets and their inside
    and outside weights [1, 4 A, H, W].  Anchors that reach out of the image by more than ``allowed_border`` count for
    nothing.  As in the original, a box of ground truth that touches no anchor makes foreground of all that touch none.
    """

    bottom_count = (3, 4)
    top_count = (4, 4)
    keys = (*ANCHORS, "allowed_border")
    needed = "feat_stride"
    settings: AnchorTargetSettings

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        values = self.read(params, AnchorTargetSettings())
        self.anchors = self.grid(values)
        self.border = number(self, "allowed_border", values.get("allowed_border", 0))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x A H x W and three of 1 x 4 A x H x W."""
        scores = tuple(bottoms[0])
        self.require(
            len(scores) == 4 and scores[0] == 1,
            f"bottom 0 has the shape {list(scores)}, expected 1 x 2 A x H x W: one image",
        )
        self.check_boxes(bottoms[1], 1)
        self.check_info(bottoms[2])
        height, width = scores[2:]
        maps = (1, 4 * len(self.anchors), height, width)
        return [(1, 1, len(self.anchors) * height, width), maps, maps, maps]

    @torch.no_grad()
    def forward(self, scores: Tensor, gt: Tensor, info: Tensor, *image: Tensor) -> tuple[Tensor, ...]:
        """Label, choose, measure."""
        shapes = self.top_shapes([tuple(value.shape) for value in (scores, gt, info)])
        if scores.is_meta:
            return tuple(scores.new_empty(shape) for shape in shapes)
        self.check_values((scores[:0], gt, info))
        height, width = scores.shape[2:]
        boxes = self.anchors.boxes(height, width, scores.device)
        high, wide = info.double().reshape(-1)[:2]
        low, end = -self.border, torch.stack([wide, high]) + self.border
        inside = ((boxes[:, :2] >= low) & (boxes[:, 2:] < end)).all(1).nonzero().reshape(-1)
        if not len(inside):
            raise self.error(f"no anchor lies in the image of {int(high)} x {int(wide)}, expected a larger image")
        truth = self.require_boxes(gt)
        overlaps = box_overlaps(boxes[inside], truth[:, :4])
        labels = self._subsampled(self._labels(overlaps), self._draw.generator(torch.device("cpu")))
        target = truth[overlaps.argmax(1), :4]
        columns = [labels[:, None], offsets(boxes[inside], target), *self._weights(labels)]
        tops = []
        for column, shape, fill in zip(columns, shapes, (-1, 0, 0, 0), strict=True):
            whole = scores.new_full((len(boxes), column.shape[1]), fill)
            whole[inside] = column.to(whole)
            turned = whole.reshape(height, width, -1).permute(2, 0, 1)
            tops.append(turned.reshape(shape))
        return tuple(tops)

    def _labels(self, overlaps: Tensor) -> Tensor:
        """1, 0 or -1 for each anchor that counts."""
        settings = self.settings
        labels = overlaps.new_full((len(overlaps),), -1)
        best = overlaps.amax(1)
        background = best < settings.negative_overlap
        if not settings.clobber_positives:
            labels[background] = 0
        labels[(overlaps == overlaps.amax(0)).any(1)] = 1
        labels[best >= settings.positive_overlap] = 1
        if settings.clobber_positives:
            labels[background] = 0
        return labels

    def _subsampled(self, labels: Tensor, random: torch.Generator | None) -> Tensor:
        """With what is too many at random made -1."""
        settings = self.settings
        kept = labels.new_full(labels.shape, -1)
        foreground = self.chosen(
            (labels == 1).nonzero().reshape(-1), int(settings.fg_fraction * settings.batch_size), random
        )
        kept[foreground] = 1
        most = max(settings.batch_size - len(foreground), 0)
        kept[self.chosen((labels == 0).nonzero().reshape(-1), most, random)] = 0
        return kept

    def _weights(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Inside and outside weights [N, 4]."""
        settings, fg, bg = self.settings, (labels == 1)[:, None], (labels == 0)[:, None]
        inside = fg * labels.new_tensor(settings.inside_weights)
        if settings.positive_weight < 0:
            each = 1.0 / max(int((labels >= 0).sum()), 1)
            weight = (fg | bg) * labels.new_full((4,), each)
        else:
            if not 0 < settings.positive_weight < 1:
                raise self.error(f"positive_weight is {settings.positive_weight:g}, expected 0 to 1, or below 0")
            positive = settings.positive_weight / max(int(fg.sum()), 1)
            negative = (1 - settings.positive_weight) / max(int(bg.sum()), 1)
            weight = fg * labels.new_full((4,), positive) + bg * labels.new_full((4,), negative)
        return inside, weight


@dataclass(frozen=True)
class ProposalTargetSettings:
    """TRAIN.* of py-faster-rcnn's configuration, as ``faster_rcnn_end2end.yml`` changes it.

    Attributes:
        batch_size, fg_fraction: regions of a minibatch, and which part of them is foreground; -1: all regions.
        fg_thresh: overlap from which on a region is foreground.
        bg_thresh_hi, bg_thresh_lo: background is below the one and not below the other.
        bbox_means, bbox_stds: taken off the offsets, and what they are divided by.
        inside_weights: of the four offsets of foreground.
        agnostic: offsets have columns for background and foreground, not for each class; with 2 classes always.
    """

    batch_size: int = 128
    fg_fraction: float = 0.25
    fg_thresh: float = 0.5
    bg_thresh_hi: float = 0.5
    bg_thresh_lo: float = 0.0
    bbox_means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    bbox_stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    inside_weights: tuple[float, ...] = ONES
    agnostic: bool = False


@register(
    when=lambda params: is_named(params, "rpn.proposal_target_layer", "ProposalTargetLayer"),
    dialect="faster-rcnn: ProposalTargetLayer",
)
class ProposalTargetLayer(_TargetLayer):
    """A sample of the regions of an image, foreground first, with labels and offsets.

    Bottoms: regions [R, 5] and ground truth [G, 5] (x1 y1 x2 y2 class), whose boxes are regions too.  Tops: regions
    [S, 5], labels [S], offsets and their inside and outside weights [S, 4 num_classes], in the columns of the class; in
    R-FCN's nets [S, 5, 1, 1], [S, 1, 1, 1] and [S, 4 num_classes, 1, 1] (:func:`~.data.regions.four_axes`).
    """

    bottom_count = (2, 2)
    top_count = (5, 5)
    sized_by_values = True
    keys = ("num_classes",)
    needed = "num_classes"
    settings: ProposalTargetSettings

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        values = self.read(params, ProposalTargetSettings())
        self.num_classes = int(number(self, "num_classes", values["num_classes"], whole=True))
        if self.num_classes < 2:
            raise self.error(f"param_str: num_classes is {self.num_classes}, expected 2 or more")
        if self.settings.batch_size < 1 and self.settings.batch_size != -1:
            raise self.error(f"batch_size is {self.settings.batch_size}, expected a positive number, or -1 for all")
        self.agnostic = self.settings.agnostic or self.num_classes == 2

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        rois, gt = bottoms
        self.require(
            len(rois) in (2, 3, 4) and count(rois, 1) == 5,
            f"bottom 0 has the shape {list(rois)}, expected regions R x 5 (0, x1, y1, x2, y2)",
        )
        self.check_boxes(gt, 1)
        most = rois[0] + gt[0]
        most = most if self.settings.batch_size < 0 else min(most, self.settings.batch_size)
        shapes: list[Shape] = [(most, 5), (most,), *[(most, 4 * self.num_classes)] * 3]
        return [four_axes(self.params, shape) for shape in shapes]

    @torch.no_grad()
    def forward(self, rois: Tensor, gt: Tensor) -> tuple[Tensor, ...]:
        """Choose foreground and background, and measure."""
        if rois.is_meta:
            return tuple(rois.new_empty(s) for s in self.top_shapes([tuple(rois.shape), tuple(gt.shape)]))
        self.check_values((rois, gt))
        truth = self.require_boxes(gt)
        regions = torch.cat(
            [rois.double().reshape(-1, 5), torch.cat([torch.zeros_like(truth[:, :1]), truth[:, :4]], 1)]
        )
        if bool(regions[:, 0].any()):
            raise self.error(
                f"bottom '{self.params.bottoms[0]}' has regions of several images, expected those of image 0"
            )
        overlaps = box_overlaps(regions[:, 1:], truth[:, :4])
        best, which = overlaps.max(1)
        kept, foreground = self._sample(best)
        labels = truth[which[kept], 4]
        labels[foreground:] = 0
        wrong = (labels < 0) | (labels.trunc() != labels) | (labels >= self.num_classes) & (not self.agnostic)
        if bool(wrong.any()):
            raise self.error(
                f"a class in bottom '{self.params.bottoms[1]}' is {labels[wrong][0].item():g}, expected a whole number "
                f"below num_classes, {self.num_classes}"
            )
        chosen = regions[kept]
        targets = offsets(chosen[:, 1:], truth[which[kept], :4])
        targets = (targets - targets.new_tensor(self.settings.bbox_means)) / targets.new_tensor(self.settings.bbox_stds)
        tops = (chosen, labels, *self._columns(labels, targets))
        return tuple(top.to(rois.dtype).reshape(four_axes(self.params, top.shape)) for top in tops)

    def _sample(self, best: Tensor) -> tuple[Tensor, int]:
        """Numbers of the chosen regions, and how many of them are foreground."""
        settings, random = self.settings, self._draw.generator(torch.device("cpu"))
        wanted = float("inf") if settings.batch_size < 0 else float(settings.batch_size)
        most = wanted if wanted == float("inf") else round(settings.fg_fraction * wanted)
        foreground = self.chosen((best >= settings.fg_thresh).nonzero().reshape(-1), most, random)
        background = ((best < settings.bg_thresh_hi) & (best >= settings.bg_thresh_lo)).nonzero().reshape(-1)
        background = self.chosen(background, wanted - len(foreground), random)
        return torch.cat([foreground, background]), len(foreground)

    def _columns(self, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets and weights in the columns of the class."""
        place = (labels > 0).long() if self.agnostic else labels.long()
        spread = torch.zeros(len(labels), self.num_classes, 4, dtype=targets.dtype, device=targets.device)
        inside = torch.zeros_like(spread)
        rows = (labels > 0).nonzero().reshape(-1)
        spread[rows, place[rows]] = targets[rows]
        inside[rows, place[rows]] = targets.new_tensor(self.settings.inside_weights)
        flat = [value.reshape(len(labels), 4 * self.num_classes) for value in (spread, inside)]
        return flat[0], flat[1], (flat[1] > 0).to(flat[1])
