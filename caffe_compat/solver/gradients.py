"""What every rule does to gradients before it computes its steps.

Source: BVLC Caffe 1.0, ``SGDSolver::ClipGradients`` and ``Regularize``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.solver.later import Later, runs_ahead

__all__ = ["Clipping", "alike", "clip", "normalize", "regularize"]


_LEAST = 1e-30
"""Divisor in place of a norm of 0."""


def clip(gradients: list[Tensor], limit: float) -> None:
    """Scale all gradients so that their common L2 norm is at most ``limit``; a negative limit does nothing.

    Caffe does this before it divides by ``iter_size`` and before weight decay.
    """
    if limit < 0 or not gradients:
        return
    norm = float(torch.stack(torch._foreach_norm(gradients)).norm())
    if norm > limit:
        _tell(norm, limit)
        torch._foreach_mul_(gradients, limit / norm)


def _tell(norm: float, limit: float) -> None:
    """Log that gradients are scaled down, if they are."""
    if norm > limit:
        log.info(
            f"Gradient clipping: scaling down gradients (L2 norm {log.number(norm)} > {log.number(limit)}) "
            f"by scale factor {log.number(limit / norm)}",
            "sgd_solver.cpp:92",
        )


class Clipping:
    """Clips the gradients of a training; on a GPU without waiting for their norm, which is told of later.

    Attributes:
        norms: on a GPU the L2 norm of each gradient at the last update, before clipping, [N]; None before the first,
            and where nobody asked.
    """

    def __init__(self) -> None:
        self.norms: Tensor | None = None
        self._told: deque[tuple[Later, float]] = deque()

    def apply(self, gradients: list[Tensor], limit: float, keep: bool) -> None:
        """Clip as :func:`clip` does.

        Args:
            keep: whether ``norms`` are wanted where nothing is clipped, too.
        """
        if not gradients or not runs_ahead(gradients[0].device):
            clip(gradients, limit)
            return
        if limit < 0 and not keep:
            return
        self.norms = torch.stack(torch._foreach_norm(gradients))
        if limit >= 0:
            common = self.norms.norm()
            factor = limit / common.clamp(min=max(limit, _LEAST))
            torch._foreach_mul_(gradients, factor.nan_to_num(nan=1.0))  # as a comparison with NaN decides in clip()
            self._told.append((Later(common), limit))

    def tell(self, wait: bool) -> None:
        """Log updates that were clipped and were not told yet: those whose norms have arrived, or with ``wait`` all."""
        while self._told and (wait or self._told[0][0].arrived):
            later, limit = self._told.popleft()
            _tell(later.get()[0], limit)


def normalize(gradients: list[Tensor], size: int) -> None:
    """Divide by ``iter_size``."""
    if size != 1:
        torch._foreach_mul_(gradients, 1.0 / size)


def regularize(gradients: list[Tensor], parameters: list[Tensor], multipliers: Sequence[float], param: Any) -> None:
    """Add the gradients of weight decay: of L2 ``decay * parameter``, of L1 ``decay * sign(parameter)``.

    Args:
        multipliers: the ``decay_mult`` of each.
        param: the ``SolverParameter``.
    """
    for decay, indices in alike([param.weight_decay * multiplier for multiplier in multipliers]):
        if decay:
            which = [parameters[index] for index in indices]
            terms = which if param.regularization_type == "L2" else [parameter.sign() for parameter in which]
            torch._foreach_add_([gradients[index] for index in indices], terms, alpha=decay)


def alike(values: Sequence[float]) -> Iterator[tuple[float, list[int]]]:
    """Every value with the indices where it stands: a GPU takes the tensors that are treated alike in one go."""
    order = sorted(range(len(values)), key=values.__getitem__)
    for value, indices in groupby(order, key=values.__getitem__):
        yield value, list(indices)
