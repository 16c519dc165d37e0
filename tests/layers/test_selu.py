"""SeLu and SeLuDropout against loops written down from py-RFCN-priv's sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError


@pytest.mark.parametrize(
    ("body", "scale", "alpha"),
    [("", 1.050700987, 1.67326324), ("selu_param { lambda: 0.5 alpha: -2 }", 0.5, -2.0)],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_selu_number_by_number(body: str, scale: float, alpha: float, in_place: bool) -> None:
    random = np.random.default_rng(0)
    x, seed = random.normal(size=(4, 30)) * 3, random.normal(size=(4, 30))
    x[0, :3] = 0, 700, -700
    bottom = torch.from_numpy(x).requires_grad_()
    top_name = "x0" if in_place else "y"
    top = one_net("SeLu", body, [(4, 30)], [top_name]).double()(x0=bottom)[top_name]
    (diff,) = torch.autograd.grad(top, bottom, torch.from_numpy(seed))
    for at in np.ndindex(4, 30):
        value = scale * x[at] if x[at] > 0 else scale * alpha * (math.exp(x[at]) - 1)
        assert top[at].item() == pytest.approx(value, rel=1e-6)
        read = value if in_place else x[at]  # backward reads bottom_data, which is the top by then
        slope = scale if read > 0 else scale * alpha * math.exp(read)
        assert diff[at].item() == pytest.approx(seed[at] * slope, rel=1e-5)


@pytest.mark.parametrize(("ratio", "alpha"), [(0.1, -1.75809934), (0.4, 0.5), (0.0, -1.0)])
def test_dropout_number_by_number(ratio: float, alpha: float) -> None:
    body = f"selu_dropout_param {{ dropout_ratio: {ratio} alpha: {alpha} }}"
    layer = one_layer("SeLuDropout", body, (60, 60), phase="TRAIN").double()
    bottom = torch.randn(60, 60, dtype=torch.float64, requires_grad=True)
    top = layer(bottom)
    top.backward(torch.full((60, 60), 3.0))
    q = 1 - ratio
    a = (q * (1 + alpha * alpha * (1 - q))) ** -0.5
    b = -a * (1 - q) * alpha
    kept = bottom.grad != 0
    torch.testing.assert_close(top, torch.where(kept, a * bottom + b, a * alpha + b), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(bottom.grad, 3 * a * kept.double(), rtol=1e-6, atol=1e-6)
    assert abs(float(kept.double().mean()) - q) < 0.04
    assert ratio == 0 or not layer(bottom).equal(top)


def test_default_dropout_keeps_mean_and_variance_and_does_nothing_in_test() -> None:
    bottom = torch.randn(400, 400)
    top = one_layer("SeLuDropout", "", (400, 400), phase="TRAIN")(bottom)
    assert abs(float(top.mean())) < 0.02 and abs(float(top.var()) - 1) < 0.03
    assert one_layer("SeLuDropout", "", (400, 400))(bottom).equal(bottom)


def test_refusals() -> None:
    with pytest.raises(LayerError, match="under_test.*dropout_ratio is 1, expected 0 to below 1"):
        one_layer("SeLuDropout", "selu_dropout_param { dropout_ratio: 1 }", (3,))
