"""SigmoidCrossEntropyBalanceLoss against loops that follow its source."""

import math

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError


def _loops(scores: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient."""
    number = len(scores)
    total, diff = 0.0, np.zeros(scores.shape)
    for n in range(number):
        losses = {0: 0.0, 1: 0.0}
        counts = {0: 0, 1: 0}
        for j, (x, t) in enumerate(zip(scores[n], target[n], strict=True)):
            diff[n, j] = 1 / (1 + math.exp(-x)) - t
            if t in losses:
                counts[t] += 1
                losses[t] -= x * (t - (x >= 0)) - math.log(1 + math.exp(x - 2 * x * (x >= 0)))
        both = counts[0] + counts[1]
        total += (losses[1] * counts[0] + losses[0] * counts[1]) / both
        for j, t in enumerate(target[n]):
            if t in counts:
                diff[n, j] *= counts[1 - int(t)] / both
    return total / number, diff / number


@pytest.mark.parametrize("values", [[0, 1], [0, 0, 0, 1], [0, 1, 2, 255, -1, 0.5], [1], [0]])
def test_number_by_number(values: list[float]) -> None:
    random = np.random.default_rng(len(values))
    scores, target = random.normal(size=(3, 10)) * 4, random.choice(values, (3, 10))
    target[:, 0] = values[0]
    scores[0, :2] = [0, 40]
    layer = one_layer("SigmoidCrossEntropyBalanceLoss", "", (3, 2, 5), (3, 1, 10))
    bottom = torch.from_numpy(scores).reshape(3, 2, 5).requires_grad_()
    loss = layer(bottom, torch.from_numpy(target).double().reshape(3, 1, 10))
    (3 * loss).backward()
    wanted, diff = _loops(scores, target)
    assert loss.item() == pytest.approx(wanted, rel=1e-12) and bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy().reshape(3, 10), 3 * diff, rtol=1e-10, atol=1e-15)


def test_refusals() -> None:
    with pytest.raises(LayerError, match="inputs must have the same count"):
        one_layer("SigmoidCrossEntropyBalanceLoss", "", (2, 3), (2, 4))
    layer = one_layer("SigmoidCrossEntropyBalanceLoss", "", (2, 3), (2, 3))
    with pytest.raises(LayerError, match="no target that is 0 or 1 in image 1"):
        layer(torch.zeros(2, 3), torch.tensor([[0.0, 1, 2], [255, 255, 255]]))
