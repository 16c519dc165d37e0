"""WarpCTCLoss and CTCGreedyDecoder of senlinuc/caffe_ocr: sequences of labels without their places.

Source: ``warp_ctc_loss_layer.cpp`` with its copy of warp-ctc, and ``ctc_decoder_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import can_look, read_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import indices
from caffe_compat.layers.sharing import with_gradient

__all__ = ["CTCGreedyDecoder", "WarpCTCLoss"]


def _check_labels(layer: Layer, label: Shape, items: int) -> None:
    layer.require(
        1 <= len(label) <= 4 and label[0] == items and count(label, 2) == 1,
        f"the labels have the shape {list(label)}, expected {items} x L",
    )


@register
class WarpCTCLoss(LossLayer):
    """The mean over the batch of -log of the probability of each label sequence, in whatever steps it may stand.

    Bottoms: scores before any softmax (T x N x C) and labels (N x L), of which ``blank_index`` is left out wherever it
    stands.  A sequence that is longer than its steps allow costs 0 and counts.  The gradient is the fork's: that of the
    *sum* over the batch, whatever the loss weight (its forward pass writes the diff, its backward pass does nothing);
    of a sequence too long it is 0, there what an earlier pass left.  The fork's other two forms, of 3 and 4 bottoms
    with marks or lengths, are not here.
    """

    caffe_type = "WarpCTCLoss"
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("ctc_loss_param")
        # read nowhere in the fork
        section.ignore("output_delay", "preprocess_collapse_repeated", "ctc_merge_repeated", "loss_calculation_t")
        self.blank = int(section.blank_index)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Labels."""
        if bottom != 1:
            return None
        classes = shapes[0][2]
        found = indices(shapes[1], classes, random)
        if classes > 1 and found.size:  # one that is not blank at least
            found.flat[0] = (self.blank + 1) % classes
        return found

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        scores = tuple(bottoms[0])
        self.require(
            len(scores) in (3, 4) and count(scores, 3) == 1 and scores[0] * scores[2] > 0,
            f"the scores have the shape {list(scores)}, expected T x N x C",
        )
        if not 0 <= self.blank < scores[2]:
            raise self.error(f"ctc_loss_param.blank_index is {self.blank}, expected 0 to {scores[2] - 1}")
        _check_labels(self, tuple(bottoms[1]), scores[1])
        return [()]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """torch's loss over log-probabilities."""
        if scores.is_meta:
            return scores.new_empty(())
        if not scores.shape[1]:
            return scores.sum()
        if not (scores.requires_grad and torch.is_grad_enabled()):
            return self._losses(scores, label).mean()
        leaf = scores.detach().requires_grad_()
        losses = self._losses(leaf, label)
        (diff,) = torch.autograd.grad(losses.sum(), leaf)
        return with_gradient(losses.mean(), scores, lambda seed: diff)

    def _losses(self, scores: Tensor, label: Tensor) -> Tensor:
        steps, items, classes = scores.shape[:3]
        name = f"a label in bottom '{self.params.bottoms[1]}'"
        label = read_indices(self, label.reshape(items, -1), classes, name)
        said = label != self.blank
        if can_look(said) and not bool(said.any()):
            raise self.error(f"all labels in bottom '{self.params.bottoms[1]}' are blank, expected one that is not")
        order = torch.argsort((~said).int(), dim=1, stable=True)
        chances = scores.reshape(steps, items, classes).log_softmax(2)
        lengths = torch.full((items,), steps)
        targets = label.gather(1, order)
        return F.ctc_loss(chances, targets, lengths, said.sum(1), self.blank, reduction="none", zero_infinity=True)


