"""SSD's Normalize against its formulas, written out number by number."""

from __future__ import annotations

import math

import pytest
import torch
from one_layer import one_layer, one_net, seq
from torch import Tensor

from caffe_compat.errors import LayerError
from caffe_compat.layers.sharing import Reread

SCALES = torch.tensor([2.0, -3.0, 0.5])


def _expected(x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Top, gradient of the bottom and of the scales for across_spatial and channel_shared false."""
    top, slope, scale_slope = torch.zeros_like(x), torch.zeros_like(x), torch.zeros(3)
    for n in range(x.shape[0]):
        for h in range(x.shape[2]):
            for w in range(x.shape[3]):
                values, seeds = x[n, :, h, w].tolist(), dy[n, :, h, w].tolist()
                norm = math.sqrt(sum(value * value for value in values) + 1e-10)
                dot = sum(value * seed for value, seed in zip(values, seeds, strict=True))
                for c, (value, seed) in enumerate(zip(values, seeds, strict=True)):
                    top[n, c, h, w] = value / norm * SCALES[c]
                    slope[n, c, h, w] = (seed - value * dot / norm**2) / norm * SCALES[c]
                    scale_slope[c] += seed * value / norm
    return top, slope, scale_slope


def test_per_pixel_and_channel() -> None:
    body = "norm_param { across_spatial: false channel_shared: false }"
    layer = one_layer("Normalize", body, (2, 3, 2, 2), blob0=SCALES)
    x, dy = seq(2, 3, 2, 2).requires_grad_(), seq(2, 3, 2, 2).flip(0)
    top, slope, scale_slope = _expected(x.detach(), dy)
    y = layer(x)
    y.backward(dy)
    torch.testing.assert_close(y, top)
    torch.testing.assert_close(x.grad, slope)
    torch.testing.assert_close(layer.blobs[0].grad, scale_slope)


def test_a_whole_image_has_one_norm() -> None:
    layer = one_layer("Normalize", "norm_param { scale_filler { value: 20 } }", (2, 3, 2, 2))
    assert layer.blob_shapes == [()]
    lengths = layer(seq(2, 3, 2, 2)).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((2,), 20.0))


def test_nothing_but_zeros_stays_zero() -> None:
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    y = one_layer("Normalize", "", (1, 3, 2, 2))(x)
    y.sum().backward()
    assert y.tolist() == torch.zeros(1, 3, 2, 2).tolist()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("shared", ["true", "false"])
def test_backward_form_is_the_same_where_nothing_was_overwritten(shared: str) -> None:
    layer = one_layer(
        "Normalize", f"norm_param {{ channel_shared: {shared} scale_filler {{ value: 3 }} }}", (2, 3, 2, 2)
    )
    found = []
    for by_form in (False, True):
        x = seq(2, 3, 2, 2).requires_grad_()
        y = layer(x)
        if by_form:
            y = layer.backward_form(Reread((x.detach(),), (x,), (y.detach(),)))
        found.append(torch.autograd.grad(y, [x, layer.blobs[0]], seq(2, 3, 2, 2).flip(0)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4, 5)])
def test_two_to_four_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayerError, match="under_test"):
        one_layer("Normalize", "", shape)


def test_in_place_is_refused() -> None:
    with pytest.raises(LayerError, match="in place"):
        one_net("Normalize", "", [(1, 2, 3, 4)], ["x0"])
