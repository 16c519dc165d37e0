"""FlowNet2's L1Loss.  Source: lmb-freiburg/flownet2, ``l1loss_layer.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import LossLayer, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread

__all__ = ["FlowNetL1Loss"]


class _Distance(torch.autograd.Function):
    """(x + epsilon) ** 0.5 with the gradient of Caffe's Power: NaN where both are 0."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor) -> Tensor:
        top = inner.sqrt()
        ctx.save_for_backward(inner, top)
        return top

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> Tensor:
        inner, top = ctx.saved_tensors
        diff: Tensor = seeds[0] * (0.5 * top / inner)
        return diff


class _Absolute(torch.autograd.Function):
    """|x| whose gradient is -1 where x is 0, as the fork's sign is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return seeds[0] * torch.where(x > 0, 1.0, -1.0).to(x)


def _means_flownet(params: Params) -> bool:
    speaks = params.description.dialect.name == "flownet"
    return speaks or params.has_section("l1_loss_param") or len(params.bottoms) == 1


@register(when=_means_flownet, dialect="flownet")
class FlowNetL1Loss(LossLayer):
    """Sum over N of |a - b|, or of the distances of each place, where the difference is not NaN.

    ``l2_per_location``: square root of the sum of squares over the channels (their mean with
    ``l2_prescale_by_channels``) plus ``epsilon``; places that are NaN count sqrt(epsilon).  Differences below
    ``plateau`` count as 0 and pass no gradient.  ``normalize_by_num_entries``: over the number of differences that are
    not NaN, by the number of channels, instead of N; infinite or NaN if there are none.  A single bottom is the
    difference itself.  Where a and b are equal the gradient of a is - 1 / N, as in the fork, unless
    ``l2_per_location``.
    """

    caffe_type = "L1Loss"
    bottom_count = (1, 2)
    unforced = ()

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("l1_loss_param")
        self.by_place, self.prescaled = bool(section.l2_per_location), bool(section.l2_prescale_by_channels)
        self.by_entries = bool(section.normalize_by_num_entries)
        self.epsilon, self.plateau = float(section.epsilon), float(section.plateau)
        if not self.epsilon >= 0:
            raise self.error(f"l1_loss_param.epsilon is {self.epsilon:g}, expected 0 or more")

    def backward_reads(self) -> Reads:
        """Nothing: the difference is kept; a single bottom is the difference, of which signs are kept."""
        return Reads((0,)) if len(self.params.bottoms) == 1 and self.by_place else Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """With what the buffer of the single bottom holds."""
        return self(*memory.bottoms)  # type: ignore[no-any-return]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; bottoms of one shape."""
        shapes = [tuple(bottom) for bottom in bottoms]
        self.require(
            len(shapes[0]) == 4 and len(set(shapes)) == 1,
            f"bottoms have the shapes {[list(shape) for shape in shapes]}, expected equal ones of 4 axes",
        )
        return [()]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One sum."""
        difference = bottoms[0] - bottoms[1] if len(bottoms) > 1 else bottoms[0]
        known = ~difference.isnan()
        number: float | Tensor = known.sum() / difference.shape[1] if self.by_entries else len(difference)
        if not self.by_place:
            known = known & ~(difference.abs() < self.plateau) if self.plateau > 0 else known
            values = _Absolute.apply(torch.where(known, difference, 0))
        else:
            squares = torch.where(known, difference, 0).square()
            sums = squares.mean(1) if self.prescaled else squares.sum(1)
            if self.plateau > 0:
                sums = torch.where(sums < self.plateau**2, 0, sums)
            values = _Distance.apply(sums + self.epsilon)
        total: Tensor = values.sum() / number
        return total
