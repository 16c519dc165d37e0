"""DetectionLoss and DetectionGroupLoss: class and box of each cell of a map, as MS-CNN and Cascade R-CNN learn them.

Source: zhaoweicai/mscnn, ``detection_loss_layer.cu``; zhaoweicai/cascade-rcnn, ``detection_group_loss_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.grid_boxes import BoxNorm, Fields, Limits
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.losses import FLT_MIN
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, kept
from caffe_compat.random import Draw

__all__ = ["DetectionGroupLoss", "DetectionLoss", "GridTruth", "ignored_label"]

MODES = ("random", "bootstrap", "mixture")


@dataclass(frozen=True)
class GridTruth:
    """What a blob [M, 6, H, W] says of each cell: class, box (x and y of the centre, width, height), overlap.

    Attributes:
        label, overlap: Tensor[M, H, W]; labels are cut to whole numbers.
        boxes: Tensor[M, 4, H, W].
    """

    label: Tensor
    boxes: Tensor
    overlap: Tensor

    @classmethod
    def of(cls, blob: Tensor) -> GridTruth:
        """Those of a blob."""
        blob = blob.detach()
        return cls(blob[:, 0].long(), blob[:, 1:5], blob[:, 5])


@dataclass(frozen=True)
class _Wanted:
    """What a loss compares with: labels in range and which cells count (Tensor[M, H, W]) with their weights, offsets
    (Tensor[M, 4, H, W]) and the cells that they count in, least and greatest offsets, and how the rest is put together.
    """

    label: Tensor
    counted: Tensor
    weight: Tensor
    offsets: Tensor
    foreground: Tensor
    bounds: tuple[Tensor, Tensor] | None
    smooth: bool
    box_weight: float


class _GridLoss(torch.autograd.Function):
    """(class loss + box loss, box loss) as Tensor[1, 1, 1, 2]; the gradient is that of the first alone."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, offsets: Tensor, wanted: _Wanted) -> Tensor:
        softmax = scores.softmax(1)
        index = wanted.label[:, None]
        each = -softmax.gather(1, index).clamp(min=FLT_MIN).log()[:, 0] * wanted.weight
        each = each.masked_fill(~wanted.counted, 0)
        counts = wanted.counted.sum().clamp(min=1), (4 * wanted.foreground.sum()).clamp(min=1)
        held = offsets
        if wanted.bounds is not None:
            held = torch.minimum(torch.maximum(offsets, wanted.bounds[0]), wanted.bounds[1])
        difference = (held - wanted.offsets).masked_fill(~wanted.foreground[:, None], 0)
        size, errors, slope = difference.abs(), 0.5 * difference.square(), difference
        if wanted.smooth:
            errors, slope = torch.where(size < 1, errors, size - 0.5), difference.clamp(-1, 1)
        boxes = wanted.box_weight * errors.sum() / counts[1]
        diff = softmax.scatter_add(1, index, softmax.new_full(index.shape, -1.0)) * wanted.weight[:, None]
        diff = diff.masked_fill(~wanted.counted[:, None], 0)
        ctx.save_for_backward(diff / counts[0], slope * wanted.box_weight / counts[1])
        return torch.stack([each.sum() / counts[0] + boxes, boxes]).reshape(1, 1, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        diff, slope = ctx.saved_tensors
        first = seed.reshape(-1)[0]
        return diff * first, slope * first, None


def ignored_label(params: Params) -> int | None:
    """``loss_param.ignore_label``; the rest of that message is read by no layer of these forks."""
    section = params.section("loss_param")
    section.ignore("normalize", "normalization")
    found: int | None = section.optional("ignore_label")
    return found


class _GridLossLayer(LossLayer):
    """What the two share.  The top is (total, box loss times lambda), 1 x 1 x 1 x 2; its first number has a gradient,
    and ``loss_weight`` counts both, as in Caffe.  The box's gradient is 1 or -1 beyond 1, and passes the bounds of the
    offsets as if they were none.  Only offsets of cells with a class count; each loss is divided by its numbers.
    """

    field: ClassVar[str]
    stride: ClassVar[str]
    no_gradient: ClassVar[tuple[int, ...]]

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.fields, self.classes = Fields.read(params, self.field, self.stride), int(section.cls_num)
        self.norm, self.ignore = BoxNorm.read(params), ignored_label(params)
        params.section("bbox_reg_param").ignore("cls_aware")
        self.objectness, self.weighted = bool(section.objectness), bool(section.pos_neg_weighted)
        self.box_weight, self.most_overlap = float(section.value("lambda")), float(section.bg_threshold)
        self.multiple = int(section.bg_multiple)
        if self.classes < 2 or (self.objectness and self.classes != 2):
            wanted = "2 with objectness" if self.objectness else "2 or more"
            raise self.error(f"{self.field}.cls_num is {self.classes}, expected {wanted}")
        self._draw = Draw()

    def check_truth(self, shape: Shape, truth: Shape, bottom: int) -> None:
        """M x 6 x H x W."""
        self.require(
            len(truth) == 4 and truth == (shape[0], 6, *shape[2:]),
            f"bottom {bottom} has the shape {list(truth)}, expected {[shape[0], 6, *shape[2:]]}: class, x, y, width, "
            "height and overlap of each cell",
        )

    def clipped(self, truth: GridTruth) -> Tensor:
        """Classes, with ``objectness`` 1 at most."""
        return truth.label.clamp(max=1) if self.objectness else truth.label

    def in_range(self, truth: GridTruth, bottom: int) -> Tensor:
        """The same; those that are negative or ignored are 0.

        Raises:
            LayerError: one has no place among the scores.
        """
        label = self.clipped(truth)
        label = label.masked_fill(self.left_out(label), 0)
        if can_look(label) and int(label.max()) >= self.classes:
            raise self.error(
                f"a class in bottom '{self.params.bottoms[bottom]}' is {int(label.max())}, expected below cls_num, "
                f"{self.classes}"
            )
        return label.clamp(max=self.classes - 1)

    def left_out(self, label: Tensor) -> Tensor:
        """Which labels are ignored or negative."""
        return (label < 0) | (label == self.ignore) if self.ignore is not None else label < 0

    def background(self, truth: GridTruth) -> Tensor:
        """Cells that may be taken for background."""
        return (truth.label == 0) & (truth.overlap < self.most_overlap)

    def generator(self) -> torch.Generator | None:
        """For what is random in this pass."""
        return self._draw.generator(torch.device("cpu"))

    def balanced(self, weight: Tensor, positive: Tensor, kept: tuple[Tensor, Tensor], total: Tensor) -> Tensor:
        """Weights such that foreground counts 1 of 1 + ``bg_multiple``, background the rest of ``total``.

        Args:
            kept: which positive and which negative cells the sums of weights are of.
        """
        part = 1 / (1 + self.multiple)
        for cells, own, share in ((positive, kept[0], part), (~positive, kept[1], 1 - part)):
            own_sum = weight.masked_fill(~own, 0).sum()
            factor = torch.where(own_sum != 0, share * total / own_sum, torch.ones_like(own_sum))
            weight = torch.where(cells, weight * factor, weight)
        return weight


@register(dialect="mscnn")
class DetectionLoss(_GridLossLayer):
    """Bottoms: scores and offsets [N, cls_num + 4, H, W], and what is right [N, 6, H, W] (as ImageGtData makes it).

    All cells with a class count, and of the background (overlap below ``bg_threshold``) by ``sample_mode``: "random"
    draws ``bg_multiple`` times the number of positives of an image with replacement, at least 4 for each class, from
    all cells and keeps what is background; "bootstrap" takes for each class those of highest score, at least 4 (of
    equal ones the later cell); "mixture" both with half the number; any other word all.  ``iou_weighted`` weighs
    positives by their overlap.  A negative class, which the fork would count in memory that is not its own, is left
    out.  Where CPU and GPU code differ (weights of background without any positive) the GPU's is followed.
    """

    caffe_type = "DetectionLoss"
    creates_layer = True  # a Softmax
    no_gradient = (1,)
    field, stride = "detection_loss_param", "downsample_rate"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        if section.coord_num != 4:
            raise self.error(f"{self.field}.coord_num is {section.coord_num}, expected 4")
        self.limits, self.smooth = Limits.read(params, self.field), bool(section.bb_smooth)
        self.mode, self.by_overlap = str(section.sample_mode), bool(section.iou_weighted)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 2."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and shape[1] == self.classes + 4,
            f"bottom 0 has the shape {list(shape)}, expected N x {self.classes + 4} x H x W: cls_num scores, 4 offsets",
        )
        self.check_truth(shape, tuple(bottoms[1]), 1)
        return [(1, 1, 1, 2)]

    def forward(self, maps: Tensor, blob: Tensor) -> Tensor:
        """Choose, weigh, compare."""
        scores, offsets, truth = maps[:, : self.classes], maps[:, self.classes :], GridTruth.of(blob)
        label = self.in_range(truth, 1)
        if maps.is_meta:
            chosen = torch.zeros_like(label, dtype=torch.bool)
        else:
            chosen = self._chosen(scores.detach(), self.clipped(truth), self.background(truth))
        positive = truth.label > 0
        weight = torch.where(positive, truth.overlap, 1) if self.by_overlap else torch.ones_like(truth.overlap)
        if self.weighted:
            total = positive.sum() + chosen.sum()
            weight = self.balanced(weight, positive, (positive, chosen), total)
        wanted = _Wanted(
            label,
            (positive | chosen) & ~self.left_out(self.clipped(truth)),
            weight,
            self.norm.done(self.fields.encoded(truth.boxes), 1),
            positive & ~self.left_out(truth.label),
            self.limits.bounds(maps, self.norm),
            self.smooth,
            self.box_weight,
        )
        result: Tensor = _GridLoss.apply(scores, offsets, wanted)  # type: ignore[no-untyped-call]
        return result

    def _chosen(self, scores: Tensor, label: Tensor, background: Tensor) -> Tensor:
        """Which cells of the background count (as ``background``, Tensor[N, H, W])."""
        if self.mode not in MODES:
            return background
        half, random = 0.5 if self.mode == "mixture" else 1.0, self.generator()
        chosen = torch.zeros_like(background).flatten(1)
        for item, places in enumerate(background.flatten(1)):
            own = label[item].reshape(-1)
            if self.mode != "bootstrap":
                number = max(int(int((own > 0).sum()) * self.multiple * half), 4 * (self.classes - 1))
                drawn = torch.randint(len(own), (number,), generator=random).to(own.device)
                chosen[item, drawn] = places[drawn]
            if self.mode != "random":
                candidates = places.nonzero().reshape(-1).flip(0)
                for kind in range(1, self.classes):
                    number = max(4, int(int((own == kind).sum()) * self.multiple * half))
                    order = scores[item, kind].reshape(-1)[candidates].argsort(descending=True, stable=True)
                    chosen[item, candidates[order[:number]]] = True
        return chosen.reshape(background.shape)


