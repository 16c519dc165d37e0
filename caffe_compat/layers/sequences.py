"""Labels of sequences without their places: CtcLoss, LabelsequenceAccuracy and ContinuationIndicator.

Source: jolibrain/caffe, ``ctc_loss_layer.cpp`` with its copy of warp-ctc, ``labelsequence_accuracy_layer.cpp``,
``continuation_indicator_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, OnnxGraph, Shape
from caffe_compat.layers.labels import can_look, read_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import indices

__all__ = ["BatchIndicator", "ContinuationIndicator", "CtcLoss", "LabelsequenceAccuracy"]


@register(dialect="deepdetect")
class ContinuationIndicator(Layer):
    """Marks for recurrent layers (Tensor[T, N]): 0 in the first of ``time_step`` rows, else 1.

    N is the size of axis ``axis`` of the bottom, whose values are not read.
    """

    caffe_type = "ContinuationIndicator"
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("continuation_indicator_param")
        self.steps = int(section.time_step)
        self.axis = section.axis("axis", len(bottoms[0]))
        if self.steps < 1:
            raise self.error(f"continuation_indicator_param.time_step is {self.steps}, expected a positive number")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Steps by items."""
        self.require(self.axis < len(bottoms[0]), f"the bottom has the shape {list(bottoms[0])}, without {self.axis}")
        return [(self.steps, bottoms[0][self.axis])]

    def forward(self, bottom: Tensor) -> Tensor:
        """One row of zeros."""
        top = bottom.new_ones(self.steps, bottom.shape[self.axis])
        top[0] = 0
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Expand of a column of marks."""
        ints = graph.constant
        marks = np.ones((self.steps, 1), np.float32)
        marks[0] = 0
        items = graph.add("Slice", [graph.add("Shape", bottoms), ints([self.axis]), ints([self.axis + 1])])
        shape = graph.add("Concat", [ints([self.steps]), items], axis=0)
        graph.node("Expand", [graph.constant(marks), shape], tops)


@register(when=lambda params: not params.bottoms, dialect="xmfbit/warpctc-caffe")
class BatchIndicator(Layer):
    """The same marks without a bottom: ``time_step`` rows of ``batch_size`` (``continuation_indicator_layer.cpp``)."""

    caffe_type = "ContinuationIndicator"
    bottom_count = (0, 0)
    marks: Tensor

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("continuation_indicator_param")
        steps, items = int(section.time_step), int(section.batch_size)
        if steps < 1 or items < 1:
            raise self.error(
                f"continuation_indicator_param has time_step {steps} and batch_size {items}, expected positive numbers"
            )
        self.shape = (steps, items)
        self.require_memory("a blob", [self.shape])
        marks = torch.ones(self.shape)
        marks[0] = 0
        self.register_buffer("marks", marks, persistent=False)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Steps by items."""
        return [self.shape]

    def forward(self) -> Tensor:
        """The same in every pass."""
        return self.marks.clone()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """A constant."""
        graph.node("Identity", [graph.constant(self.marks.cpu().numpy())], tops)


@register(dialect="deepdetect")
class CtcLoss(LossLayer):
    """The mean over the batch of -log of the probability of each label sequence, in whatever steps it may stand.

    Bottoms: scores before any softmax (T x N x C) and labels (N x L); ``blank_label`` among these is left out, and may
    stand anywhere.  The first ``time_step`` steps count, C is ``alphabet_size``.  A sequence that is longer than its
    steps allow costs 0; its gradient is 0 too (the fork's is whatever an earlier pass left there).
    """

    caffe_type = "CtcLoss"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("ctc_loss_param")
        self.classes, self.steps = int(section.alphabet_size), int(section.time_step)
        self.blank = int(section.blank_label)
        if self.classes < 1 or self.steps < 1:
            raise self.error(
                f"ctc_loss_param has alphabet_size {self.classes} and time_step {self.steps}, expected positive numbers"
            )
        if not 0 <= self.blank < self.classes:
            raise self.error(f"ctc_loss_param.blank_label is {self.blank}, expected 0 to {self.classes - 1}")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Labels."""
        if bottom != 1:
            return None
        found = indices(shapes[1], self.classes, random)
        if self.classes > 1 and found.size:  # one that is not blank at least
            found.flat[0] = (self.blank + 1) % self.classes
        return found

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        scores, label = tuple(bottoms[0]), tuple(bottoms[1])
        self.require(
            len(scores) == 3 and scores[2] == self.classes and scores[0] >= self.steps,
            f"the scores have the shape {list(scores)}, expected T x N x {self.classes}, T from {self.steps}",
        )
        self.require(
            len(label) == 2 and label[0] == scores[1],
            f"the labels have the shape {list(label)}, expected {scores[1]} x L",
        )
        return [()]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """torch's loss over log-probabilities."""
        if scores.is_meta:
            return scores.new_empty(())
        label = read_indices(self, label, self.classes, f"a label in bottom '{self.params.bottoms[1]}'")
        said = label != self.blank
        if can_look(said) and not bool(said.any()):
            raise self.error(f"all labels in bottom '{self.params.bottoms[1]}' are blank, expected one that is not")
        order = torch.argsort((~said).int(), dim=1, stable=True)
        chances = scores[: self.steps].log_softmax(2)
        lengths = torch.full((scores.shape[1],), self.steps)
        if not scores.shape[1]:
            return scores.sum()
        losses = F.ctc_loss(
            chances, label.gather(1, order), lengths, said.sum(1), self.blank, reduction="none", zero_infinity=True
        )
        return losses.mean()


@register(dialect="deepdetect")
class LabelsequenceAccuracy(Layer):
    """Part of the sequences that are right: best classes, without repetitions and blanks, against the labels.

    Bottoms: scores (N x T x C) and labels (N x L), of which those that are ``blank_label`` are left out.  Of equal best
    scores the first counts.  No gradient.
    """

    caffe_type = "LabelsequenceAccuracy"
    judges_classes = True
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    onnx_reason = "accuracy is for testing; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.blank = int(params.section("labelsequence_accuracy_param").blank_label)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        scores, label = tuple(bottoms[0]), tuple(bottoms[1])
        self.require(
            len(scores) == 3 and len(label) == 2 and scores[0] == label[0] and scores[2] > 0,
            f"bottoms have the shapes {list(scores)} and {list(label)}, expected N x T x C and N x L",
        )
        return [()]

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """What is left of each row, compared from the left."""
        best = scores.argmax(2)
        before = torch.cat([best.new_full((len(best), 1), self.blank), best[:, :-1]], 1)
        said, wanted = (best != before) & (best != self.blank), label.long() != self.blank
        found, truth = _pushed(best, said), _pushed(label.long(), wanted)
        width = max(found.shape[1], truth.shape[1])
        found, truth = (F.pad(rows, (0, width - rows.shape[1]), value=-1) for rows in (found, truth))
        return (found == truth).all(1).to(scores).sum() / max(len(scores), 1)


def _pushed(rows: Tensor, kept: Tensor) -> Tensor:
    """Each row's kept entries, at its left; behind them -1."""
    order = torch.argsort((~kept).int(), dim=1, stable=True)
    return rows.masked_fill(~kept, -1).gather(1, order)
