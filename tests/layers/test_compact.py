"""ReLU6, Axpy and ShuffleChannel against loops written down from the forks' sources."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError

ODD = (-math.inf, -7.0, -0.5, -0.0, 0.0, 1e-30, 2.5, 5.9999995, 6.0, 6.5, math.inf)


def _relu6(x: float, slope: float) -> tuple[float, float]:
    """relu6_layer.cpp: the number, and the factor of its gradient."""
    high = 0.0 if x < 0 else x
    low = x if x < 0 else 0.0
    value = high + slope * low if slope else high
    return (6.0 if value > 6 else value), ((x > 0) + slope * (x <= 0)) * (x < 6)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_relu6_number_by_number(slope: float) -> None:
    layer = one_layer("ReLU6", f"relu6_param {{ negative_slope: {slope} }}", (len(ODD),))
    x = torch.tensor(ODD, requires_grad=True)
    top = layer(x)
    top.backward(torch.full_like(x, 2.0))
    expected = [_relu6(float(np.float32(value)), slope) for value in ODD]
    np.testing.assert_array_equal(top.detach().numpy(), np.float32([value for value, _ in expected]))
    np.testing.assert_array_equal(x.grad.numpy(), np.float32([2 * factor for _, factor in expected]))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), top.detach(), rtol=0, atol=0)


def test_relu6_of_nan_is_nan_without_a_gradient() -> None:
    x = torch.tensor([math.nan], requires_grad=True)
    top = one_layer("ReLU6", "", (1,))(x)
    top.sum().backward()
    assert top.isnan().all() and x.grad.tolist() == [0]


def test_relu6_in_place_finds_its_gradient_in_the_top() -> None:
    layer = one_layer("ReLU6", "", (3,), tops=("x0",))
    assert layer.survives_in_place and layer.keeps_sign
    lossy = one_layer("ReLU6", "relu6_param { negative_slope: -0.5 }", (3,), tops=("x0",))
    assert not lossy.survives_in_place


def test_axpy_number_by_number() -> None:
    a, x, y = (
        np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(2, 3), (2, 3, 4, 2), (2, 3, 4, 2)])
    )
    seed = np.random.default_rng(9).normal(size=x.shape)
    tensors = [torch.from_numpy(value).requires_grad_() for value in (a, x, y)]
    top = one_layer("Axpy", "", a.shape, x.shape, y.shape)(*tensors)
    top.backward(torch.from_numpy(seed))
    expected, da, dx = np.zeros_like(x), np.zeros_like(a), np.zeros_like(x)
    for n, c, i, j in np.ndindex(x.shape):
        expected[n, c, i, j] = a[n, c] * x[n, c, i, j] + y[n, c, i, j]
        da[n, c] += x[n, c, i, j] * seed[n, c, i, j]
        dx[n, c, i, j] = a[n, c] * seed[n, c, i, j]
    for found, wanted in zip((top.detach(), *(t.grad for t in tensors)), (expected, da, dx, seed), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_axpy_refuses() -> None:
    for shapes, what in (
        ([(2, 3), (2, 3, 4), (2, 3, 5)], "equal shapes of bottoms 1 and 2"),
        ([(2, 4), (2, 3, 4), (2, 3, 4)], "bottom 0 has the shape"),
        ([(2, 3, 2, 1), (2, 3, 4, 4), (2, 3, 4, 4)], "one number for each channel"),
        ([(2,), (2,), (2,)], "expected N x C"),
    ):
        with pytest.raises(ShapeError, match=f"under_test.*{what}"):
            one_layer("Axpy", "", *shapes)


@pytest.mark.parametrize(("group", "shape"), [*itertools.product([1, 2, 3], [(2, 6, 2, 3), (2, 6), (3, 12, 1, 1)])])
def test_shuffle_number_by_number(group: int, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, *[1] * (4 - len(shape)))
    expected = np.zeros_like(x)
    columns = shape[1] // group
    for n, (i, j) in itertools.product(range(shape[0]), np.ndindex(group, columns)):
        expected[n, j * group + i] = x[n, i * columns + j]
    layer = one_layer("ShuffleChannel", f"shuffle_channel_param {{ group: {group} }}", shape)
    bottom = torch.from_numpy(x.reshape(shape)).requires_grad_()
    top = layer(bottom)
    np.testing.assert_array_equal(top.detach().numpy(), expected)
    top.backward(top.detach())  # a permutation: what went there comes back
    np.testing.assert_array_equal(bottom.grad.numpy(), bottom.detach().numpy())


def test_shuffle_refuses() -> None:
    with pytest.raises(LayerError, match="shuffle_channel_param.group is 0"):
        one_layer("ShuffleChannel", "shuffle_channel_param { group: 0 }", (1, 4))
    with pytest.raises(ShapeError, match="expected a divisor of the 4 channels"):
        one_layer("ShuffleChannel", "shuffle_channel_param { group: 3 }", (1, 4, 2, 2))
    with pytest.raises(LayerError, match="in place"):
        one_layer("ShuffleChannel", "shuffle_channel_param { group: 2 }", (1, 4), tops=("x0",))
