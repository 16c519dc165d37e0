"""FlowNet2's L1Loss and LpqLoss.  Source: lmb-freiburg/flownet2, ``l1loss_layer.cu`` and ``lpq_loss_layer.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.arithmetic import PowerFunction
from caffe_compat.layers.base import LossLayer, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread

__all__ = ["FlowNetL1Loss", "LpqLoss"]


def _powered(inner: Tensor, power: float) -> Tensor:
    if power in (1, 2):
        return inner if power == 1 else inner.square()
    top: Tensor = PowerFunction.apply(inner, power)
    return top


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


class _DifferenceLoss(LossLayer):
    """Of the difference of two bottoms, or of one that is the difference, where it is not NaN."""

    bottom_count = (1, 2)
    unforced = ()
    by_entries: bool

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; bottoms of one shape."""
        shapes = [tuple(bottom) for bottom in bottoms]
        self.require(
            len(shapes[0]) == 4 and len(set(shapes)) == 1,
            f"bottoms have the shapes {[list(shape) for shape in shapes]}, expected equal ones of 4 axes",
        )
        return [()]

    def difference(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor, float | Tensor]:
        """The difference, where it is known, and what the sum is divided by."""
        difference = bottoms[0] - bottoms[1] if len(bottoms) > 1 else bottoms[0]
        known = ~difference.isnan()
        return difference, known, known.sum() / difference.shape[1] if self.by_entries else len(difference)

    def backward_form(self, memory: Reread) -> Tensor:
        """With what the buffer of the single bottom holds."""
        return self(*memory.bottoms)  # type: ignore[no-any-return]


def _means_flownet(params: Params) -> bool:
    speaks = params.speaks("flownet")
    return speaks or params.has_section("l1_loss_param") or len(params.bottoms) == 1


@register(when=_means_flownet, dialect="flownet")
class FlowNetL1Loss(_DifferenceLoss):
    """Sum over N of |a - b|, or of the distances of each place, where the difference is not NaN.

    ``l2_per_location``: square root of the sum of squares over the channels (their mean with
    ``l2_prescale_by_channels``) plus ``epsilon``; places that are NaN count sqrt(epsilon).  Differences below
    ``plateau`` count as 0 and pass no gradient.  ``normalize_by_num_entries``: over the number of differences that are
    not NaN, by the number of channels, instead of N; infinite or NaN if there are none.  A single bottom is the
    difference itself.  Where a and b are equal the gradient of a is - 1 / N, as in the fork, unless
    ``l2_per_location``.
    """

    caffe_type = "L1Loss"

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

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One sum."""
        difference, known, number = self.difference(bottoms)
        if not self.by_place:
            known = known & ~(difference.abs() < self.plateau) if self.plateau > 0 else known
            values = _Absolute.apply(torch.where(known, difference, 0))
        else:
            squares = torch.where(known, difference, 0).square()
            sums = squares.mean(1) if self.prescaled else squares.sum(1)
            if self.plateau > 0:
                sums = torch.where(sums < self.plateau**2, 0, sums)
            values = _powered(sums + self.epsilon, 0.5)
        total: Tensor = values.sum() / number
        return total


@register(dialect="flownet")
class LpqLoss(_DifferenceLoss):
    """Sum over N of ((sum over the channels of (|a - b| + ``p_epsilon``)^p) + ``q_epsilon``)^q, of each place.

    ``l2_prescale_by_channels``: the mean over the channels.  Differences that are NaN count as 0 and pass no gradient;
    ``normalize_by_num_entries`` as in L1Loss.  Gradients are those of Caffe's Power: NaN where what is raised to a
    power other than 1 and 2 is 0; where a and b are equal the sign is -1.  ``p`` and ``q`` must be one each: those that
    change with the iteration are not supported.
    """

    caffe_type = "LpqLoss"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("lpq_loss_param")
        starts, ps, qs = ([float(v) for v in section.value(n)] for n in ("pq_episode_starts_at_iter", "p", "q"))
        if len(ps) != 1 or len(qs) != 1 or starts not in ([], [0.0]):
            raise self.error(
                f"lpq_loss_param has {len(ps)} p, {len(qs)} q and pq_episode_starts_at_iter {starts}, expected one p "
                "and one q from the start: such that change are not supported"
            )
        self.p, self.q = ps[0], qs[0]
        self.p_epsilon, self.q_epsilon = float(section.p_epsilon), float(section.q_epsilon)
        self.prescaled, self.by_entries = (
            bool(section.l2_prescale_by_channels),
            bool(section.normalize_by_num_entries),
        )
        if not (self.p > 0 and self.q > 0 and self.p_epsilon >= 0 and self.q_epsilon >= 0):
            raise self.error(
                f"lpq_loss_param has p {self.p:g}, q {self.q:g}, p_epsilon {self.p_epsilon:g} and q_epsilon "
                f"{self.q_epsilon:g}, expected positive powers and epsilons of 0 or more"
            )

    def backward_reads(self) -> Reads:
        """Nothing: the difference is kept; but a single bottom is the difference."""
        return Reads((0,)) if len(self.params.bottoms) == 1 else Reads()

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One sum."""
        difference, known, number = self.difference(bottoms)
        sizes = _Absolute.apply(torch.where(known, difference, 0))
        powers = _powered(sizes + self.p_epsilon, self.p)
        sums = powers.mean(1) if self.prescaled else powers.sum(1)
        total: Tensor = _powered(sums + self.q_epsilon, self.q).sum() / number
        return total
