"""ProposalTarget and BboxAccuracy of MS-CNN and Cascade R-CNN: what regions have to learn, and how well they did.

Source: zhaoweicai/mscnn and zhaoweicai/cascade-rcnn, ``proposal_target_layer.cpp`` and ``bbox_accuracy_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, as_rows, count
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.grid_boxes import BoxNorm, span_overlap
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes
from caffe_compat.random import Draw

__all__ = ["BboxAccuracy", "CascadeBboxAccuracy", "ProposalTarget"]

_LEAST = 32  #: pixels of a side of a region that is made up
_TRIES = 10_000  #: how many are made up before it is given up
_EXACT = 0.975  #: from which overlap on a region is ground truth itself


@dataclass(frozen=True)
class _Matched:
    """Regions (image, x, y, width, height; float32 [R, 5]) with the number of the box that each overlaps most ([R], -1
    without one in its image), and how much (float32 [R])."""

    regions: Tensor
    which: Tensor
    overlap: Tensor


def _spans(rows: Tensor) -> Tensor:
    """(image, x1, y1, x2, y2) as (image, x, y, width, height); the last pixel counts."""
    return torch.cat([rows[:, :3], rows[:, 3:5] - rows[:, 1:3] + 1], 1)


@register(dialect="mscnn")
class ProposalTarget(Layer):
    """A sample of regions, foreground first, with classes, offsets, and what they were matched with; no gradient.

    Bottoms: regions [R, 5] (image, x1, y1, x2, y2; the last pixel counts) and ground truth: [G, 7] (image, x1, y1, x2,
    y2, class, ignored) as MS-CNN's ImageGtData makes it, or [G, 8] as Cascade R-CNN's DetectionData does, whose layer
    is meant then.  Boxes of ground truth are regions too (without ``append_gtbox`` they are not).  A region is
    foreground from an overlap of ``fg_thr`` on with the box of its image that it overlaps most (not if that box is
    ignored), background from ``bg_thr_lw`` to below ``bg_thr_hg``.  ``fg_fraction`` of ``batch_size`` are foreground at
    most (-1: all are taken); missing background comes from the first regions that are neither (not without
    ``pickup_discard``).  If regions are missing still, MS-CNN makes some up at random that are not foreground, so that
    the batch is full, of an image of ``img_width`` x ``img_height``; Cascade R-CNN makes one up if there is none.

    Tops, with four axes: regions [S, 5], classes [S], offsets (less ``bbox_reg_param``'s means, in parts of its
    deviations) and their inside and outside weights [S, 8] or, cls_aware, [S, 4 cls_num] in the columns of the class,
    matched boxes [S, 6] (class, x1, y1, x2, y2, overlap) of foreground, and if wanted weights [S] that make foreground
    count ``fg_fraction`` (with ``iou_weighted`` by overlap).  Offsets of foreground count whose overlap is
    ``bbox_thr_lw`` to ``bbox_thr_hg``.  The two forks also measure overlaps of less than a pixel differently.
    """

    caffe_type = "ProposalTarget"
    bottom_count = (2, 2)
    top_count = (6, 7)
    sized_by_values = True
    onnx_reason = "it makes training examples; export the deploy net instead"
    field = "proposal_target_param"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section, norm = params.section(self.field), params.section("bbox_reg_param")
        self.norm, self.aware = BoxNorm.read(params), bool(norm.cls_aware)
        self.classes, self.batch, self.images = (
            int(section.cls_num),
            int(section.batch_size),
            int(section.num_img_per_batch),
        )
        self.fraction, self.fg_thr = float(section.fg_fraction), float(section.fg_thr)
        self.bg_thr = (float(section.bg_thr_lw), float(section.bg_thr_hg))
        self.box_thr = (float(section.bbox_thr_lw), float(section.bbox_thr_hg))
        self.size = (int(section.img_width), int(section.img_height))
        self.weighted, self.pickup, self.append = (
            bool(section.value(name)) for name in ("iou_weighted", "pickup_discard", "append_gtbox")
        )
        if not (self.fg_thr > 0 and self.fg_thr >= self.bg_thr[1]):
            raise self.error(
                f"{self.field} has fg_thr {self.fg_thr:g} and bg_thr_hg {self.bg_thr[1]:g}, expected a positive number "
                "that is not below the other"
            )
        if (self.batch < 1 and self.batch != -1) or self.images < 1 or self.classes < 2:
            raise self.error(
                f"{self.field} has batch_size {self.batch}, num_img_per_batch {self.images} and cls_num "
                f"{self.classes}, expected a positive number or -1, a positive one, and 2 or more"
            )
        if not 0 <= self.fraction <= 1:
            raise self.error(f"{self.field}.fg_fraction is {self.fraction:g}, expected 0 to 1")
        self._draw = Draw()

    @property
    def _columns(self) -> int:
        return 4 * self.classes if self.aware else 8

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions and ground truth of the images."""
        rows, columns = (*shapes[bottom], 1)[:2]
        found = sample_boxes((rows, 5), [self.images], (200.0, 100.0), random)
        if bottom == 1:
            found = np.concatenate([found, np.ones((rows, 1)), np.zeros((rows, columns - 6))], 1)
        return found.reshape(shapes[bottom])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        rois, truth = (tuple(shape) for shape in bottoms)
        self.require(
            len(rois) > 1 and rois[1] == 5 and count(rois, 2) == 1,
            f"bottom 0 has the shape {list(rois)}, expected R x 5 (image, x1, y1, x2, y2)",
        )
        self.require(
            len(truth) > 1 and truth[1] in (7, 8) and count(truth, 2) == 1,
            f"bottom 1 has the shape {list(truth)}, expected G x 7, or G x 8 as Cascade R-CNN has it",
        )
        most = max(rois[0] + truth[0], 1) if self.batch == -1 else self.batch
        boxes: Shape = (most, self._columns, 1, 1)
        shapes = [(most, 5, 1, 1), (most, 1, 1, 1), boxes, boxes, boxes, (most, 6, 1, 1), (most, 1, 1, 1)]
        return shapes[: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, rois: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        """Match, choose, measure, on the CPU."""
        shapes = self.top_shapes([tuple(rois.shape), tuple(truth.shape)])
        if rois.is_meta:
            return tuple(rois.new_empty(shape) for shape in shapes)
        unclear(self, rois, 0)
        unclear(self, truth, 1)
        pixel = int(truth.shape[1] == 8)
        known, regions = as_rows(truth.cpu().float()), _spans(rois.cpu().float().reshape(-1, 5))
        if pixel:
            known = known[known[:, 0].trunc() != -1]
        boxes = _spans(known[:, :5])
        self._check(regions, boxes, known[:, 5])
        if self.append or not pixel:
            regions = torch.cat([regions, boxes])
        matched = self._match(regions, boxes, pixel)
        matched, kept, foreground = self._chosen(matched, boxes, known[:, 6] != 0, pixel)
        tops = self._tops(matched, kept, foreground, boxes, known[:, 5])
        return tuple(top.to(rois).reshape(len(kept), count(top.shape, 1), 1, 1) for top in tops)[
            : len(self.params.tops)
        ]

    def _check(self, regions: Tensor, boxes: Tensor, classes: Tensor) -> None:
        """Raise unless images and classes are in range."""
        for name, rows in zip(self.params.bottoms, (regions, boxes), strict=True):
            wrong = (rows[:, 0] < 0) | (rows[:, 0] >= self.images)
            if bool(wrong.any()):
                raise self.error(
                    f"an image in bottom '{name}' is {rows[wrong][0, 0].item():g}, expected 0 to below "
                    f"num_img_per_batch, {self.images}"
                )
        wrong = (classes < 1) | (classes.trunc() != classes) | ((classes >= self.classes) if self.aware else False)
        if bool(wrong.any()):
            raise self.error(
                f"a class in bottom '{self.params.bottoms[1]}' is {classes[wrong][0].item():g}, expected a positive "
                f"whole number{f' below cls_num, {self.classes}' if self.aware else ''}"
            )

    @staticmethod
    def _match(regions: Tensor, boxes: Tensor, pixel: int) -> _Matched:
        """Regions with their best boxes; of equal ones the first."""
        if not len(boxes):
            return _Matched(regions, torch.full((len(regions),), -1), torch.zeros(len(regions)))
        found = span_overlap(regions[:, None, 1:].unbind(-1), boxes[None, :, 1:].unbind(-1), pixel)
        found = torch.where(regions[:, None, 0] == boxes[None, :, 0], found, -1)
        best, which = found.max(1).values, found.argmax(1)
        return _Matched(regions, torch.where(best < 0, -1, which), best.clamp(min=0))

    def _chosen(self, matched: _Matched, boxes: Tensor, ignored: Tensor, pixel: int) -> tuple[_Matched, Tensor, int]:
        """What was matched, with regions that were made up; which are chosen; how many of these are foreground."""
        overlap, random = matched.overlap, self._draw.generator(torch.device("cpu"))
        high = overlap >= self.fg_thr
        low = ~high & (overlap >= self.bg_thr[0]) & (overlap < self.bg_thr[1])
        other = (~high & ~low).nonzero().reshape(-1)
        own = high.nonzero().reshape(-1)
        own, rest = own[~ignored[matched.which[own]]], low.nonzero().reshape(-1)
        size = len(own) + len(rest) if self.batch == -1 else self.batch
        most = len(own) if self.batch == -1 else int(self.fraction * self.batch + 0.5)
        own = _drawn(own, most, random)
        room = size - len(own)
        if len(rest) > room:
            rest = _drawn(rest, room, random)
        elif self.pickup or not pixel:
            rest = torch.cat([rest, other[: room - len(rest)]])
        kept = torch.cat([own, rest])
        missing = int(not len(kept)) if pixel else size - len(kept)
        if missing:
            kept = torch.cat([kept, len(overlap) + torch.arange(missing)])
            matched = self._with_made_up(matched, boxes, missing, random, pixel)
        return matched, kept, len(own)

    def _with_made_up(
        self, matched: _Matched, boxes: Tensor, number: int, random: torch.Generator | None, pixel: int
    ) -> _Matched:
        """With so many more regions that are no foreground, matched with nothing."""
        if min(self.size) <= _LEAST:
            raise self.error(
                f"{self.field} has img_width {self.size[0]} and img_height {self.size[1]}, expected more than {_LEAST}"
                f": there are too few regions, and {number} have to be made up"
            )

        def below(end: int) -> int:
            return int(torch.randint(end, (), generator=random))

        made: list[list[float]] = []
        for _ in range(_TRIES):
            if len(made) == number:
                break
            image, x, y = below(self.images), below(self.size[0] - _LEAST), below(self.size[1] - _LEAST)
            wide, high = max(below(self.size[0] - x), _LEAST), max(below(self.size[1] - y), _LEAST)
            row = [float(value) for value in (image, x, y, wide, high)]
            if float(self._match(torch.tensor([row]), boxes, pixel).overlap.max()) < self.fg_thr:
                made.append(row)
        if len(made) < number:
            raise self.error(f"found no region in {_TRIES} that is not foreground, expected smaller boxes")
        none = torch.full((number,), -1)
        return _Matched(
            torch.cat([matched.regions, torch.tensor(made)]),
            torch.cat([matched.which, none]),
            torch.cat([matched.overlap, torch.zeros(number)]),
        )

    def _tops(
        self, matched: _Matched, kept: Tensor, foreground: int, boxes: Tensor, classes: Tensor
    ) -> tuple[Tensor, ...]:
        """All tops, as rows."""
        regions = matched.regions[kept]
        label = torch.zeros(len(kept))
        own, which = kept[:foreground], matched.which[kept[:foreground]]
        label[:foreground] = classes[which]
        box, region, overlap = boxes[which, 1:], matched.regions[own, 1:], matched.overlap[own]
        middle = ((box[:, :2] + 0.5 * box[:, 2:]) - (region[:, :2] + 0.5 * region[:, 2:])) / region[:, 2:]
        offsets = self.norm.done(torch.cat([middle, (box[:, 2:] / region[:, 2:]).log()], 1), 1)
        place = label[:foreground].long() if self.aware else torch.ones(foreground, dtype=torch.long)
        spread = torch.zeros(len(kept), self._columns // 4, 4)
        weight = torch.zeros_like(spread)
        rows = torch.arange(foreground)
        spread[rows, place] = offsets
        counts = (overlap >= self.box_thr[0]) & (overlap <= self.box_thr[1])
        weight[rows, place] = counts[:, None].float().expand(-1, 4)
        found = torch.zeros(len(kept), 6)
        found[:foreground] = torch.cat([label[:foreground, None], _corners(box), overlap[:, None]], 1)
        rois = torch.cat([regions[:, :1], _corners(regions[:, 1:])], 1)
        return rois, label, spread, weight, weight.clone(), found, self._weights(label, found[:, 5])

    def _weights(self, label: Tensor, overlap: Tensor) -> Tensor:
        """Of each region for a loss of classes; without foreground background counts 1, as there."""
        positive = label > 0
        weight = torch.where(positive, overlap, 1) if self.weighted else torch.ones_like(overlap)
        sums = weight[positive].sum(), weight[~positive].sum()
        if sums[0] != 0:
            own, other = (
                part * len(label) / total for part, total in zip((self.fraction, 1 - self.fraction), sums, strict=True)
            )
            weight = weight * torch.where(positive, own, other)
        return weight


def _corners(spans: Tensor) -> Tensor:
    """x1 y1 x2 y2, the last pixel counts."""
    return torch.cat([spans[:, :2], spans[:, :2] + spans[:, 2:] - 1], 1)


def _drawn(among: Tensor, number: int, random: torch.Generator | None) -> Tensor:
    """So many of some indices at random; all in order if there are not more."""
    if len(among) <= number:
        return among
    return among[torch.randperm(len(among), generator=random)[:number]]


@register(dialect="mscnn")
class BboxAccuracy(Layer):
    """The mean overlap with ground truth of the boxes that are predicted for regions, and of the regions.

    Bottoms: offsets [R, 4 K] (less ``bbox_reg_param``'s means, in parts of its deviations), regions [R, 5] and matched
    boxes [R, 6], as ProposalTarget makes them.  Tops: the two means, 1 x 1 x 1 x 1 each, over regions with a class
    whose overlap is at most 0.975; -1 without any.  Offsets are those of the class; cls_aware is not read here.
    """

    caffe_type = "BboxAccuracy"
    bottom_count = (3, 3)
    top_count = (1, 2)
    onnx_reason = "it judges training; export the deploy net instead"
    pixel = 0

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.norm, self.aware = BoxNorm.read(params), self._read_aware()

    def _read_aware(self) -> bool:
        self.params.section("bbox_reg_param").ignore("cls_aware")
        return True

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions, and what they were matched with."""
        if bottom == 0:
            return None
        found = sample_boxes((shapes[bottom][0], 5), [1], (200.0, 100.0), random)
        if bottom == 2:
            rows = shapes[2][0]
            found = np.concatenate([random.integers(0, 2, (rows, 1)), found[:, 1:], random.random((rows, 1))], 1)
        return found.reshape(shapes[bottom])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 1 each."""
        offsets, rois, truth = ((*shape, 1, 1)[:2] for shape in bottoms)
        fits = offsets[1] == 8 if not self.aware else offsets[1] % 4 == 0 and offsets[1] >= 8
        self.require(
            fits and count(bottoms[0], 2) == 1,
            f"bottom 0 has the shape {list(bottoms[0])}, expected R x {'4 K' if self.aware else 8}",
        )
        for index, (shape, columns) in enumerate(((rois, 5), (truth, 6)), 1):
            self.require(
                shape == (offsets[0], columns) and count(bottoms[index], 2) == 1,
                f"bottom {index} has the shape {list(bottoms[index])}, expected {offsets[0]} x {columns}",
            )
        shapes: list[Shape] = [(1, 1, 1, 1), (1, 1, 1, 1)]
        return shapes[: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, offsets: Tensor, rois: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        """Move and compare."""
        rows = len(offsets)
        for index, bottom in enumerate((offsets, rois, truth)):
            unclear(self, bottom, index)
        learned, truth = offsets.reshape(rows, offsets.shape[1] // 4, 4), truth.reshape(rows, 6)
        label = truth[:, 0].long()
        place = label if self.aware else label.clamp(max=1)
        most = learned.shape[1] - 1
        counts = (label > 0) & ~(truth[:, 5] > _EXACT)
        if not offsets.is_meta and bool((place > most).any()):
            raise self.error(
                f"a class in bottom '{self.params.bottoms[2]}' is {int(place.max())}, expected {most} at most: there "
                f"are {4 * (most + 1)} offsets"
            )
        own = learned.gather(1, place.clamp(0, most)[:, None, None].expand(-1, 1, 4))[:, 0]
        own = self.norm.undone(own, 1)
        regions, boxes = _spans(rois.reshape(rows, 5))[:, 1:], _spans(truth[:, :5])[:, 1:]
        sides = regions[:, 2:] * own[:, 2:].exp()
        low = own[:, :2] * regions[:, 2:] + (regions[:, :2] + 0.5 * regions[:, 2:]) - sides / 2
        number = counts.sum()
        tops = []
        for spans in (torch.cat([low, sides], 1), regions):
            overlap = span_overlap(spans.unbind(1), boxes.unbind(1), self.pixel)
            mean = overlap.masked_fill(~counts, 0).sum() / number.clamp(min=1)
            tops.append(torch.where(number > 0, mean, torch.full_like(mean, -1)).reshape(1, 1, 1, 1))
        return tuple(tops[: len(self.params.tops)])


def _means_cascade(params: Params) -> bool:
    """Whether the net speaks of Cascade R-CNN; one of R-FCN's layers does, which MS-CNN does not have."""
    return params.speaks("cascade", "rfcn")


@register(when=_means_cascade, dialect="cascade")
class CascadeBboxAccuracy(BboxAccuracy):
    """BboxAccuracy as Cascade R-CNN has it: offsets are those of the class only with cls_aware, else of objects [R, 8],
    and boxes that share less than a pixel on a side do not overlap.
    """

    pixel = 1

    def _read_aware(self) -> bool:
        return bool(self.params.section("bbox_reg_param").cls_aware)