@register
class CTCGreedyDecoder(Layer):
    """The best class of each step, without repetitions (unless ``ctc_merge_repeated`` is false) and blanks.

    Bottoms: scores (T x N x C), and labels (N x L) where the answers are judged.  Without labels the top is the
    sequences, N x T x 1 x 1, with -1 behind them.  With labels, which end at the first negative one and of which
    ``blank_index`` is left out, it is [1, 2, 1, 1]: 1 - the mean of edit distance / longer length, and the part of
    sequences that are right.  Where both are empty the distance is 0, but the sequence is not counted as right.  A
    negative ``blank_index`` is the last class; of equal best scores the first counts.  No gradient.
    """

    caffe_type = "CTCGreedyDecoder"
    bottom_count = (1, 2)
    no_gradient = (0, 1)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("ctc_decoder_param")
        self.blank_index, self.merges = int(section.blank_index), bool(section.ctc_merge_repeated)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Labels."""
        return indices(shapes[1], shapes[0][2], random) if bottom == 1 else None

    def batch_axis(self, bottom: int) -> int:
        """The second axis of the scores."""
        return 1 - bottom

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sequences, or two numbers."""
        scores = tuple(bottoms[0])
        self.require(
            len(scores) in (3, 4) and count(scores, 3) == 1 and count(scores, 0, 3) > 0,
            f"the scores have the shape {list(scores)}, expected T x N x C",
        )
        if len(bottoms) == 1:
            return [(scores[1], scores[0], 1, 1)]
        _check_labels(self, tuple(bottoms[1]), scores[1])
        return [(1, 2, 1, 1)]

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor | None = None) -> Tensor:
        """Sequences, and how far they are from the labels."""
        if scores.is_meta:
            return scores.new_empty(
                self.top_shapes([scores.shape] if label is None else [scores.shape, label.shape])[0]
            )
        steps, items, classes = scores.shape[:3]
        blank = self.blank_index if self.blank_index >= 0 else classes - 1
        best = scores.reshape(steps, items, classes).argmax(2).T
        kept = best != blank
        if self.merges:
            kept[:, 1:] &= best[:, 1:] != best[:, :-1]
        if label is None:
            order = torch.argsort((~kept).int(), dim=1, stable=True)
            return best.masked_fill(~kept, -1).gather(1, order).to(scores).reshape(items, steps, 1, 1)
        rows = label.reshape(items, -1).cpu().double()
        found = [row[said].tolist() for row, said in zip(best.cpu(), kept.cpu(), strict=True)]
        return scores.new_tensor(self._judged(found, rows, blank)).reshape(1, 2, 1, 1)

    @staticmethod
    def _judged(found: Sequence[list[int]], rows: Tensor, blank: int) -> tuple[float, float]:
        wrong, right = 0.0, 0
        for answer, row in zip(found, rows.tolist(), strict=True):
            end = next((place for place, value in enumerate(row) if value < 0), len(row))
            truth = [whole for whole in (int(value + 0.5) for value in row[:end]) if whole != blank]
            if answer or truth:
                distance = _edits(answer, truth)
                wrong += distance / max(len(answer), len(truth))
                right += distance == 0
        return 1 - wrong / len(found), right / len(found)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ArgMax; what is kept is scattered to its place, the rest behind the end, which is cut off."""
        if len(bottoms) == 2:
            raise self.export_error("accuracy is for testing; export the deploy net instead")
        steps, _, classes = graph.static_shape(bottoms[0], "the size of the scores")[:3]
        add, ints = graph.add, graph.constant
        scores = add("Reshape", [bottoms[0], ints([steps, -1, classes])])
        best = add("Transpose", [add("ArgMax", [scores], axis=2, keepdims=0)], perm=[1, 0])
        blank = self.blank_index if self.blank_index >= 0 else classes - 1
        kept = add("Not", [add("Equal", [best, ints(np.array(blank))])])
        if self.merges:
            before = add("Pad", [best, ints([0, 1, 0, -1]), ints(np.array(-1))])
            kept = add("And", [kept, add("Not", [add("Equal", [best, before])])])
        place = add("CumSum", [add("Cast", [kept], to=7), ints(np.array(1))])
        place = add("Where", [kept, add("Sub", [place, ints(np.array(1))]), ints(np.array(steps))])
        items = add("Slice", [add("Shape", [best]), ints([0]), ints([1])])
        empty = add("Expand", [graph.constant(-1.0), add("Concat", [items, ints([steps + 1])], axis=0)])
        filled = add("ScatterElements", [empty, place, add("Cast", [best], to=1)], axis=1)
        cut = add("Slice", [filled, ints([0]), ints([steps]), ints([1])])
        graph.node("Unsqueeze", [cut, ints([2, 3])], tops)


def _edits(a: Sequence[int], b: Sequence[int]) -> int:
    """The edit distance: insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        left, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (one != other))
    return row[-1]
