"""Learning-rate policies.

Source: BVLC Caffe 1.0, ``SGDSolver::GetLearningRate``.  ``iter`` counts completed updates.
"""

from __future__ import annotations

import math
from typing import Any

from caffe_compat import log
from caffe_compat.errors import SolverError, nearest

__all__ = ["POLICIES", "check_policy", "learning_rate"]

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")


def check_policy(param: Any) -> None:
    """Refuse a policy that Caffe refuses at its first iteration.

    Raises:
        SolverError: unknown policy, negative gamma or missing stepsize.
    """
    policy = param.lr_policy
    if policy not in POLICIES:
        raise SolverError(
            f"unknown lr_policy '{policy}', expected one of {', '.join(POLICIES)}{nearest(policy, POLICIES)}"
        )
    if policy in ("step", "exp", "inv", "multistep", "sigmoid") and param.gamma < 0:
        raise SolverError(f"gamma is {param.gamma:g}, lr_policy '{policy}' expects 0 or more")
    if policy in ("step", "sigmoid") and param.stepsize <= 0:
        raise SolverError(f"stepsize is {param.stepsize}, lr_policy '{policy}' expects a positive number")


def learning_rate(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate for the update after ``iteration`` updates, and the new step count.

    ``multistep`` advances at most one step per call, as Caffe does; asking twice may therefore change the state.
    """
    policy, base, gamma = param.lr_policy, param.base_lr, param.gamma
    if policy == "fixed":
        return base, current_step
    if policy == "step":
        current_step = iteration // param.stepsize
        return base * _power(gamma, current_step), current_step
    if policy == "exp":
        return base * _power(gamma, iteration), current_step
    if policy == "inv":
        return base * _power(1 + gamma * iteration, -param.power), current_step
    if policy == "multistep":
        steps = param.stepvalue
        if current_step < len(steps) and iteration >= steps[current_step]:
            current_step += 1
            log.info(f"MultiStep Status: Iteration {iteration}, step = {current_step}", "sgd_solver.cpp:46")
        return base * _power(gamma, current_step), current_step
    if policy == "poly":
        share = 1 - iteration / param.max_iter if param.max_iter else math.nan
        return base * _power(share, param.power), current_step
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
