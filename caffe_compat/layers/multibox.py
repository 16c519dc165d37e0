"""SSD's MultiBoxLoss: matched priors learn boxes and classes, hard negatives the background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.box_coding import Coding, Priors, read_priors, sides, unclear
from caffe_compat.layers.box_matching import NONE, Matching, Mining, match, mine
from caffe_compat.layers.labels import Normalizer, legacy_rank
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes
from caffe_compat.layers.sharing import Reads

__all__ = ["MultiBoxLoss", "Stage"]

_LOG_MIN = math.log(1.17549435e-38)  #: of FLT_MIN: SoftmaxWithLoss holds a probability above it


@dataclass(frozen=True)
class _Truth:
    """Ground truth of one image: boxes (Tensor[G, 4]) and labels."""

    boxes: Tensor
    labels: np.ndarray


@dataclass(frozen=True)
class _Chosen:
    """What the losses are of: for each image and kind of location the matches, and the negatives of each image."""

    truth: list[_Truth | None]
    matches: list[dict[int, np.ndarray]]
    negatives: list[np.ndarray]

    @property
    def count(self) -> int:
        """Matched priors."""
        return sum(int((found > NONE).sum()) for image in self.matches for found in image.values())


@dataclass(frozen=True)
class Stage:
    """The priors of a step of detection.

    Attributes:
        given: those of the bottom.
        learnt: what is matched and learnt against; RefineDet has some of each image (boxes Tensor[N, P, 4]).
        open: which priors may be negatives (bool[N, P]); None: all.
    """

    given: Priors
    learnt: Priors
    open: np.ndarray | None = None

    def of(self, image: int) -> Priors:
        """What one image learns against."""
        boxes = self.learnt.boxes
        return Priors(boxes[image] if boxes.dim() == 3 else boxes, self.learnt.variances)


@register
class MultiBoxLoss(LossLayer):
    """Smooth L1 (or L2) of the boxes of matched priors, and softmax (or logistic) loss of the classes.

    Bottoms: predicted boxes (N x (P L 4)), scores before any softmax (N x (P C)), priors (1 x 2 x (P 4)) and ground
    truth (1 x 1 x G x 8: image, label, instance, x1, y1, x2, y2, difficult).  Both sums are divided by ``loss_param``'s
    normalizer, with VALID the number of matched priors.  Source: weiliu89/caffe, multibox_loss_layer.cpp.  With
    ``encode_variance_in_target`` the gradient is Caffe's, which leaves the division by the variance out.  With LOGISTIC
    and no mining the marks of the second and later images stand where Caffe writes them, ``P`` numbers on and not
    ``P C``.  Without ``top_k`` in ``nms_param`` nothing survives suppression, as there.  With two classes the labels 2
    and more, which SSD refuses, count as 1, as RefineDet has it.
    """

    caffe_type = "MultiBoxLoss"
    bottom_count = (4, 4)
    no_gradient: ClassVar[tuple[int, ...]] = (2, 3)
    on_meta = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("multibox_loss_param")
        if not section.has("num_classes") or section.num_classes < 1:
            raise self.error(f"multibox_loss_param.num_classes is {section.num_classes}, expected 1 or more")
        self.classes, self.background = int(section.num_classes), int(section.background_label_id)
        self.share, self.loc_weight = bool(section.share_location), float(section.loc_weight)
        self.l2, self.logistic = section.enum("loc_loss_type") == "L2", section.enum("conf_loss_type") == "LOGISTIC"
        self.of_priors, self.difficult = bool(section.use_prior_for_matching), bool(section.use_difficult_gt)
        self.agnostic, self.inside = bool(section.map_object_to_agnostic), bool(section.bp_inside)
        self.coding = Coding.of(section, "encode_variance_in_target")
        self.matching = Matching(
            section.enum("match_type") == "PER_PREDICTION",
            float(section.overlap_threshold),
            bool(section.ignore_cross_boundary_bbox),
        )
        nms = section.nms_param
        threshold = float(nms.nms_threshold) if section.has("nms_param") else 0.0
        self.mining = Mining(
            section.enum("mining_type"),
            float(section.neg_pos_ratio),
            float(section.neg_overlap),
            int(section.sample_size),
            threshold,
            int(nms.top_k),
            bool(section.use_prior_for_nms),
        )
        self.normalizer = Normalizer(params)
        params.section("loss_param").ignore("ignore_label")  # this layer never asks for it
        self._check_fields()
        told = params.description.propagate_down
        self.counts = (told[0], told[1]) if told else (True, True)

    def _check_fields(self) -> None:
        section = self.params.section("multibox_loss_param")
        mining = self.mining.kind != "NONE"
        if section.has("do_neg_mining") and section.do_neg_mining != mining:
            raise self.error(
                f"multibox_loss_param has do_neg_mining: {str(section.do_neg_mining).lower()} and mining_type "
                f"{self.mining.kind}, which contradict each other; do_neg_mining is deprecated"
            )
        if mining and not self.share:
            raise self.error(f"mining_type {self.mining.kind} with share_location: false, expected NONE")
        if mining and self.background >= self.classes:
            raise self.error(f"background_label_id is {self.background}, expected less than {self.classes} classes")
        if not self.logistic and self.background >= self.classes:
            raise self.error(f"background_label_id is {self.background}, expected 0 to {self.classes - 1} for SOFTMAX")
        if self.mining.kind == "HARD_EXAMPLE" and self.mining.samples < 1:
            raise self.error(f"multibox_loss_param.sample_size is {self.mining.samples}, expected 1 or more")
        if self.agnostic and self.classes != 2:
            raise self.error(f"map_object_to_agnostic with {self.classes} classes, expected 2")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Priors with variances, and ground truth."""
        if bottom not in (2, 3):
            return None
        rows = count(shapes[bottom]) // 8
        found = sample_boxes((rows, 5), [1], (0.9, 0.9), random)[:, 1:] + [0, 0, 0.1, 0.1]
        if bottom == 2:
            return np.stack([found, np.full_like(found, 0.1)]).reshape(shapes[2])
        labels = [label for label in range(self.classes) if label != self.background] or [NONE]
        head = [random.integers(0, max(shapes[0][0], 1), rows), random.choice(labels, rows), np.zeros(rows)]
        if labels == [NONE]:
            head[0] = np.full(rows, NONE)
        return np.concatenate([np.stack(head, 1), found, np.zeros((rows, 1))], 1).reshape(shapes[3])

    def backward_reads(self) -> Reads:
        """Nothing: the inner losses keep what they need."""
        return Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, after Caffe's checks of all sizes."""
        tops = super().top_shapes(bottoms)
        legacy_rank(self, bottoms)
        predicted, scores, priors, truth = bottoms[:4]
        self.require(
            len(priors) >= 3 and priors[:2] == (1, 2) and priors[2] % 4 == 0 and count(priors, 3) == 1,
            f"the priors have the shape {list(priors)}, expected 1 x 2 x (P 4)",
        )
        self.require(
            len(truth) == 4 and truth[:2] == (1, 1) and truth[3] == 8,
            f"the ground truth has the shape {list(truth)}, expected 1 x 1 x G x 8",
        )
        total, each = priors[2] // 4, 1 if self.share else self.classes
        for name, shape, wanted in (
            ("location predictions", predicted, total * each * 4),
            ("confidence predictions", scores, total * self.classes),
        ):
            self.require(
                count(shape, 1) == wanted,
                f"{name} have the shape {list(shape)}, expected {wanted} for each image of {total} priors",
            )
        return tops

    def stage(self, known: Priors, more: Sequence[Tensor]) -> Stage:
        """What is learnt against, on the CPU; ``more``: the bottoms behind the ground truth, of which SSD has none."""
        return Stage(known, known)

    def forward(self, predicted: Tensor, scores: Tensor, priors: Tensor, truth: Tensor, *more: Tensor) -> Tensor:
        """Choose without gradients on the CPU, then the two losses where the net runs."""
        for number, bottom in enumerate((predicted, scores, priors, truth, *more)):
            unclear(self, bottom.detach(), number)
        total = priors.shape[2] // 4
        boxes = predicted.reshape(len(predicted), total, -1, 4)
        values = scores.reshape(len(scores), total, self.classes)
        with torch.no_grad():
            known = read_priors(self, priors.cpu())
            known = Priors(known.boxes.to(boxes.dtype), known.variances.to(boxes.dtype))
            self.coding.check(self, known)
            stage = self.stage(known, [one.detach().to("cpu", boxes.dtype) for one in more])
            chosen = self._choose(boxes.detach().cpu(), values.detach().cpu(), stage, truth.detach().cpu())
        divisor = self._divisor(len(boxes), total, chosen.count)
        loss: Tensor = boxes[:0].sum() + values[:0].sum()
        if self.counts[0] and chosen.count:
            loss = loss + self.loc_weight * self._location_losses(boxes, stage.learnt, chosen).sum() / divisor
        if self.counts[1]:
            loss = loss + self._class_loss(values, chosen) / divisor
        return loss

    def _divisor(self, images: int, priors: int, matched: int) -> int:
        """LossLayer::GetNormalizer."""
        sizes = {"FULL": images * priors, "VALID": matched, "BATCH_SIZE": images, "NONE": 1}
        if self.normalizer.mode not in sizes:
            raise self.error(f"loss_param.normalization is {self.normalizer.mode}, expected {', '.join(sizes)}")
        return max(1, sizes[self.normalizer.mode])

    # -- choosing -----------------------------------------------------------------------------------------------

    def _truth(self, rows: Tensor, images: int) -> list[_Truth | None]:
        """By image; None for one without any.

        Raises:
            LayerError: a label that no class has, or the background's.
        """
        rows = rows.reshape(-1, 8)
        rows = rows[rows[:, 0].trunc() != NONE]
        if self.classes == 2 and not self.agnostic:
            rows = torch.cat([rows[:, :1], rows[:, 1:2].clamp(max=1), rows[:, 2:]], 1)
        labels = rows[:, 1].trunc()
        wrong = (labels == self.background) | (labels < 0) | (labels >= self.classes) & (not self.agnostic)
        if bool(wrong.any()):
            row = rows[int(wrong.int().argmax())]
            raise self.error(
                f"ground truth in '{self.params.bottoms[3]}' has the label {int(row[1])}, expected one of "
                f"{self.classes} classes but the background ({self.background})"
            )
        if not self.difficult:
            rows = rows[rows[:, 7] == 0]
        found: list[_Truth | None] = []
        for number in range(images):
            own = rows[rows[:, 0].trunc() == number]
            found.append(_Truth(own[:, 3:7], own[:, 1].numpy().astype(np.int64)) if len(own) else None)
        return found

    def _choose(self, boxes: Tensor, scores: Tensor, stage: Stage, rows: Tensor) -> _Chosen:
        """Matches and negatives of a batch."""
        truth = self._truth(rows.to(boxes.dtype), len(boxes))
        matches: list[dict[int, np.ndarray]] = []
        best: list[dict[int, np.ndarray]] = []
        for image, own in enumerate(truth):
            priors = stage.of(image) if self.of_priors else stage.given
            found = self._match(boxes[image], priors, own) if own is not None else {}
            matches.append({kind: pair[0] for kind, pair in found.items()})
            best.append({kind: pair[1] for kind, pair in found.items()})
        chosen = _Chosen(truth, matches, [np.zeros(0, np.int64) for _ in truth])
        if self.mining.kind == "NONE":
            return chosen
        priors = stage.given
        losses = self._losses(boxes, scores, priors, chosen)
        for image, own in enumerate(truth):
            if own is None:
                continue
            looked = None
            if self.mining.nms > 0:
                looked = priors.boxes if self.mining.nms_of_priors else self.coding.decode(priors, boxes[image, :, 0])
            open_to = None if stage.open is None else stage.open[image]
            stay, negatives = mine(matches[image][0], best[image][0], losses[image], looked, self.mining, open_to)
            chosen.matches[image][0], chosen.negatives[image] = stay, negatives
        return chosen

    def _match(self, boxes: Tensor, priors: Priors, own: _Truth) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Of one image, for each kind of location (0 where all classes share it)."""
        kinds = [0] if self.share else [label for label in range(self.classes) if label != self.background]
        if self.of_priors:
            found, best = match(priors.boxes, own.boxes, self.matching)
            if self.share:
                return {0: (found, best)}
            labels = np.where(found > NONE, own.labels[found], NONE)
            return {kind: (np.where(labels == kind, found, NONE), best) for kind in kinds}
        result = {}
        for kind in kinds:
            rows = np.flatnonzero(own.labels == kind) if not self.share else np.arange(len(own.labels))
            decoded = self.coding.decode(priors, boxes[:, kind])
            found, best = match(decoded, own.boxes[torch.from_numpy(rows)], self.matching)
            result[kind] = np.where(found > NONE, rows[found] if len(rows) else NONE, found), best
        return result

    def _losses(self, boxes: Tensor, scores: Tensor, priors: Priors, chosen: _Chosen) -> np.ndarray:
        """What mining orders the priors by, [N, P]: the loss of the class, for hard examples that of the box too."""
        labels = torch.full(scores.shape[:2], self.background)
        for image, own in enumerate(chosen.truth):
            if own is not None:
                found = chosen.matches[image][0]
                labels[image][torch.from_numpy(found > NONE)] = torch.from_numpy(own.labels[found[found > NONE]])
        if int(labels.max() if labels.numel() else 0) >= self.classes:
            raise self.error(f"ground truth has the label {int(labels.max())}, expected less than {self.classes}")
        if self.logistic:
            target = F.one_hot(labels, self.classes).to(scores.dtype)
            losses = F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(2)
        else:
            losses = -torch.log_softmax(scores, 2).gather(2, labels[..., None])[..., 0].clamp(min=_LOG_MIN)
        if self.mining.kind == "HARD_EXAMPLE" and chosen.count:
            each = self._location_losses(boxes, priors, chosen).sum(1)
            images, places, _, _ = self._matched(chosen)
            losses = losses.index_put((images, places), each.to(losses.dtype), accumulate=True)
        return losses.numpy()

    # -- the losses ---------------------------------------------------------------------------------------------

    def _matched(self, chosen: _Chosen) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Image, place and kind of location of each matched prior, and their ground truth by image."""
        images, places, kinds, wanted = [], [], [], []
        for image, of_kind in enumerate(chosen.matches):
            for kind, found in of_kind.items():
                at = np.flatnonzero(found > NONE)
                images.append(np.full(len(at), image))
                places.append(at)
                kinds.append(np.full(len(at), kind))
                own = chosen.truth[image]
                if own is not None:
                    wanted.append(own.boxes[torch.from_numpy(found[at])])
        joined = [torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *part])) for part in (images, places, kinds)]
        return joined[0], joined[1], joined[2], wanted

    def _location_losses(self, boxes: Tensor, priors: Priors, chosen: _Chosen) -> Tensor:
        """Of each matched prior and coordinate (Tensor[M, 4])."""
        image, place, kind, wanted = self._matched(chosen)
        if not len(image):
            return boxes.new_zeros(0, 4)
        truth = torch.cat(wanted)
        wide, high = sides(truth)
        if self.coding.kind == "CENTER_SIZE" and bool(((wide <= 0) | (high <= 0)).any()):
            row = truth[int(((wide <= 0) | (high <= 0)).int().argmax())].tolist()
            raise self.error(f"ground truth in '{self.params.bottoms[3]}' is {row}, expected x1 < x2 and y1 < y2")
        known = priors.boxes[image, place] if priors.boxes.dim() == 3 else priors.boxes[place]
        own = Priors(known, priors.variances[place])
        target = self.coding.encode(own, truth)
        device = boxes.device
        picked = boxes[image.to(device), place.to(device), kind.to(device)]
        outside = self._outside(own, picked) if self.inside else None
        target = target.to(device)
        if outside is not None:
            picked = torch.where(outside.to(device), target, picked)
        if self.coding.in_target:
            variance = own.variances.to(device)
            picked = picked + (picked.detach() / variance - picked.detach())  # the gradient is not divided
            target = target / variance
        if self.l2:
            return (picked - target).square() / 2
        return F.smooth_l1_loss(picked, target, reduction="none")

    def _outside(self, own: Priors, picked: Tensor) -> Tensor:
        """Coordinates outside the image, which learn nothing (``bp_inside``)."""
        boxes = own.boxes if self.of_priors else self.coding.decode(own, picked.detach().cpu())
        return (boxes < 0) | (boxes > 1)

    def _class_loss(self, scores: Tensor, chosen: _Chosen) -> Tensor:
        """Of the matched priors and the negatives; without mining of all priors."""
        rows, labels = [], []
        total = scores.shape[1]
        for image, own in enumerate(chosen.truth):
            if own is None:
                continue
            for found in chosen.matches[image].values():
                at = np.flatnonzero(found > NONE)
                rows.append(image * total + at)
                labels.append(np.full(len(at), self.background + 1) if self.agnostic else own.labels[found[at]])
            rows.append(image * total + chosen.negatives[image])
            labels.append(np.full(len(chosen.negatives[image]), self.background))
        places, wanted = (torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *part])) for part in (rows, labels))
        flat, label = scores.reshape(-1, self.classes), wanted.to(scores.device)
        if self.mining.kind != "NONE":
            return self._loss_of_rows(flat[places.to(flat.device)], label, places, total)
        if self.logistic:
            return self._loss_of_rows(flat, label, places, total)
        every = torch.full((len(flat),), self.background)
        every[places] = wanted
        return self._loss_of_rows(flat, every.to(flat.device), places, total)

    def _loss_of_rows(self, scores: Tensor, label: Tensor, at: Tensor, total: int) -> Tensor:
        if not self.logistic:
            logs = torch.log_softmax(scores, 1).gather(1, label[:, None])
            return -(logs + (logs.clamp(min=_LOG_MIN) - logs).detach()).sum()  # the gradient knows no floor
        # Caffe fills the targets with the number of the background, and marks
        target = torch.full_like(scores, float(self.background), requires_grad=False)
        if self.mining.kind != "NONE":
            inside = label < self.classes
            target[torch.arange(len(label), device=label.device)[inside], label[inside]] = 1
        else:
            image, place = at // max(total, 1), at % max(total, 1)
            flat = image.to(label.device) * total + place.to(label.device) * self.classes + label
            target.view(-1)[flat] = 1
        return F.binary_cross_entropy_with_logits(scores, target, reduction="sum")
