"""Learning-rate policies.

Source: BVLC Caffe 1.0, ``SGDSolver::GetLearningRate``; plateau: weiliu89/caffe, branch ssd; multifixed, and the
warm-up of ``warmup_iter`` and ``warmup_start_lr``: intel/caffe; ``rampup_interval``, ``rampup_lr`` and ``min_lr``:
NVIDIA/caffe.  ``iter`` counts completed updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_compat import log
from caffe_compat.errors import SolverError, nearest

__all__ = ["POLICIES", "Plateau", "check_policy", "learning_rate", "momentum"]

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid", "plateau", "multifixed")
_FLT_MAX = float(np.finfo(np.float32).max)


def check_policy(param: Any) -> None:
    """Refuse a policy that Caffe refuses at its first iteration.

    Raises:
        SolverError: unknown policy, negative gamma, missing stepsize or stages, or a warm-up that starts at no rate.
    """
    policy = param.lr_policy
    if policy not in POLICIES:
        raise SolverError(
            f"unknown lr_policy '{policy}', expected one of {', '.join(POLICIES)}{nearest(policy, POLICIES)}"
        )
    if policy in ("step", "exp", "inv", "multistep", "sigmoid", "plateau") and param.gamma < 0:
        raise SolverError(f"gamma is {param.gamma:g}, lr_policy '{policy}' expects 0 or more")
    if policy in ("step", "sigmoid") and param.stepsize <= 0:
        raise SolverError(f"stepsize is {param.stepsize}, lr_policy '{policy}' expects a positive number")
    if policy == "multifixed" and not 0 < len(param.stageiter) == len(param.stagelr):
        raise SolverError(
            f"lr_policy 'multifixed' has {len(param.stagelr)} stagelr and {len(param.stageiter)} stageiter, expected "
            "as many of each, one or more"
        )
    if param.min_lr < 0 or (policy == "poly" and param.min_lr > param.base_lr):
        raise SolverError(f"min_lr is {param.min_lr:g}, expected 0 or more, and with lr_policy 'poly' at most base_lr")
    if param.warmup_iter > 0 and not param.warmup_start_lr > 0:
        raise SolverError(
            f"warmup_start_lr is {param.warmup_start_lr:g}, expected more than 0: the momentum of a warm-up is divided "
            "by the rate before"
        )


@dataclass
class Plateau:
    """What the plateau policy remembers.

    Attributes:
        minimum_loss: the least smoothed loss so far, as float32, which snapshots hold.
        last_event: when it fell last, or the rate did.
    """

    minimum_loss: float = _FLT_MAX
    last_event: int = 0

    def step(self, param: Any, iteration: int, current_step: int, loss: float) -> int:
        """The step count for the update after ``iteration`` updates: one more if the smoothed loss has not reached a
        new minimum, and the rate has not fallen, for ``plateau_winsize`` of this step iterations.

        Args:
            loss: smoothed, of this iteration.
        """
        loss = float(np.float32(loss))
        if loss < self.minimum_loss:
            self.minimum_loss, self.last_event = loss, iteration
        windows = param.plateau_winsize
        if current_step < len(windows) and iteration >= self.last_event + windows[current_step]:
            current_step, self.last_event = current_step + 1, iteration
            log.info(f"Plateau Status: Iteration {iteration}, step = {current_step}", "sgd_solver.cpp:76")
        if param.display and iteration % param.display == 0 and self.last_event > iteration - param.display:
            told = f"current minimum_loss = {log.number(self.minimum_loss)}"
            log.info(f"Plateau Status: Iteration {iteration}, {told}", "sgd_solver.cpp:83")
        return current_step


def momentum(param: Any, iteration: int) -> float:
    """SGD's momentum for the update after ``iteration`` updates: in a warm-up times the rise of the rate."""
    if iteration >= param.warmup_iter:
        return float(param.momentum)
    return float(param.momentum) * _warm_up(param, iteration) / _warm_up(param, max(iteration - 1, 0))


def _warm_up(param: Any, iteration: int) -> float:
    """From ``warmup_start_lr`` to ``base_lr`` in ``warmup_iter`` iterations, on a line."""
    there, still = iteration / param.warmup_iter, 1 - iteration / param.warmup_iter
    return float(param.base_lr * there + param.warmup_start_lr * still)


def learning_rate(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate for the update after ``iteration`` updates, and the new step count.

    ``multistep`` advances at most one step per call, as Caffe does; asking twice may therefore change the state.  The
    steps of ``plateau`` are those of :class:`Plateau`.
    """
    base = param.base_lr
    if iteration < param.warmup_iter:
        return _warm_up(param, iteration), current_step
    if iteration < param.rampup_interval:
        risen = (iteration / param.rampup_interval) ** 2
        return max(param.rampup_lr + (base - param.rampup_lr) * risen, param.min_lr), current_step
    rate, current_step = _planned(param, iteration, current_step)
    return (max(rate, param.min_lr) if param.min_lr > 0 else rate), current_step


def _planned(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    """What the policy says, without the forks' rises and least rate."""
    policy, base, gamma = param.lr_policy, param.base_lr, param.gamma
    if policy == "multifixed":
        stage = next((at for at, last in enumerate(param.stageiter) if iteration <= last), len(param.stageiter) - 1)
        return param.stagelr[stage], current_step
    if policy == "fixed":
        return base, current_step
    if policy == "step":
        current_step = iteration // param.stepsize
        return base * _power(gamma, current_step), current_step
    if policy == "exp":
        return base * _power(gamma, iteration), current_step
    if policy == "inv":
        return base * _power(1 + gamma * iteration, -param.power), current_step
    if policy == "plateau":
        return base * _power(gamma, current_step), current_step
    if policy == "multistep":
        steps = param.stepvalue
        if current_step < len(steps) and iteration >= steps[current_step]:
            current_step += 1
            log.info(f"MultiStep Status: Iteration {iteration}, step = {current_step}", "sgd_solver.cpp:46")
        return base * _power(gamma, current_step), current_step
    if policy == "poly":
        share = 1 - iteration / param.max_iter if param.max_iter else math.nan
        return (base - param.min_lr) * _power(share, param.power) + param.min_lr, current_step
    if policy == "sigmoid":
        exponent = -gamma * (iteration - param.stepsize)
        return base / (1 + math.exp(min(exponent, 700.0))), current_step
    check_policy(param)
    raise SolverError(f"lr_policy '{policy}' has no rule")


def _power(base: float, exponent: float) -> float:
    """``base`` to the ``exponent``; infinity or NaN where C's pow() gives that."""
    if base < 0 and not float(exponent).is_integer():
        return math.nan
    try:
        return math.pow(base, exponent)
    except (OverflowError, ValueError):  # too large, or 0 to a negative power
        return math.inf
