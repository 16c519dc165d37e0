"""Convolution as Caffe computes it: unfold each image, multiply matrices, add the bias.

Sums come out in Caffe's order, so roundings are nearest to Caffe's, and near ties (which of two values a pooling takes
for the maximum) send gradients the same way.  It is somewhat slower than torch's own convolution, therefore asked for
(:func:`convolve_as_caffe`), and a matter of the call, not of the process.

Source: BVLC Caffe 1.0, ``base_conv_layer.cpp``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.params import ConvWindow

__all__ = ["convolve", "convolve_as_caffe", "unfolds"]

_wanted: ContextVar[bool] = ContextVar("convolve_as_caffe", default=False)


@contextlib.contextmanager
def convolve_as_caffe(wanted: bool = True) -> Iterator[None]:
    """Let layers that this thread runs within the block convolve as Caffe does, where they run on the CPU."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def unfolds(bottom: Tensor) -> bool:
    """Whether a convolution of ``bottom`` [batch, channels, spatial...] is to be computed by :func:`convolve`."""
    if torch.compiler.is_compiling():
        return False
    return _wanted.get() and bottom.device.type == "cpu" and bottom.dim() in (3, 4) and bottom.numel() > 0


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, group: int, adjoint: Sequence[int] | None = None
) -> Tensor:
    """Convolution over one or two spatial axes.

    Args:
        x: Tensor[batch, channels, spatial...].
        weight: as of torch's convolution, or of its transposed convolution for the adjoint.
        adjoint: spatial sizes of the top, if the adjoint of the convolution is wanted.
    """
    if x.dim() == 3:
        flat = ConvWindow(*((one, *part) for one, part in zip((1, 1, 0, 1), _parts(window), strict=True)))
        sizes = None if adjoint is None else (1, *adjoint)
        return convolve(x.unsqueeze(2), weight.unsqueeze(2), bias, flat, group, sizes).squeeze(2)
    sizes = () if adjoint is None else tuple(adjoint)
    return _Unfolded.apply(x, weight, bias, window, group, sizes)  # type: ignore[no-any-return]


def _parts(window: ConvWindow) -> tuple[tuple[int, ...], ...]:
    return window.kernel, window.stride, window.pad, window.dilation


class _Unfolded(torch.autograd.Function):
    """The forward pass by matrices; the backward pass is torch's own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        window: ConvWindow,
        group: int,
        adjoint: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = None if bias is None else list(bias.shape)
        ctx.arguments = (window.stride, window.pad, window.dilation, bool(adjoint), (0, 0), group)
        top = _spread(x, weight, window, group, adjoint) if adjoint else _multiply(x, weight, window, group)
        return top if bias is None else top.add_(bias.view(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            seed, x, weight, ctx.sizes, *ctx.arguments, ctx.needs_input_grad[:3]
        )
        return (*found, None, None, None)


def _multiply(x: Tensor, weight: Tensor, window: ConvWindow, group: int) -> Tensor:
    """Weights [outputs / group, kernel] times windows [kernel, positions], for every image and group."""
    rows = weight.reshape(group, weight.shape[0] // group, -1)
    places = zip(x.shape[2:], window.pad, window.extent, window.stride, strict=True)
    outs = [(n + 2 * p - e) // s + 1 for n, p, e, s in places]
    top = x.new_empty(x.shape[0], weight.shape[0], *outs)
    for image, result in zip(x, top, strict=True):
        columns = _columns(image, window).view(group, rows.shape[2], -1)
        torch.bmm(rows, columns, out=result.view(group, rows.shape[1], -1))
    return top


def _columns(image: Tensor, window: ConvWindow) -> Tensor:
    """The windows of one image [channels, height, width]; a 1 x 1 window is the image itself."""
    if set(window.kernel) == set(window.stride) == {1} and not any(window.pad):
        return image.contiguous()
    return F.unfold(image.unsqueeze(0), window.kernel, window.dilation, window.pad, window.stride)


def _spread(x: Tensor, weight: Tensor, window: ConvWindow, group: int, sizes: tuple[int, ...]) -> Tensor:
    """Transposed weights times the image; what falls on one place is added up."""
    columns = weight.reshape(group, weight.shape[0] // group, -1).transpose(1, 2)
    tops = []
    for image in x:
        found = torch.bmm(columns, image.reshape(group, columns.shape[2], -1)).view(1, -1, image[0].numel())
        tops.append(F.fold(found, sizes, window.kernel, window.dilation, window.pad, window.stride))
    return torch.cat(tops)
