"""Losses of single forks that compare their bottoms entry by entry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.losses import EuclideanLoss, L1Loss
from caffe_compat.layers.registry import register

__all__ = ["AbsLoss", "ManhattanLoss", "SigmoidCrossEntropyLossWeighted"]


@register
class AbsLoss(EuclideanLoss):
    """L1Loss, but where both are equal the gradient is the fork's: as if the first bottom were the smaller one.

    Source: ``abs_loss_layer.cpp`` of Ravi-Garg/Unsupervised_Depth_Estimation.
    """

    caffe_type = "AbsLoss"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """One mean of sums."""
        difference = a - b.reshape(a.shape)
        return torch.where(difference > 0, difference, -difference).sum() / a.shape[0]


@register
class ManhattanLoss(L1Loss):
    """L1Loss under another name, as in the GPU code; the CPU code divides the gradient by |difference| + 0.001.

    Source: ``manhattan_loss_layer.cu`` of qxcv/caffe.
    """

    caffe_type = "ManhattanLoss"


@register
class SigmoidCrossEntropyLossWeighted(LossLayer):
    """Cross entropy of sigmoids with targets, each with a weight of its own (bottom 2), over the batch size.

    An entry of weight 0 is not looked at.  Source: ``sigmoid_cross_entropy_loss_weighted_layer.cpp`` of
    gidariss/caffe_LocNet.
    """

    caffe_type = "SigmoidCrossEntropyLossWeighted"
    answer = "Sigmoid"
    bottom_count = (3, 3)
    no_gradient = (1, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; equal counts."""
        tops = super().top_shapes(bottoms)
        self.require(
            len({count(bottom) for bottom in bottoms}) == 1,
            f"inputs must have the same count: bottoms are {', '.join(str(list(bottom)) for bottom in bottoms)}",
        )
        return tops

    def forward(self, scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """A weighted sum, divided by the number of items."""
        target, weight = target.detach().reshape(scores.shape), weight.detach().reshape(scores.shape)
        losses = F.binary_cross_entropy_with_logits(scores, target, weight, reduction="none")
        return losses.masked_fill(weight == 0, 0).sum() / scores.shape[0]
