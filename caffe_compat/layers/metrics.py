"""Accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.labels import read_labels
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["Accuracy"]


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
        self.top_k = int(self.section.top_k)
        self.ignore: int | None = self.section.optional("ignore_label")
        self.section.axis("axis", len(bottoms[0]))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, and one value per class."""
        axis = self.section.axis("axis", len(bottoms[0]))
        positions = count(bottoms[0], 0, axis) * count(bottoms[0], axis + 1)
        self.require(
            positions == count(bottoms[1]),
            f"expected {positions} labels for {list(bottoms[0])}, bottom '{self.params.bottoms[1]}' has the shape "
            f"{list(bottoms[1])}",
        )
        classes = bottoms[0][axis]
        self.require(self.top_k <= classes, f"accuracy_param.top_k is {self.top_k}, expected at most {classes} classes")
        return [(), (classes,)][: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Correct ones among those whose label is not ignored; 0 if there are none."""
        axis = self.section.axis("axis", scores.dim())
        classes = scores.shape[axis]
        label = label.reshape(*scores.shape[:axis], 1, *scores.shape[axis + 1 :])
        label, valid = read_labels(self, label, classes, self.ignore)
        better = (scores >= scores.gather(axis, label)).sum(axis, keepdim=True) - 1
        correct = (better < self.top_k).to(scores).flatten()
        counted = torch.ones_like(correct) if valid is None else valid.to(scores).flatten()
        correct = correct * counted
        tops = (correct.sum() / counted.sum().clamp(min=1),)
        if len(self.params.tops) == 1:
            return tops
        zeros = scores.new_zeros(classes)
        hits, seen = (zeros.scatter_add(0, label.flatten(), values) for values in (correct, counted))
        return (*tops, hits / seen.clamp(min=1))
