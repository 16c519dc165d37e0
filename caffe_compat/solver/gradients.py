"""What every rule does to gradients before it computes its steps.

Source: BVLC Caffe 1.0, ``SGDSolver::ClipGradients`` and ``Regularize``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat import log

__all__ = ["clip", "regularize"]


def clip(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale all gradients so that their common L2 norm is at most ``limit``; a negative limit does nothing.

    Caffe does this before it divides by ``iter_size`` and before weight decay.
    """
    if limit < 0 or not gradients:
        return
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    if norm > limit:
        factor = limit / norm
        log.info(
            f"Gradient clipping: scaling down gradients (L2 norm {log.number(norm)} > {log.number(limit)}) "
            f"by scale factor {log.number(factor)}",
            "sgd_solver.cpp:92",
        )
        for gradient in gradients:
            gradient.mul_(factor)


def regularize(gradient: Tensor, parameter: Tensor, decay: float, kind: str) -> None:
    """Add the gradient of weight decay: of ``kind`` L2 ``decay * parameter``, of L1 ``decay * sign(parameter)``."""
    if decay:
        gradient.add_(parameter if kind == "L2" else parameter.sign(), alpha=decay)
