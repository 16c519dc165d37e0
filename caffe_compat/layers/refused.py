"""Values without a gradient: where Caffe's own is made of overwritten numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import NetError

__all__ = ["NO_GRADIENT", "Refused"]

NO_GRADIENT = "no gradient in place, expected a top of another name"


class Refused(torch.autograd.Function):
    """A value computed from ``x`` without a graph, whose gradient is an error: Caffe's is meaningless there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, error: NetError) -> Tensor:
        ctx.error = error
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        raise ctx.error
