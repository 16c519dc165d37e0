"""AlignMaps, ExplainedVariance and DeadUnits."""

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import ShapeError


def test_align_maps_keeps_the_top_left() -> None:
    first, second = torch.randn(1, 2, 4, 6), torch.randn(1, 3, 5, 5)
    layer = one_layer("AlignMaps", "", first.shape, second.shape, tops=("a", "b"))
    a, b = layer(first, second)
    assert torch.equal(a, first[:, :, :4, :5]) and torch.equal(b, second[:, :, :4, :5])


def test_align_maps_refuses_other_strides() -> None:
    with pytest.raises(ShapeError, match="under_test.*15 x 20 and 30 x 40"):
        one_layer("AlignMaps", "", (1, 2, 15, 20), (1, 2, 30, 40), tops=("a", "b"))


def test_explained_variance_covers_all_batches() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(3, 2, (6, 3, 4, 5)) * np.array([1, 5, 0.2])[:, None, None]
    prediction = target + rng.normal(0, 0.5, target.shape)
    mean = target.mean((0, 2, 3), keepdims=True)
    expected = 1 - ((prediction - target) ** 2).sum() / ((target - mean) ** 2).sum()
    layer = one_layer("ExplainedVariance", "", (2, 3, 4, 5), (2, 3, 4, 5))
    for _ in range(2):
        layer.start_over()
        for start in (0, 2, 4):
            part = slice(start, start + 2)
            value = layer(torch.tensor(prediction[part]), torch.tensor(target[part]))
        assert float(value) == pytest.approx(expected, rel=1e-9)


def test_explained_variance_of_the_channel_means_is_zero() -> None:
    target = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    mean = target.mean((0, 2, 3), keepdim=True).expand_as(target)
    layer = one_layer("ExplainedVariance", "", target.shape, target.shape)
    assert float(layer(mean, target)) == pytest.approx(0, abs=1e-12)
    layer.start_over()
    assert torch.isnan(layer(torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)))


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4)])
def test_dead_units_are_those_never_above_zero_in_the_whole_test(shape: tuple[int, ...]) -> None:
    layer = one_layer("DeadUnits", "", shape)
    first, second = torch.zeros(shape), -torch.ones(shape)
    first[0, 1], second[1, 2] = 0.5, 2.0  # unit 1 is alive in the first batch, unit 2 in the second
    for _ in range(2):
        layer.start_over()
        assert float(layer(first)) == pytest.approx(3 / 4)
        assert float(layer(second)) == pytest.approx(2 / 4)
        assert layer.hopeless == ""
    layer.start_over()
    assert layer.hopeless == "", "nothing seen yet"
    assert float(layer(torch.zeros(shape))) == 1
    assert "all 4 units that it watches are zero on the whole test" in layer.hopeless
