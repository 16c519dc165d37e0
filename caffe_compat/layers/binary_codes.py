"""The two losses of binary codes: far from 1/2, and 1/2 on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape, count
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.registry import register

__all__ = ["K1EuclideanLoss", "K2EuclideanLoss"]


class _HalfDistance(torch.autograd.Function):
    """sign sum((a - 1/2)^2) / (2 count); both bottoms get the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, sign: int) -> Tensor:
        difference = a - 0.5
        ctx.save_for_backward(difference)
        ctx.sign, ctx.shape, ctx.numbers = sign, b.shape, b.numel()
        return difference.square().sum() * sign / (2 * max(a.numel(), 1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (difference,) = ctx.saved_tensors
        gradient = difference * (seed * ctx.sign / max(ctx.numbers, 1))
        return gradient, gradient.reshape(ctx.shape) if ctx.needs_input_grad[1] else None, None


@register(dialect="kevinlin311tw/Caffe-DeepBinaryCode")
class K1EuclideanLoss(LossLayer):
    """- sum((a - 1/2)^2) / (2 count) of the first bottom: least where all its numbers are far from 1/2.

    The second bottom, of as many numbers, is not read, but gets the gradient of the first where gradients go.
    Source: ``K1_euclidean_loss_layer.cpp`` of kevinlin311tw/Caffe-DeepBinaryCode.
    """

    caffe_type = "K1_EuclideanLoss"
    sign: ClassVar[int] = -1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        tops = super().top_shapes(bottoms)
        legacy_rank(self, bottoms)
        self.require(
            count(bottoms[0]) == count(bottoms[1]),
            f"bottoms have the shapes {list(bottoms[0])} and {list(bottoms[1])}, expected as many numbers",
        )
        return tops

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """One sum."""
        loss: Tensor = _HalfDistance.apply(first, second, self.sign)  # type: ignore[no-untyped-call]
        return loss


@register(dialect="kevinlin311tw/Caffe-DeepBinaryCode")
class K2EuclideanLoss(K1EuclideanLoss):
    """sum((a - 1/2)^2) / (2 count), as :class:`K1EuclideanLoss`; of means of codes, least where these are 1/2."""

    caffe_type = "K2_EuclideanLoss"
    sign = 1
