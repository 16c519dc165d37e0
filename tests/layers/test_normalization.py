"""LRN, BatchNorm and MVN."""

import math

import pytest
import torch
import torch.nn.functional as F
from one_layer import numbers, one_layer, seq

from caffe_compat.errors import LayerError, ShapeError


def slow_lrn(x, size, alpha, beta, k):
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        y[:, c] = x[:, c] / (k + alpha / size * near.square().sum(1)).pow(beta)
    return y


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 1), (3, 2, 0.5, 2), (11, 1, 0.75, 1), (1, 1, 1, 3)]
)
def test_lrn_across_channels(size, alpha, beta, k):
    x = (3 * torch.randn(2, 7, 4, 3, generator=torch.Generator().manual_seed(size))).double().requires_grad_()
    text = f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} }}"
    layer = one_layer("LRN", text, x.shape).double()
    y = layer(x)
    expected = slow_lrn(x.detach(), size, layer.alpha, beta, k)
    torch.testing.assert_close(y.detach(), expected)
    torch.testing.assert_close(layer(x.detach()), expected)  # without gradient another path
    assert torch.autograd.gradcheck(layer, (x,))


def test_lrn_measured_on_caffe():
    x = seq(1, 4, 1, 2).requires_grad_()
    text = "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 %s }"
    y = one_layer("LRN", text % "", x.shape)(x)
    expected = "-0.548604 -0.114105 0.329162 -0.439871 0 0.439871 -0.34894 0.114105"
    torch.testing.assert_close(y.detach().flatten(), numbers(expected), atol=1e-6, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    expected = "-0.464835 -0.105639 0.278901 -0.374306 0 0.374306 -0.333695 0.105639"
    torch.testing.assert_close(dx.flatten(), numbers(expected), atol=1e-6, rtol=1e-5)
    x = seq(1, 1, 3, 3).requires_grad_()
    y = one_layer("LRN", text % "norm_region: WITHIN_CHANNEL", x.shape)(x)
    expected = "-0.935267 -0.180228 0.575248 -0.737007 0 0.737007 -0.575248 0.180228 0.935267"
    torch.testing.assert_close(y.detach().flatten(), numbers(expected), atol=1e-6, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    expected = "-0.817322 -0.142392 0.530938 -0.618807 0 0.618807 -0.530938 0.142392 0.817322"
    torch.testing.assert_close(dx.flatten(), numbers(expected), atol=1e-6, rtol=1e-5)


def test_lrn_in_place_is_caffes_and_has_no_gradient():
    x = seq(1, 4, 2, 2).requires_grad_()
    layer = one_layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 k: 2 }", x.shape, tops=("x0",))
    y = layer(x)
    norm = slow_lrn(x.detach(), 3, 0.5, 0.75, 2)
    filled = x.detach() != 0
    torch.testing.assert_close(y.detach()[filled], (norm / x.detach()).square()[filled])
    with pytest.raises(LayerError, match="under_test.*in place"):
        y.sum().backward()


def test_lrn_refusals():
    with pytest.raises(LayerError, match="local_size is 4"):
        one_layer("LRN", "lrn_param { local_size: 4 }", (1, 2, 3, 3))
    with pytest.raises(ShapeError, match="4 axes"):
        one_layer("LRN", "", (1, 2, 3))


def test_batchnorm_training_measured_on_caffe():
    x = seq(2, 2, 1, 2).requires_grad_()
    text = "batch_norm_param { moving_average_fraction: 0.9 eps: 0.01 }"
    blobs = {"blob0": numbers("1 2"), "blob1": numbers("3 4"), "blob2": numbers("2")}
    layer = one_layer("BatchNorm", text, x.shape, phase="TRAIN", **blobs)
    y = layer(x)
    expected = "-1.38873 -0.154303 1.29099 -1.11886 0.154303 1.38873 -0.774597 0.602464"
    torch.testing.assert_close(y.detach().flatten(), numbers(expected), atol=1e-5, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    expected = "-0.0330649 -0.00367387 0.0382516 -0.0331513 0.00367388 0.0330648 -0.0229509 0.0178507"
    torch.testing.assert_close(dx.flatten(), numbers(expected), atol=1e-6, rtol=1e-4)
    after = [blob.detach() for blob in layer.blobs]
    for found, wanted in zip(after, ("0.8 1.65", "3.24667 4.03667", "2.8"), strict=True):
        torch.testing.assert_close(found, numbers(wanted), atol=1e-5, rtol=1e-5)
    assert not any(blob.requires_grad for blob in layer.blobs)
    layer.eval()
    mean, variance = after[0] / 2.8, after[1] / 2.8
    expected = (x.detach() - mean.view(2, 1, 1)) / (variance.view(2, 1, 1) + 0.01).sqrt()
    torch.testing.assert_close(layer(x).detach(), expected)
    assert all(torch.equal(blob.detach(), value) for blob, value in zip(layer.blobs, after, strict=True))


def test_batchnorm_stored_statistics():
    x = seq(2, 2, 1, 2).requires_grad_()
    blobs = {"blob0": numbers("1 2"), "blob1": numbers("3 4"), "blob2": numbers("2")}
    y = one_layer("BatchNorm", "batch_norm_param { eps: 0.01 }", x.shape, **blobs)(x)
    expected = "-1.22068 -0.569652 -0.282138 -1.26962 -0.406894 0.244137 -1.12855 -0.564277"
    torch.testing.assert_close(y.detach().flatten(), numbers(expected), atol=1e-5, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    expected = "-0.813788 -0.162758 0.423207 -0.564277 0 0.651031 -0.423207 0.141069"
    torch.testing.assert_close(dx.flatten(), numbers(expected), atol=1e-5, rtol=1e-5)
    empty = one_layer("BatchNorm", "", x.shape)  # weight 0: mean and variance 0
    torch.testing.assert_close(empty(x), x / math.sqrt(1e-5), atol=0, rtol=1e-5)


def test_batchnorm_of_one_value_per_channel():
    layer = one_layer("BatchNorm", "", (1, 3), phase="TRAIN")
    x = numbers("1 2 3").view(1, 3).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.tolist() == [[0, 0, 0]] and x.grad.tolist() == [[0, 0, 0]]
    assert [blob.tolist() for blob in layer.blobs] == [[1, 2, 3], [0, 0, 0], [1]]


def test_batchnorm_refusals():
    with pytest.raises(LayerError, match=r"param\[1\].lr_mult is 1, expected 0"):
        one_layer("BatchNorm", "param { lr_mult: 0 } param { }", (2, 4))
    with pytest.raises(ShapeError, match="2 axes"):
        one_layer("BatchNorm", "", (4,))
    with pytest.raises(ShapeError, match="4 channels"):
        one_layer("BatchNorm", "", (2, 4)).top_shapes([(2, 5)])


def test_mvn_measured_on_caffe():
    x = seq(1, 2, 1, 3).requires_grad_()
    y = one_layer("MVN", "mvn_param { eps: 0.1 }", x.shape)(x)
    expected = numbers("-1.06214 0 1.06214 -1.06214 0 1.06214")
    torch.testing.assert_close(y.detach().flatten(), expected, atol=1e-6, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    expected = numbers("-0.263312 0 0.263312 -0.263312 0 0.263312")
    torch.testing.assert_close(dx.flatten(), expected, atol=1e-6, rtol=1e-5)


def test_mvn_across_channels_and_missing_axes():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    layer = one_layer("MVN", "mvn_param { across_channels: true }", x.shape)
    assert layer.top_shapes([x.shape]) == [(4, 6, 1, 1)]
    torch.testing.assert_close(layer(x), F.layer_norm(x, (6,), eps=0)[:, :, None, None])
    with pytest.raises(ShapeError, match="at most 4"):
        one_layer("MVN", "", (1, 1, 1, 1, 1))
    image = torch.rand(1, 2, 3, 3, requires_grad=True)
    with pytest.raises(LayerError, match="in place"):
        one_layer("MVN", "", image.shape, tops=("x0",))(image).sum().backward()
