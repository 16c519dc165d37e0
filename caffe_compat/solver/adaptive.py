"""LARC: for each parameter a learning rate after the lengths of its weights and of its gradient.

Source: NVIDIA/caffe, branch caffe-0.17, ``sgd_solver.cpp`` (GetLocalRate, ComputeUpdateValue).  As its GPU code, where
weight decay is added in the same kernel as the update: the gradient is that without weight decay, after clipping.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from caffe_compat.errors import SolverError
from caffe_compat.solver.updates import Part

__all__ = ["adapted", "check_larc"]

_POLICIES = ("scale", "clip")


def check_larc(param: Any) -> None:
    """Refuse what has no meaning, and ``larc_turbo``, which is not done here.

    Raises:
        SolverError: naming the field.
    """
    if not param.larc:
        return
    if param.larc_policy not in _POLICIES:
        raise SolverError(f"unknown larc_policy '{param.larc_policy}', expected {' or '.join(_POLICIES)}")
    if not param.larc_eta >= 0:
        raise SolverError(f"larc_eta is {param.larc_eta:g}, expected 0 or more")
    if param.larc_turbo:
        raise SolverError("larc_turbo is not done here, expected false")
    if param.type != "SGD":
        raise SolverError(f"larc is for SGD, the solver is {param.type}, where NVIDIA/caffe takes no notice of it")


def adapted(whole: Part, rate: float, momentum: float, param: Any) -> Part:
    """The same parameters with LARC's rates.

    A parameter whose ``lr_mult`` is above 0 has the rate r = (1 - momentum) ``larc_eta`` |w| / |g|, whatever that
    ``lr_mult`` is, or 1 where a length is 0; with the policy scale it is multiplied by the solver's ``rate``, with clip
    it is that at most.

    Args:
        whole: with ``rate`` times ``lr_mult`` as rates, and gradients of ``iter_size`` passes.
    """
    if not whole.parameters:
        return whole
    every = torch._foreach_norm([*(one.detach() for one in whole.parameters), *whole.gradients])
    lengths = torch.stack([length.float() for length in every]).tolist()
    weights, slopes = lengths[: len(whole.parameters)], lengths[len(whole.parameters) :]
    rates = []
    for weight, slope, usual in zip(weights, slopes, whole.rates, strict=True):
        if not usual > 0:
            rates.append(usual if param.larc_policy == "scale" or not usual else usual / rate)
            continue
        slope /= param.iter_size
        own = (1 - momentum) * param.larc_eta * weight / slope if weight > 0 and slope > 0 else 1.0
        rates.append(rate * own if param.larc_policy == "scale" else min(rate, own))
    return dataclasses.replace(whole, rates=rates)
