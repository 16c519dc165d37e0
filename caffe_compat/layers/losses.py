"""Losses.

Every loss returns its unweighted value; the weight arrives with the incoming gradient.  Labels are numbers that are
cut towards zero, as C does; a label without a class is refused (BVLC Caffe reads past the end of the blob).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, as_rows, count
from caffe_compat.layers.labels import Normalizer, check_labels, legacy_rank, on_axis, read_labels
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient
from caffe_compat.layers.softmax import softmax_section
from caffe_compat.proto import read_blob_proto

__all__ = [
    "ContrastiveLoss",
    "EuclideanLoss",
    "HingeLoss",
    "InfogainLoss",
    "L1Loss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
    "floored_log",
]

FLT_MIN = 1.17549435e-38
LOG_THRESHOLD = 1e-20


class _Floor(torch.autograd.Function):
    """max(x, floor) whose gradient takes no notice of the floor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, floor: float) -> Tensor:
        return value.clamp(min=floor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def floored_log(logs: Tensor) -> Tensor:
    """Logarithms of probabilities, held above that of FLT_MIN; the gradient is not."""
    found: Tensor = _Floor.apply(logs, math.log(FLT_MIN))  # type: ignore[no-untyped-call]
    return found


@register
class SoftmaxWithLoss(LossLayer):
    """Cross entropy of the softmax along ``axis`` with integer labels.

    The probability is held above FLT_MIN (so the loss is at most 87.3 a position), the gradient is not.  A second top
    is refused: BVLC Caffe 1.0 declares it but cannot build it.

    SegNet and ENet (``softmax_loss_layer.cpp`` of alexgkendall/caffe-segnet): with ``weight_by_label_freqs`` the loss
    of each position, and so its gradient, is multiplied by the ``class_weighting`` of its label.  What it is divided by
    stays a number of positions, not a sum of weights.
    """

    caffe_type = "SoftmaxWithLoss"
    class_weights: Tensor
    answer = "Softmax"
    judges_classes = True
    creates_layer = True  # a Softmax
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.softmax, self.normalizer = softmax_section(params, bottoms[0]), Normalizer(params)
        loss = params.section("loss_param")
        weights = [float(weight) for weight in loss.class_weighting]
        self.weighted = bool(loss.weight_by_label_freqs)
        if not all(map(math.isfinite, weights)):
            raise self.error(f"loss_param.class_weighting is {weights}, expected finite numbers")
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; as many labels as positions, as many weights as classes."""
        tops = super().top_shapes(bottoms)
        axis = self.softmax.axis("axis", len(bottoms[0]))
        check_labels(self, bottoms[0], bottoms[1], axis)
        self.require(
            not self.weighted or len(self.class_weights) == bottoms[0][axis],
            f"loss_param.class_weighting has {len(self.class_weights)} entries, expected one for each of the "
            f"{bottoms[0][axis]} classes",
        )
        return tops

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Sum over the positions that are not ignored, divided by the normalizer."""
        axis = self.softmax.axis("axis", scores.dim())
        label, valid = read_labels(self, on_axis(label, scores.shape, axis), scores.shape[axis], self.normalizer.ignore)
        logs = floored_log(torch.log_softmax(scores, axis).gather(axis, label))
        if self.weighted:
            logs = logs * self.class_weights.to(logs)[label]
        if valid is not None:
            logs = logs.masked_fill(~valid, 0)
        outer, inner = count(scores.shape, 0, axis), count(scores.shape, axis + 1)
        loss: Tensor = -logs.sum() / self.normalizer.divisor(valid, outer, inner)
        return loss


@register
class InfogainLoss(LossLayer):
    """Softmax, then -sum_l H[label, l] log(p_l), with H from the third bottom or from a binaryproto file.

    p is held above 1e-20, the gradient is not.  The second top, if any, is the softmax (without gradient); then both
    tops need a ``loss_weight``.
    """

    caffe_type = "InfogainLoss"
    creates_layer = True  # a Softmax
    bottom_count = (2, 3)
    top_count = (1, 2)
    no_gradient = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        infogain, loss = params.section("infogain_loss_param"), params.section("loss_param")
        self.infogain = infogain
        self.softmax = params.section("softmax_param")
        self.softmax.ignore("engine", "axis")  # Caffe writes infogain_loss_param.axis over it
        if loss.has("normalize"):
            raise self.error("loss_param.normalize is deprecated, expected loss_param.normalization")
        if len(params.tops) == 2 and not params.description.loss_weights:
            raise self.error("with two tops both need a loss_weight, expected 2 entries")
        infogain.axis("axis", len(bottoms[0]))
        self.normalizer = Normalizer(params)
        self.register_buffer("matrix", None, persistent=False)
        source = infogain.optional("source")
        if len(bottoms) == 2:
            if not source:
                raise self.error("infogain_loss_param.source or a third bottom is expected as infogain matrix")
            self.matrix = torch.from_numpy(np.array(read_blob_proto(source), np.float32))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, and the shape of the scores for the second top; H has the square of the classes as count."""
        super().top_shapes(bottoms)
        axis = self.infogain.axis("axis", len(bottoms[0]))
        check_labels(self, bottoms[0], bottoms[1], axis)
        matrix = tuple(bottoms[2]) if len(bottoms) > 2 else tuple(self.matrix.shape)
        self.require(
            count(matrix) == bottoms[0][axis] ** 2,
            f"the infogain matrix has the shape {list(matrix)}, expected {bottoms[0][axis] ** 2} values",
        )
        return [(), tuple(bottoms[0])][: max(1, len(self.params.tops))]

    def backward_reads(self) -> Reads:
        """Labels and H; the softmax where it is a top."""
        return Reads(super().backward_reads().bottoms, tops=(1,) if len(self.params.tops) == 2 else ())

    def backward_form(self, memory: Reread) -> Tensor | tuple[Tensor, ...]:
        """p times the sum of its row of H, less that row, with the softmax that the second top holds now."""
        if len(memory.tops) < 2:
            return super().backward_form(memory)
        (scores, *others), (loss, softmax) = memory.bottoms, memory.tops
        axis = self.infogain.axis("axis", scores.dim())
        rows, divisor = self._rows(scores, *others)
        last = softmax.movedim(axis, -1)
        p = last.reshape(rows.shape)
        slope = ((p * rows.sum(1, keepdim=True) - rows) / divisor).reshape(last.shape).movedim(-1, axis)
        return with_gradient(loss, scores, lambda seed: seed * slope), softmax

    def _rows(self, scores: Tensor, label: Tensor, matrix: Tensor | None = None) -> tuple[Tensor, Tensor | float]:
        """The row of H for each position, 0 where it is ignored, and the normalizer."""
        axis = self.infogain.axis("axis", scores.dim())
        classes = scores.shape[axis]
        label, valid = read_labels(self, label.flatten(), classes, self.normalizer.ignore)
        matrix = (self.matrix if matrix is None else matrix).detach().to(scores).reshape(classes, classes)
        outer, inner = count(scores.shape, 0, axis), count(scores.shape, axis + 1)
        rows = matrix[label] if valid is None else matrix[label] * valid[:, None]
        return rows, self.normalizer.divisor(valid, outer, inner)

    def forward(self, scores: Tensor, label: Tensor, matrix: Tensor | None = None) -> tuple[Tensor, ...]:
        """Sum over the positions that are not ignored, divided by the normalizer; the softmax."""
        axis = self.infogain.axis("axis", scores.dim())
        rows, divisor = self._rows(scores, label, matrix)
        logs = torch.log_softmax(scores, axis)
        terms = _Floor.apply(logs, math.log(LOG_THRESHOLD)).movedim(axis, -1).reshape(rows.shape) * rows
        loss = -terms.sum() / divisor
        return (loss, logs.detach().exp()) if len(self.params.tops) == 2 else (loss,)


@register
class MultinomialLogisticLoss(LossLayer):
    """-log(p[label]) / N of given probabilities, held above 1e-20; the gradient there is -1e20 / N, not 0."""

    caffe_type = "MultinomialLogisticLoss"
    no_gradient = (1,)

    def backward_reads(self) -> Reads:
        """Both bottoms."""
        return Reads((0, 1))

    def backward_form(self, memory: Reread) -> Tensor:
        """The loss again."""
        result: Tensor = self(*memory.bottoms)
        return result

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; one label per item."""
        tops = super().top_shapes(bottoms)
        legacy_rank(self, bottoms)
        self.require(count(bottoms[1], 1) == 1, f"expected one label per item, bottom 1 is {list(bottoms[1])}")
        return tops

    def forward(self, probability: Tensor, label: Tensor) -> Tensor:
        """Sum over the items, divided by their number."""
        rows = as_rows(probability)
        label, _ = read_labels(self, label.reshape(-1, 1), rows.shape[1], None)
        loss: Tensor = -_Floor.apply(rows.gather(1, label), LOG_THRESHOLD).log().sum() / len(rows)
        return loss


@register
class HingeLoss(LossLayer):
    """One against all: max(0, 1 - x) for the label and max(0, 1 + x) for the others, summed (L2: squared) over N."""

    caffe_type = "HingeLoss"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.squared = params.section("hinge_loss_param").enum("norm") == "L2"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        legacy_rank(self, bottoms)
        return super().top_shapes(bottoms)

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Only the first N labels are read, as in Caffe."""
        rows = as_rows(scores)
        label, _ = read_labels(self, label.flatten()[: len(rows), None], rows.shape[1], None)
        margin = F.relu(1 + rows * torch.ones_like(rows).scatter(1, label, -1.0))
        return (margin.square() if self.squared else margin).sum() / len(rows)


@register
class EuclideanLoss(LossLayer):
    """Sum of (a - b)^2 over 2N; gradients go to both bottoms.  Any number of axes, as in C3D; BVLC's takes up to 4."""

    caffe_type = "EuclideanLoss"
    unforced = ()

    def backward_reads(self) -> Reads:
        """Nothing: the difference is kept."""
        return Reads()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; as many values per item in both bottoms."""
        tops = super().top_shapes(bottoms)
        self.require(
            count(bottoms[0], 1) == count(bottoms[1], 1),
            f"inputs must have the same dimension: bottoms are {list(bottoms[0])} and {list(bottoms[1])}",
        )
        return tops

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """One mean squared error."""
        return F.mse_loss(a, b.reshape(a.shape), reduction="sum") / (2 * a.shape[0])


@register
class L1Loss(EuclideanLoss):
    """Sum of |a - b| over N; gradients go to both bottoms, 0 where they are equal.  Source: NVIDIA/caffe."""

    caffe_type = "L1Loss"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """One mean of sums."""
        return F.l1_loss(a, b.reshape(a.shape), reduction="sum") / a.shape[0]


@register
class SigmoidCrossEntropyLoss(LossLayer):
    """Cross entropy of sigmoids with targets, which may be any numbers.

    Divided by the batch size unless ``normalization`` or ``normalize`` is set.  ``ignore_label`` is compared with the
    target cut towards zero: 0 ignores everything between -1 and 1.
    """

    caffe_type = "SigmoidCrossEntropyLoss"
    answer = "Sigmoid"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.normalizer = Normalizer(params, "BATCH_SIZE")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; equal counts."""
        tops = super().top_shapes(bottoms)
        self.require(
            count(bottoms[0]) == count(bottoms[1]),
            f"inputs must have the same count: bottoms are {list(bottoms[0])} and {list(bottoms[1])}",
        )
        return tops

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Sum over the entries that are not ignored, divided by the normalizer."""
        target = target.detach().reshape(scores.shape)
        valid = None if self.normalizer.ignore is None else target.trunc() != self.normalizer.ignore
        loss = F.binary_cross_entropy_with_logits(scores, target, valid, reduction="sum")
        return loss / self.normalizer.divisor(valid, scores.shape[0], count(scores.shape, 1))


class _ContrastiveLoss(torch.autograd.Function):
    """Sum over pairs; Caffe divides by distance + 1e-4 in the gradient of the newer form."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, similar: Tensor, margin: float, legacy: bool) -> Tensor:
        difference = a - b
        squared = difference.square().sum(1)
        distance = squared.sqrt()
        gap = (margin - (squared if legacy else distance)).clamp(min=0)
        slope = (gap > 0).to(a) if legacy else gap / (distance + 1e-4)
        factor = torch.where(similar, torch.ones_like(slope), -slope) / len(a)
        ctx.save_for_backward(factor[:, None] * difference)
        return torch.where(similar, squared, gap if legacy else gap.square()).sum() / (2 * len(a))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (scaled,) = ctx.saved_tensors
        scaled = grad * scaled
        return scaled, -scaled, None, None, None


@register
class ContrastiveLoss(LossLayer):
    """Squared distance of similar pairs; max(margin - distance, 0)^2 of the others, over 2N.

    ``legacy_version``: max(margin - squared distance, 0) instead.
    """

    caffe_type = "ContrastiveLoss"
    bottom_count = (3, 3)
    unforced = (2,)

    def backward_reads(self) -> Reads:
        """The labels."""
        return Reads((2,))

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("contrastive_loss_param")
        self.margin, self.legacy = float(section.margin), bool(section.legacy_version)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; two rows of features and one label per pair."""
        tops = super().top_shapes(bottoms)
        legacy_rank(self, bottoms)
        channels = [shape[1] if len(shape) > 1 else 1 for shape in bottoms]
        self.require(
            channels[0] == channels[1]
            and count(bottoms[0], 2) == count(bottoms[1], 2) == count(bottoms[2], 1) == 1
            and bottoms[2][:1] == bottoms[0][:1],
            f"expected N x C, N x C and N: bottoms are {[list(shape) for shape in bottoms]}",
        )
        return tops

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        """Pairs whose label, cut towards zero, is not 0 are similar."""
        rows = [as_rows(bottom) for bottom in (a, b)]
        loss: Tensor = _ContrastiveLoss.apply(*rows, similar.detach().flatten().trunc() != 0, self.margin, self.legacy)
        return loss
