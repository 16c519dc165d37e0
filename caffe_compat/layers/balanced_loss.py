"""SigmoidCrossEntropyBalanceLoss, of nets that find contours and single objects (OSVOS).

Source: ``caffe-osvos/src/caffe/layers/sigmoid_cross_entropy_balance_loss_layer.cpp`` of kmaninis/OSVOS-caffe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import marks

__all__ = ["SigmoidCrossEntropyBalanceLoss"]


class _Balanced(torch.autograd.Function):
    """Sum of the weighted losses; entries without a weight have no loss, but a gradient of weight 1."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor, weight: Tensor, counted: Tensor) -> Tensor:
        ctx.save_for_backward((scores.sigmoid() - target) * torch.where(counted, weight, torch.ones_like(weight)))
        losses = F.binary_cross_entropy_with_logits(scores, target, reduction="none") * weight
        return losses.masked_fill(~counted, 0).sum() / len(scores)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:
        (diff,) = ctx.saved_tensors
        return diff * (seed / len(diff)), None, None, None


@register
class SigmoidCrossEntropyBalanceLoss(LossLayer):
    """Cross entropy of sigmoids with targets 0 and 1, where both weigh the same in each image.

    A target of 1 weighs as the part of the image's targets that are 0, and the other way round; the sum over all
    images is divided by their number.  Other targets have no loss and do not count, but their scores get the gradient
    (sigmoid - target) / N all the same, as in the fork.  An image without a 0 or 1, for which the fork's loss is NaN,
    is an error.
    """

    caffe_type = "SigmoidCrossEntropyBalanceLoss"
    answer = "Sigmoid"
    no_gradient = (1,)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Zeros and ones."""
        return marks(shapes[1], random) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; equal counts."""
        tops = super().top_shapes(bottoms)
        self.require(
            count(bottoms[0]) == count(bottoms[1]),
            f"inputs must have the same count: bottoms are {list(bottoms[0])} and {list(bottoms[1])}",
        )
        return tops

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """One pass over all images."""
        flat = scores.flatten(1) if scores.dim() > 1 else scores[:, None]
        wanted = target.detach().to(scores.dtype).reshape(flat.shape)
        positive, negative = (wanted == value for value in (1, 0))
        ones, zeros = (which.sum(1, keepdim=True).to(flat.dtype) for which in (positive, negative))
        total = ones + zeros
        if can_look(total) and bool((total == 0).any()):
            raise self.error(
                f"bottom '{self.params.bottoms[1]}' has no target that is 0 or 1 in image "
                f"{int((total == 0).flatten().int().argmax())}, expected some in each"
            )
        weight = torch.where(positive, zeros, ones) / total
        loss: Tensor = _Balanced.apply(flat, wanted, weight, positive | negative)  # type: ignore[no-untyped-call]
        return loss
