"""Accuracy, of labels and of maps of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.labels import check_labels, legacy_rank, legacy_shape, on_axis, read_indices, read_labels
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["Accuracy", "SegAccuracy"]


@register
class Accuracy(Layer):
    """Part of the labels that are among the ``top_k`` best scores; a second top counts each class by itself.

    A tie counts against the label (two equal best scores: wrong for ``top_k: 1``), as in BVLC Caffe 1.0; older forks
    let the larger index win.  No gradient.
    """

    caffe_type = "Accuracy"
    judges_classes = True
    bottom_count = (2, 2)
    top_count = (1, 2)
    no_gradient = (0, 1)
    onnx_reason = "accuracy is for testing; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("accuracy_param")
        self.section.ignore("min_is_better")  # false here
        self.top_k = int(self.section.top_k)
        self.ignore: int | None = self.section.optional("ignore_label")
        self.section.axis("axis", len(bottoms[0]))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, and one value per class."""
        axis = self.section.axis("axis", len(bottoms[0]))
        check_labels(self, bottoms[0], bottoms[1], axis)
        classes = bottoms[0][axis]
        self.require(self.top_k <= classes, f"accuracy_param.top_k is {self.top_k}, expected at most {classes} classes")
        return [(), (classes,)][: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Correct ones among those whose label is not ignored; 0 if there are none."""
        axis = self.section.axis("axis", scores.dim())
        classes = scores.shape[axis]
        label, valid = read_labels(self, on_axis(label, scores.shape, axis), classes, self.ignore)
        correct = (self.better(scores, label, axis) < self.top_k).to(scores).flatten()
        counted = torch.ones_like(correct) if valid is None else valid.to(scores).flatten()
        correct = correct * counted
        tops = (correct.sum() / counted.sum().clamp(min=1),)
        if len(self.params.tops) == 1:
            return tops
        zeros = scores.new_zeros(classes)
        hits, seen = (zeros.scatter_add(0, label.flatten(), values) for values in (correct, counted))
        return (*tops, hits / seen.clamp(min=1))

    def better(self, scores: Tensor, label: Tensor, axis: int) -> Tensor:
        """How many classes come before the label, which has one entry along ``axis``."""
        return (scores >= scores.gather(axis, label)).sum(axis, keepdim=True) - 1


@register(dialect="pspnet")
class SegAccuracy(Layer):
    """Part of the pixels that are right, mean recall and mean Jaccard index of the classes (Tensor[1, 1, 1, 3]).

    Of equal best scores that of the last class counts.  Classes without a pixel are left out of the recall; in the
    Jaccard index a class that neither labels nor scores have counts as 1.  Pixels with an ``ignore_label`` (there may
    be several) count for nothing.  With ``reset: false`` pixels of earlier passes count too, here from the beginning of
    a test.  ``metric`` is not read, as in the fork.  No gradient.  Source: ``seg_accuracy_layer.cpp`` and
    ``confusion_matrix.cpp`` of hszhao/PSPNet.
    """

    caffe_type = "SegAccuracy"
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    onnx_reason = "accuracy is for testing; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("seg_accuracy_param")
        section.ignore("metric")
        self.ignored = [int(label) for label in section.ignore_label]
        self.running_metric = not section.reset
        self._classes = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        self._seen: Tensor | None = None

    def start_over(self) -> None:
        """Forget all pixels."""
        self._seen = None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x 1 x 3; a label for each pixel."""
        legacy_rank(self, bottoms)
        scores, labels = map(legacy_shape, bottoms)
        self.require(bool(bottoms[0]) and scores[1] > 0, f"bottom 0 has the shape {list(bottoms[0])}, expected classes")
        self.require(
            labels == (scores[0], 1, *scores[2:]),
            f"bottom '{self.params.bottoms[1]}' has the shape {list(bottoms[1])}, expected a label for each pixel of "
            f"{list(bottoms[0])}, {[scores[0], 1, *scores[2:]]}",
        )
        return [(1, 1, 1, 3)]

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """A matrix of labels and predictions, and what it says."""
        maps = scores.reshape(legacy_shape(scores.shape))
        classes = maps.shape[1]
        whole = label.long().flatten()
        valid = torch.ones_like(whole, dtype=torch.bool)
        for ignored in self.ignored:
            valid &= whole != ignored
        right = read_indices(self, whole * valid, classes, f"a label in bottom '{self.params.bottoms[1]}'")
        last = torch.arange(classes, device=maps.device).reshape(1, -1, 1, 1)
        found = torch.where(maps == maps.amax(1, keepdim=True), last, 0).amax(1).flatten()
        seen = torch.zeros(classes * classes, dtype=torch.long, device=maps.device)
        seen = seen.scatter_add(0, right * classes + found, valid.long()).reshape(classes, classes)
        if self.running_metric and self._seen is not None:
            seen = seen + self._seen
        self._seen = seen if self.running_metric else None
        return _said(seen).to(scores)

    def unite(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        """As :meth:`Layer.unite`."""
        own = torch.zeros(self._classes, self._classes) if self._seen is None else self._seen.cpu()
        self._seen = total(own.double()).long()
        return _said(self._seen).float()


def _said(seen: Tensor) -> Tensor:
    """Accuracy, mean recall and mean Jaccard index [1, 1, 1, 3] of a matrix of labels and predictions."""
    both, rows, columns = seen.diagonal().double(), seen.sum(1).double(), seen.sum(0).double()
    accuracy = both.sum() / rows.sum().clamp(min=1)
    recall = (both / rows.clamp(min=1)).sum() / (rows > 0).sum().clamp(min=1)
    union = rows + columns - both
    jaccard = torch.where(both == union, 1.0, both / union.clamp(min=1)).mean()
    return torch.stack([accuracy, recall, jaccard]).reshape(1, 1, 1, 3)
