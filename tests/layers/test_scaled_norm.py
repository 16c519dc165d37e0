"""BatchNorm of intel/caffe and NVIDIA/caffe against BVLC's and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError
from caffe_compat.layers.normalization import BatchNorm
from caffe_compat.layers.scaled_norm import IntelBatchNorm, NvidiaBatchNorm

SHAPE = (3, 4, 2, 5)


def _x(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_intel_is_batch_norm_then_scale() -> None:
    layer = one_layer("BatchNorm", "batch_norm_param { filler {} }", SHAPE, phase="TRAIN").train()
    plain = one_layer("BatchNorm", "", SHAPE, phase="TRAIN").train()
    scale, shift = torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([5.0, 6, 7, 8])
    with torch.no_grad():
        layer.blobs[3].copy_(scale)
        layer.blobs[4].copy_(shift)
    for seed in (0, 1):
        torch.testing.assert_close(layer(_x(seed)), plain(_x(seed)) * scale.view(4, 1, 1) + shift.view(4, 1, 1))
    for one, other in zip(layer.blobs[:3], plain.blobs, strict=True):
        torch.testing.assert_close(one.data, other.data)
    layer.eval(), plain.eval()
    torch.testing.assert_close(layer(_x(2)), plain(_x(2)) * scale.view(4, 1, 1) + shift.view(4, 1, 1))
    assert [blob.requires_grad for blob in layer.blobs] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(("body", "blobs"), [("use_weight_bias: false", 3), ("bias_term: false", 4), ("filler {}", 5)])
def test_intel_blobs(body: str, blobs: int) -> None:
    layer = one_layer("BatchNorm", f"batch_norm_param {{ {body} }}", SHAPE)
    assert type(layer) is IntelBatchNorm and len(layer.blobs) == blobs


def test_nvidia_averages_from_the_third_batch_on() -> None:
    text = "batch_norm_param { scale_bias: true moving_average_fraction: 0.75 eps: 0 use_global_stats: true }"
    layer = one_layer("BatchNorm", text, SHAPE, phase="TRAIN").train()
    assert layer.blobs[2].item() == 1 and layer.blobs[3].tolist() == [1] * 4 and layer.eps == 1e-5
    mean = variance = np.zeros(4)
    for number in range(4):
        x = _x(number)
        top = layer(x).detach().numpy()
        values = x.numpy().transpose(1, 0, 2, 3).reshape(4, -1).astype(np.float64)
        now = values.mean(1), ((values - values.mean(1)[:, None]) ** 2).mean(1)
        wanted = (x.numpy() - now[0][:, None, None]) / np.sqrt(now[1] + 1e-5)[:, None, None]
        np.testing.assert_allclose(top, wanted, rtol=1e-4, atol=1e-5)
        share = 0.75 if number > 1 else 0
        mean, variance = share * mean + (1 - share) * now[0], share * variance + (1 - share) * now[1]
    np.testing.assert_allclose(layer.blobs[0].numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.blobs[1].numpy(), variance, rtol=1e-5)
    layer.eval()
    wanted = (x.numpy() - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_nvidia_learns_no_statistics_whatever_is_written() -> None:
    text = "param { lr_mult: 1 } param { } batch_norm_param { scale_bias: true }"
    layer = one_layer("BatchNorm", text, SHAPE)
    assert type(layer) is NvidiaBatchNorm and [blob.requires_grad for blob in layer.blobs] == [False] * 3 + [True] * 2
    with pytest.raises(LayerError, match="lr_mult is 1, expected 0"):
        one_layer("BatchNorm", "param { lr_mult: 1 } batch_norm_param { filler {} }", SHAPE)


def test_which_is_meant() -> None:
    for body, kind in (
        ("bias_filler {}", NvidiaBatchNorm),
        ("eps: 0.1", BatchNorm),
        ("scale_filler {}", NvidiaBatchNorm),
    ):
        assert type(one_layer("BatchNorm", f"batch_norm_param {{ {body} }}", SHAPE)) is kind
    with pytest.raises(LayerError, match="fit 2 meanings of the type"):
        one_layer("BatchNorm", "batch_norm_param { filler {} scale_filler {} }", SHAPE)