@register(dialect="cascade")
class DetectionGroupLoss(_GridLossLayer):
    """Bottoms: scores [N G, cls_num, H, W], offsets [N G, 4, H, W] and what is right [N G, 6, H, W] (as DetectionData
    makes it, Reshape brings it into this form), where the G maps of an image have a ``field_w`` and ``field_h`` each.

    With ``batch_size`` -1 all positives of an image count, and ``bg_multiple`` times as many of its background (overlap
    below ``bg_threshold``), ``min_num_neg`` at least; else so many cells, 1 of 1 + ``bg_multiple`` positive at most,
    positives drawn at random.  If there is more background, ``neg_mining_type`` says which: "random", "bootstrap" (of
    highest ``neg_ranking_type``: "conf_prob", 1 - the probability of background, or "conf_loss"; of equal ones the
    later cell) or "mixture", half of each.  Negative classes count for nothing.  With both ``field_xyr`` and
    ``field_whr`` offsets are held within bounds before they are compared; the fork writes the bounds into its bottom,
    where other layers see them, this package does not (BoxGroupOutput and DetectionGroupAccuracy hold them themselves).
    """

    caffe_type = "DetectionGroupLoss"
    creates_layer = True  # a Softmax
    bottom_count = (3, 3)
    no_gradient = (2,)
    field, stride = "detection_group_loss_param", "stride"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        bounded = section.has("field_xyr") and section.has("field_whr")
        self.limits = Limits.read(params, self.field) if bounded else None
        self.mining, self.ranking = str(section.neg_mining_type), str(section.neg_ranking_type)
        self.kind, self.batch, self.least = (
            str(section.bbox_loss_type),
            int(section.batch_size),
            int(section.min_num_neg),
        )
        for name, value, allowed in (
            ("neg_mining_type", self.mining, MODES),
            ("neg_ranking_type", self.ranking, ("conf_loss", "conf_prob")),
            ("bbox_loss_type", self.kind, ("Smooth_L1", "Euclidean_L2")),
        ):
            if value not in allowed:
                raise self.error(f"{self.field}.{name} is '{value}', expected one of {', '.join(allowed)}")
        if self.batch < 1 and self.batch != -1:
            raise self.error(f"{self.field}.batch_size is {self.batch}, expected a positive number, or -1 for all")

    def backward_reads(self) -> Reads:
        """Nothing: what it takes is kept."""
        return Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """The loss again, of the bottoms of the forward pass."""
        tops: Tensor = self(*map(kept, memory.then[:2], memory.bottoms[:2]), memory.then[2])
        return tops

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 2."""
        shape, offsets = tuple(bottoms[0]), tuple(bottoms[1])
        self.require(
            len(shape) == 4 and shape[1] == self.classes and shape[0] % len(self.fields) == 0,
            f"bottom 0 has the shape {list(shape)}, expected N {len(self.fields)} x {self.classes} x H x W",
        )
        self.require(
            offsets == (shape[0], 4, *shape[2:]),
            f"bottom 1 has the shape {list(offsets)}, expected {[shape[0], 4, *shape[2:]]}",
        )
        self.check_truth(shape, tuple(bottoms[2]), 2)
        return [(1, 1, 1, 2)]

    def forward(self, scores: Tensor, offsets: Tensor, blob: Tensor) -> Tensor:
        """Choose, weigh, compare."""
        truth = GridTruth.of(blob)
        label = self.in_range(truth, 2)
        positive = truth.label > 0
        if scores.is_meta:
            chosen = torch.zeros_like(positive)
        else:
            chosen = self._chosen(self._ranks(scores.detach()), positive, self.background(truth))
        weight = torch.ones_like(truth.overlap)
        if self.weighted:
            weight = self.balanced(weight, positive, (positive & chosen, ~positive & chosen), chosen.sum())
        wanted = _Wanted(
            label,
            chosen & ~self.left_out(self.clipped(truth)),
            weight,
            self.norm.done(self.fields.encoded(truth.boxes), 1),
            chosen & positive & ~self.left_out(truth.label),
            None if self.limits is None else self.limits.bounds(offsets, self.norm),
            self.kind == "Smooth_L1",
            self.box_weight,
        )
        result: Tensor = _GridLoss.apply(scores, offsets, wanted)  # type: ignore[no-untyped-call]
        return result

    def _ranks(self, scores: Tensor) -> Tensor:
        """By what background is chosen, Tensor[M, H, W]."""
        probability = scores.softmax(1)[:, 0]
        return 1 - probability if self.ranking == "conf_prob" else -probability.clamp(min=FLT_MIN).log()

    def _chosen(self, ranks: Tensor, positive: Tensor, background: Tensor) -> Tensor:
        """Which cells count, Tensor[M, H, W]: image by image."""
        shape = (len(positive) // len(self.fields), len(self.fields) * count(positive.shape, 1))
        chosen = torch.zeros_like(positive).reshape(shape)
        cells = (value.reshape(shape) for value in (ranks, positive, background))
        random = self.generator()
        for item, (rank, own, other) in enumerate(zip(*cells, strict=True)):
            wanted, negatives = own.nonzero().reshape(-1), other.nonzero().reshape(-1)
            number, most = self._numbers(len(wanted), len(negatives))
            chosen[item, _drawn(wanted, number, random)] = True
            if len(negatives) > most and self.mining != "random":
                hard = most if self.mining == "bootstrap" else int(most * 0.5 + 0.5)
                negatives = negatives.flip(0)[rank[negatives.flip(0)].argsort(descending=True, stable=True)]
                chosen[item, negatives[:hard]] = True
                negatives, most = negatives[hard:], most - hard
            chosen[item, _drawn(negatives, most, random)] = True
        return chosen.reshape(positive.shape)

    def _numbers(self, positives: int, negatives: int) -> tuple[int, int]:
        """How many of each count."""
        if self.batch == -1:
            return positives, min(max(positives * self.multiple, self.least), negatives)
        most = min(int(self.batch / (1 + self.multiple) + 0.5), positives)
        return most, min(self.batch - most, negatives)


def _drawn(among: Tensor, number: int, random: torch.Generator | None) -> Tensor:
    """So many of some indices at random; all if there are not more."""
    if len(among) <= number:
        return among
    return among[torch.randperm(len(among), generator=random)[:number].to(among.device)]
