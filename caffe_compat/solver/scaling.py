"""Loss scaling for training in float16, whose smallest gradients would be 0 without it.

The loss is multiplied by a power of two before the backward pass and gradients are divided by it after: exactly, so
what neither vanishes nor overflows is as without.  Where a gradient overflows, the update changes nothing and the scale
is halved; after :data:`GROWTH_INTERVAL` updates without that it is doubled.

An update that changed nothing counts as an iteration as any other: data, learning rate and snapshots go on, and so does
Adam's count of updates.  Nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.errors import SolverError

__all__ = ["GROWTH_INTERVAL", "LossScale"]

INITIAL, LEAST = 2.0**16, 2.0**-24
GROWTH_INTERVAL = 2000
"""Updates without an overflow after which the scale is doubled."""

Rule = Callable[[list[Tensor], Sequence[list[Tensor]], Sequence[float]], None]


class LossScale:
    """The scale, and what becomes of it.

    Attributes:
        scale: Tensor[], a power of two.
        steps: updates since the last overflow or change of the scale, int32 Tensor[].
        skipped: updates that changed nothing since the last :meth:`tell`, Tensor[].
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), INITIAL, device=device)
        self.steps = torch.zeros((), dtype=torch.int32, device=device)
        self.skipped = torch.zeros((), device=device)
        self._found = torch.zeros((), device=device)

    def to(self, device: torch.device) -> None:
        """Go on on another device."""
        for values in (self.scale, self.steps, self.skipped, self._found):
            values.data = values.to(device)  # the engine holds the scale too

    def get(self) -> tuple[float, int]:
        """The scale and the updates since it was changed, for a snapshot."""
        return float(self.scale), int(self.steps)

    def set(self, scale: float, steps: int) -> None:
        """Go on from a snapshot."""
        self.scale.fill_(scale)
        self.steps.fill_(steps)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide gradients by the scale, in place, and note whether one of them is not finite.

        Gradients of several processes are summed before, so that all of them find the same.
        """
        self._found.zero_()
        if gradients:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._found, self.scale.reciprocal())

    def guarded(self, rule: Rule) -> Rule:
        """The rule, whose steps are 0 and which leaves its histories alone where :meth:`unscale` found an overflow."""

        def run(gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]) -> None:
            before = [[value.clone() for value in history] for history in histories]
            rule(gradients, histories, rates)
            overflow = self._found.bool()
            for history, old in zip(histories, before, strict=True):
                for value, was in zip(history, old, strict=True):
                    torch.where(overflow, was, value, out=value)
            for gradient in gradients:
                gradient.masked_fill_(overflow, 0.0)

        return run

    def advance(self) -> None:
        """Make the scale of the next iteration."""
        self.skipped += self._found
        torch._amp_update_scale_(self.scale, self.steps, self._found, 2.0, 0.5, GROWTH_INTERVAL)

    def tell(self, iteration: int) -> None:
        """Log how many updates changed nothing since the last time.

        Raises:
            SolverError: gradients are not finite at any scale.
        """
        skipped, scale = int(self.skipped), float(self.scale)
        self.skipped.zero_()
        if skipped:
            log.info(
                f"Gradients overflowed float16 in {skipped} update{'s' * (skipped > 1)} before iteration {iteration}, "
                f"which changed nothing; the loss scale is {scale:g}",
                "sgd_solver.cpp:102",
            )
        if scale < LEAST:
            raise SolverError(
                f"iteration {iteration}: gradients are not finite with a loss scale of {scale:g} either; a lower "
                "base_lr may help, or bf16"
            )
