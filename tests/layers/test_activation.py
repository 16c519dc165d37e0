"""Activation layers against figures measured on Caffe, and its in-place quirks."""

import pytest
import torch
from one_layer import numbers, one_layer, one_net, seq
from torch import Tensor

from caffe_compat.errors import LayerError, ShapeError

MEASURED = [
    ("ELU", "elu_param { alpha: 0.5 }", (1, 6), "-0.31606 -0.0906346 0.6 -0.275336 0 0.8",
     "-0.18394 -0.0818731 0.6 -0.179732 0 0.8"),
    ("Swish", "swish_param { beta: 1.5 }", (1, 5), "-0.182426 -0.0851115 0.42657 -0.18518 0",
     "0.0412942 -0.070444 0.53754 -0.0144015 0"),
    ("BNLL", "", (1, 5), "0.313262 0.598139 1.03749 0.371101 0.693147",
     "-0.268941 -0.0900332 0.387394 -0.24802 0"),
]  # fmt: skip


def gradient(top: Tensor, bottom: Tensor, seed: Tensor) -> Tensor:
    return torch.autograd.grad(top, bottom, seed)[0]


@pytest.mark.parametrize(("kind", "body", "shape", "top", "diff"), MEASURED)
def test_measured_on_caffe(kind, body, shape, top, diff):
    bottom = seq(*shape).requires_grad_()
    value = one_layer(kind, body, shape)(bottom)
    torch.testing.assert_close(value.detach().flatten(), numbers(top), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(value, bottom, seq(*shape)).flatten(), numbers(diff), rtol=1e-5, atol=1e-6)


def test_prelu_measured_on_caffe():
    layer = one_layer("PReLU", "", (1, 2, 1, 3), blob0=torch.tensor([0.25, 0.5]))
    bottom = seq(1, 2, 1, 3).requires_grad_()
    top = layer(bottom)
    torch.testing.assert_close(top.detach().flatten(), numbers("-0.25 -0.05 0.6 -0.4 0 0.8"))
    top.backward(seq(1, 2, 1, 3))
    torch.testing.assert_close(bottom.grad.flatten(), numbers("-0.25 -0.05 0.6 -0.4 0 0.8"))
    torch.testing.assert_close(layer.blobs[0].grad, torch.tensor([1.04, 0.64]))


def test_gradient_at_the_kink():
    zero = torch.zeros(1, requires_grad=True)
    one = torch.ones(1)
    assert gradient(one_layer("ReLU", "relu_param { negative_slope: 0.25 }", (1,))(zero), zero, one) == 0.25
    assert gradient(one_layer("AbsVal", "", (1,))(zero), zero, one) == 0
    limits = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5], requires_grad=True)
    clipped = one_layer("Clip", "clip_param { min: -1 max: 1 }", (5,))(limits)
    assert gradient(clipped, limits, torch.ones(5)).tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("kind", "body", "derivative"),
    [
        ("ReLU", "relu_param { negative_slope: -0.5 }", lambda y: torch.where(y > 0, 1.0, -0.5)),
        ("ELU", "elu_param { alpha: -0.5 }", lambda y: torch.where(y > 0, 1.0, y - 0.5)),
        ("BNLL", "", torch.sigmoid),
        ("Clip", "clip_param { min: -0.3 max: 0.3 }", torch.ones_like),
    ],
)
def test_in_place_gradient_comes_from_the_top(kind, body, derivative):
    bottom = seq(2, 5).requires_grad_()
    top = one_net(kind, body, [(2, 5)], tops=["x0"])(x0=bottom)["x0"]
    torch.testing.assert_close(top.detach(), one_layer(kind, body, (2, 5))(bottom.detach()))
    torch.testing.assert_close(gradient(top, bottom, seq(2, 5)), derivative(top.detach()) * seq(2, 5))


def test_threshold_is_strict():
    layer = one_layer("Threshold", "threshold_param { threshold: 0.5 }", (3,))
    assert layer(torch.tensor([0.4, 0.5, 0.6])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "body", "shape", "tops", "message"),
    [
        ("PReLU", "", (3,), ["y"], "expected 2 axes or more"),
        ("AbsVal", "", (3,), ["x0"], "in place"),
        ("Sigmoid", "relu_param { negative_slope: 1 }", (3,), ["y"], "relu_param means nothing"),
    ],
)
def test_refusals(kind, body, shape, tops, message):
    with pytest.raises(LayerError, match=message):
        one_layer(kind, body, shape, tops=tops)


def test_prelu_keeps_its_channels():
    with pytest.raises(ShapeError, match="has 4 channels, expected 3"):
        one_layer("PReLU", "", (2, 3)).top_shapes([(2, 4)])
