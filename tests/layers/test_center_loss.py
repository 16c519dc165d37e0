"""CenterLoss against loops written down from center_loss_layer.cpp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError


@pytest.mark.parametrize("weight", [1.0, 0.008])
def test_number_by_number(weight: float) -> None:
    random = np.random.default_rng(0)
    x, centers, label = random.normal(size=(6, 2, 3)), random.normal(size=(4, 6)), np.array([2, 0, 2, 2, 3, 0])
    layer = one_layer(
        "CenterLoss", "center_loss_param { num_output: 4 }", x.shape, (6,), blob0=torch.from_numpy(centers)
    ).double()
    with torch.no_grad():
        layer.blobs[0].copy_(torch.from_numpy(centers))
    bottom = torch.from_numpy(x).requires_grad_()
    loss = layer(bottom, torch.from_numpy(label).double())
    (weight * loss).backward()
    rows, total, dx, dc = x.reshape(6, 6), 0.0, np.zeros((6, 6)), np.zeros((4, 6))
    for m in range(6):
        for k in range(6):
            distance = rows[m, k] - centers[label[m], k]
            total += distance**2
            dx[m, k] = weight * distance / 6
            dc[label[m], k] -= distance
    for n in range(4):
        dc[n] /= 1 + (label == n).sum()
    assert loss.item() == pytest.approx(total / 12, rel=1e-12)
    np.testing.assert_allclose(bottom.grad.numpy().reshape(6, 6), dx, rtol=1e-12)
    np.testing.assert_allclose(layer.blobs[0].grad.numpy(), dc, rtol=1e-12)


def test_features_at_their_centres_cost_nothing() -> None:
    layer = one_layer("CenterLoss", "center_loss_param { num_output: 2 }", (2, 3), (2,), blob0=torch.ones(2, 3))
    assert layer(torch.ones(2, 3), torch.tensor([0.0, 1])).item() == 0


def test_refusals() -> None:
    with pytest.raises(LayerError, match="under_test.*num_output is 0"):
        one_layer("CenterLoss", "", (2, 3), (2,))
    with pytest.raises(LayerError, match="a label for each item"):
        one_layer("CenterLoss", "center_loss_param { num_output: 2 }", (2, 3), (2, 2))
    layer = one_layer("CenterLoss", "center_loss_param { num_output: 2 }", (2, 3), (2,))
    with pytest.raises(LayerError, match="a label in bottom 'x1' is 2"):
        layer(torch.zeros(2, 3), torch.tensor([0.0, 2]))
