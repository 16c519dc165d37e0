"""AlignMaps and ExplainedVariance."""

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
