"""Windows that slide over any number of axes, where torch has no convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import count
from caffe_compat.layers.params import ConvWindow

__all__ = ["correlate", "correlate_adjoint", "every", "first", "patches"]


def patches(x: Tensor, window: ConvWindow, extra: Sequence[int] | None = None) -> Tensor:
    """All windows of ``x`` (zeros outside), a view where there is no padding.

    Args:
        x: Tensor[batch, channels, spatial...].
        extra: zeros past the end padding, per spatial axis.

    Returns:
        Tensor[batch, channels, positions..., kernel...]
    """
    extra = extra or (0,) * len(window.pad)
    if any(window.pad) or any(extra):
        ends = [(p, p + e) for p, e in zip(window.pad, extra, strict=True)]
        x = F.pad(x, [n for pair in reversed(ends) for n in pair])
    for axis, (extent, stride) in enumerate(zip(window.extent, window.stride, strict=True), 2):
        x = x.unfold(axis, extent, stride)
    return x[every(window.dilation)]


def correlate(x: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, group: int) -> Tensor:
    """Convolution over any number of spatial axes."""
    n = len(window.kernel)
    found = patches(x, window)
    outs = found.shape[2 : 2 + n]
    columns = found.permute(0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))
    columns = columns.reshape(x.shape[0], count(outs), group, -1)
    rows = weight.reshape(group, weight.shape[0] // group, -1)
    top = torch.einsum("npgk,gok->ngop", columns, rows).reshape(x.shape[0], weight.shape[0], *outs)
    return top if bias is None else top + bias.view(-1, *[1] * n)


def correlate_adjoint(x: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, group: int) -> Tensor:
    """Transposed convolution over any number of spatial axes: a convolution of the spread-out input."""
    n = len(window.kernel)
    spread = x.new_zeros(*x.shape[:2], *(s * (m - 1) + 1 for s, m in zip(window.stride, x.shape[2:], strict=True)))
    spread[every(window.stride)] = x
    ends = [e - 1 - p for e, p in zip(window.extent, window.pad, strict=True)]
    spread = F.pad(spread, [m for end in reversed(ends) for m in (end, end)])
    outputs = weight.shape[1]
    turned = weight.flip(*range(2, 2 + n)).reshape(group, -1, *weight.shape[1:]).transpose(1, 2)
    turned = turned.reshape(group * outputs, -1, *window.kernel)
    plain = ConvWindow(window.kernel, (1,) * n, (0,) * n, window.dilation)
    return correlate(spread, turned, bias, plain, group)


def every(steps: Sequence[int]) -> tuple[Any, ...]:
    """Index of every so many positions on each spatial axis."""
    return (..., *(slice(None, None, step) for step in steps))


def first(top: Tensor, outs: Sequence[int]) -> Tensor:
    """The first ``outs`` positions; torch makes one where Caffe makes none."""
    if tuple(top.shape[2:]) == tuple(outs):
        return top
    index: tuple[Any, ...] = (..., *(slice(0, n) for n in outs))
    return top[index]
