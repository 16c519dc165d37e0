"""The six update rules.

Source: BVLC Caffe 1.0, ``solvers/*.cpp``.  A rule turns the processed gradients of some parameters into the steps that
are subtracted, in place, all of them in one go.  Histories hold Caffe's quantities: SGD's has the learning rate folded
in, so that after a drop of the rate the old velocity persists; ``torch.optim`` rescales it at once and diverges from
there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.errors import SolverError, nearest
from caffe_compat.solver.gradients import alike
from caffe_compat.solver.policies import momentum
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

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        (history,) = histories
        _carry(history, gradients, momentum(self.param, self.iter), rates)
        torch._foreach_copy_(gradients, history)


class NesterovSolver(Solver):
    """h_old = h; h <- momentum h + rate g; step = (1 + momentum) h - momentum h_old."""

    type_name = "Nesterov"
    folded: ClassVar[bool] = True

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        (history,), momentum = histories, self.param.momentum
        before = torch._foreach_mul(history, -momentum)
        _carry(history, gradients, momentum, rates)
        torch._foreach_add_(before, history, alpha=1 + momentum)
        torch._foreach_copy_(gradients, before)


class AdaGradSolver(Solver):
    """h <- h + g^2; step = rate g / (sqrt(h) + delta)."""

    type_name = "AdaGrad"

    def check(self) -> None:
        """Momentum must be 0."""
        if self.param.momentum:
            raise SolverError(f"momentum is {self.param.momentum:g}, expected 0: AdaGrad cannot use momentum")

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        (squares,) = histories
        torch._foreach_addcmul_(squares, gradients, gradients)
        _divide_by_root(gradients, squares, self.param.delta, rates)


class RMSPropSolver(Solver):
    """h <- d h + (1 - d) g^2; step = rate g / (sqrt(h) + delta), d = rms_decay."""

    type_name = "RMSProp"

    def check(self) -> None:
        """Momentum must be 0 and rms_decay in [0, 1)."""
        if self.param.momentum:
            raise SolverError(f"momentum is {self.param.momentum:g}, expected 0: RMSProp cannot use momentum")
        if not 0 <= self.param.rms_decay < 1:
            raise SolverError(f"rms_decay is {self.param.rms_decay:g}, expected at least 0 and less than 1")

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        (squares,) = histories
        _gather_squares(squares, gradients, self.param.rms_decay)
        _divide_by_root(gradients, squares, self.param.delta, rates)


class AdaDeltaSolver(Solver):
    """h1 <- m h1 + (1 - m) g^2; u = g sqrt((h2 + delta) / (h1 + delta)); h2 <- m h2 + (1 - m) u^2; step = rate u."""

    type_name = "AdaDelta"
    histories: ClassVar[int] = 2

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        (squares, updates), momentum, delta = histories, self.param.momentum, self.param.delta
        _gather_squares(squares, gradients, momentum)
        ratios = torch._foreach_add(updates, delta)
        torch._foreach_div_(ratios, torch._foreach_add(squares, delta))
        torch._foreach_sqrt_(ratios)
        torch._foreach_mul_(gradients, ratios)
        _gather_squares(updates, gradients, momentum)
        torch._foreach_mul_(gradients, list(rates))


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

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the gradients into the steps."""
        beta1, beta2, t = self.param.momentum, self.param.momentum2, self.iter + 1
        means, squares = histories
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        _gather_squares(squares, gradients, beta2)
        correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
        torch._foreach_copy_(gradients, means)
        _divide_by_root(gradients, squares, self.param.delta, [rate * correction for rate in rates])


def _carry(history: list[Tensor], gradients: list[Tensor], momentum: float, rates: Sequence[float]) -> None:
    """h <- momentum h + rate g."""
    torch._foreach_mul_(history, momentum)
    for rate, places in alike(rates):
        torch._foreach_add_([history[place] for place in places], [gradients[place] for place in places], alpha=rate)


def _gather_squares(squares: list[Tensor], values: list[Tensor], keep: float) -> None:
    """h <- keep h + (1 - keep) x^2."""
    torch._foreach_mul_(squares, keep)
    torch._foreach_addcmul_(squares, values, values, value=1 - keep)


def _divide_by_root(values: list[Tensor], squares: list[Tensor], delta: float, rates: Sequence[float]) -> None:
    """x <- rate x / (sqrt(h) + delta)."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_div_(values, roots)
    torch._foreach_mul_(values, list(rates))


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
