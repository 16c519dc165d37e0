"""CenterLoss of face recognition: features near the centre of their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.labels import read_labels
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["CenterLoss"]


class _CenterLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, label: Tensor, centers: Tensor) -> Tensor:
        distance = x - centers[label]
        ctx.save_for_backward(distance, label)
        ctx.classes = len(centers)
        return distance.square().sum() / (2 * len(x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        distance, label = ctx.saved_tensors
        sums = distance.new_zeros(ctx.classes, distance.shape[1]).index_add_(0, label, distance)
        counts = torch.bincount(label, minlength=ctx.classes).to(sums)
        return seed / len(distance) * distance, None, -sums / (counts[:, None] + 1)


@register(dialect="face")
class CenterLoss(LossLayer):
    """Squared distances of the features from the centres of their classes, over 2 N.

    Blob: centres [num_output, K], K the count of a bottom's item from ``axis`` on.  The gradient of a centre is not the
    loss's: the sum of its differences over one more than their number, whatever the loss weight.
    Source: ``center_loss_layer.cpp`` of ydwen/caffe-face.
    """

    caffe_type = "CenterLoss"
    has_blobs = True
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("center_loss_param")
        self.axis, self.classes = section.axis("axis", len(bottoms[0])), int(section.num_output)
        if self.classes < 1:
            raise self.error(f"center_loss_param.num_output is {self.classes}, expected a positive number")
        self.values = count(bottoms[0], self.axis)
        self.add_blob((self.classes, self.values), section.filler("center_filler", Filler()))

    def backward_reads(self) -> Reads:
        """The labels."""
        return Reads((1,))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; a label and K values for each item."""
        tops = super().top_shapes(bottoms)
        features, label = bottoms
        self.require(
            count(features, 1) == self.values and count(label, 1) == 1,
            f"expected {self.values} values and a label for each item, bottoms are {list(features)} and {list(label)}",
        )
        return tops

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        """One difference for each item."""
        which, _ = read_labels(self, label.reshape(-1), self.classes, None)
        if not len(features):
            return features.sum()
        loss: Tensor = _CenterLoss.apply(features.flatten(1), which, self.blob(0))  # type: ignore[no-untyped-call]
        return loss
