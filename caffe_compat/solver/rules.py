"""The six update rules.

Source: BVLC Caffe 1.0, ``solvers/*.cpp``.  A rule turns the processed gradient into the step that is subtracted, in
place.  Histories hold Caffe's quantities: SGD's has the learning rate folded in, so that after a drop of the rate
the old velocity persists; ``torch.optim`` rescales it at once and diverges from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.errors import SolverError, nearest
from caffe_compat.solver.gradients import alike
from caffe_compat.solver.solver import Solver

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "SOLVERS",
    "solver_class",
]


class SGDSolver(Solver):
    """h <- momentum h + rate g; step = h."""

    type_name = "SGD"
    folded: ClassVar[bool] = True

    def compute_updates(self, which: Sequence[int], gradients: list[Tensor], rates: Sequence[float]) -> None:
        """Turn the gradients into the steps."""
        history = [self.history[index] for index in which]
        torch._foreach_mul_(history, self.param.momentum)
        for rate, places in alike(rates):
            torch._foreach_add_(
                [history[place] for place in places], [gradients[place] for place in places], alpha=rate
            )
        torch._foreach_copy_(gradients, history)


class NesterovSolver(Solver):
    """h_old = h; h <- momentum h + rate g; step = (1 + momentum) h - momentum h_old."""

    type_name = "Nesterov"
    folded: ClassVar[bool] = True

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the gradient into the step."""
        momentum, history = self.param.momentum, self.history[index]
        previous = history.clone()
        history.mul_(momentum).add_(gradient, alpha=rate)
        gradient.copy_(previous.mul_(-momentum).add_(history, alpha=1 + momentum))


class AdaGradSolver(Solver):
    """h <- h + g^2; step = rate g / (sqrt(h) + delta)."""

    type_name = "AdaGrad"

    def check(self) -> None:
        """Momentum must be 0."""
        if self.param.momentum:
            raise SolverError(f"momentum is {self.param.momentum:g}, expected 0: AdaGrad cannot use momentum")

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the gradient into the step."""
        history = self.history[index]
        history.addcmul_(gradient, gradient)
        gradient.div_(history.sqrt().add_(self.param.delta)).mul_(rate)


class RMSPropSolver(Solver):
    """h <- d h + (1 - d) g^2; step = rate g / (sqrt(h) + delta), d = rms_decay."""

    type_name = "RMSProp"

    def check(self) -> None:
        """Momentum must be 0 and rms_decay in [0, 1)."""
        if self.param.momentum:
            raise SolverError(f"momentum is {self.param.momentum:g}, expected 0: RMSProp cannot use momentum")
        if not 0 <= self.param.rms_decay < 1:
            raise SolverError(f"rms_decay is {self.param.rms_decay:g}, expected at least 0 and less than 1")

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the gradient into the step."""
        decay, history = self.param.rms_decay, self.history[index]
        history.mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
        gradient.div_(history.sqrt().add_(self.param.delta)).mul_(rate)


class AdaDeltaSolver(Solver):
    """h1 <- m h1 + (1 - m) g^2; u = g sqrt((h2 + delta) / (h1 + delta)); h2 <- m h2 + (1 - m) u^2; step = rate u."""

    type_name = "AdaDelta"
    histories: ClassVar[int] = 2

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the gradient into the step."""
        momentum, delta = self.param.momentum, self.param.delta
        squares, updates = self.history[index], self.history[index + len(self.learnables)]
        squares.mul_(momentum).addcmul_(gradient, gradient, value=1 - momentum)
        gradient.mul_(((updates + delta) / (squares + delta)).sqrt_())
        updates.mul_(momentum).addcmul_(gradient, gradient, value=1 - momentum)
        gradient.mul_(rate)


class AdamSolver(Solver):
    """m and v as usual, delta added to the *uncorrected* sqrt(v): step = rate c m / (sqrt(v) + delta)."""

    type_name = "Adam"
    histories: ClassVar[int] = 2

    def check(self) -> None:
        """momentum must be in [0, 1) and momentum2 in [0, 1]; Caffe computes NaN with anything else."""
        if not 0 <= self.param.momentum < 1:
            raise SolverError(f"momentum is {self.param.momentum:g}, Adam expects at least 0 and less than 1")
        if not 0 <= self.param.momentum2 <= 1:
            raise SolverError(f"momentum2 is {self.param.momentum2:g}, Adam expects 0 to 1")

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the gradient into the step."""
        beta1, beta2, t = self.param.momentum, self.param.momentum2, self.iter + 1
        mean, square = self.history[index], self.history[index + len(self.learnables)]
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
        gradient.copy_(mean).div_(square.sqrt().add_(self.param.delta)).mul_(rate * correction)


SOLVERS: dict[str, type[Solver]] = {
    cls.type_name: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def solver_class(param: Any) -> type[Solver]:
    """The class for the ``type`` field of a SolverParameter.

    Raises:
        SolverError: unknown type; names the nearest known one.
    """
    if param.type not in SOLVERS:
        raise SolverError(
            f"unknown solver type '{param.type}', expected one of {', '.join(SOLVERS)}{nearest(param.type, SOLVERS)}"
        )
    return SOLVERS[param.type]
