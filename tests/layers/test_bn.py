"""BN in its two meanings against loops written down from the forks' sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat import load_net
from caffe_compat.errors import LayerError, WeightsError
from caffe_compat.layers.bn import MovingBN, ScaleShiftBN
from caffe_compat.proto import caffe_pb2

SHAPE = (3, 4, 2, 5)


def _values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * 2 + 1


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, value by value."""
    mean, variance = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values = [x[n, c, i, j] for n, i, j in np.ndindex(x.shape[0], *x.shape[2:])]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((v - mean[c]) ** 2 for v in values) / len(values)
    return mean, variance


def _normed(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    return (x - mean[:, None, None]) / np.sqrt(variance + eps)[:, None, None]


def _backward(
    normed: np.ndarray, seed: np.ndarray, slope: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diffs of x, slope and bias, as both forks write them: x_hat kept, one formula."""
    dx, dslope, dbias = np.zeros(normed.shape), np.zeros(len(slope)), np.zeros(len(slope))
    for c in range(len(slope)):
        places = list(np.ndindex(normed.shape[0], *normed.shape[2:]))
        at = [(n, c, i, j) for n, i, j in places]
        dslope[c] = sum(normed[p] * seed[p] for p in at)
        dbias[c] = sum(seed[p] for p in at)
        both, one = sum(normed[p] * seed[p] * slope[c] for p in at), sum(seed[p] * slope[c] for p in at)
        for p in at:
            dx[p] = (seed[p] * slope[c] - (normed[p] * both + one) / len(at)) * inverse[c]
    return dx, dslope, dbias


def _run(layer: torch.nn.Module, x: np.ndarray, seed: np.ndarray) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    bottom = torch.from_numpy(x).requires_grad_()
    tops = layer(bottom)
    tops = tops if isinstance(tops, tuple) else (tops,)
    tops[0].backward(torch.from_numpy(seed))
    assert bottom.grad is not None
    return tuple(top.detach() for top in tops), bottom.grad


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_segnet_learns_from_the_batch_in_both_phases(phase: str) -> None:
    x, seed, scale, shift = _values(*SHAPE), _values(*SHAPE, seed=1), _values(4, seed=2), _values(4, seed=3)
    net = one_net("BN", "bn_param { scale_filler { value: 1 } }", [SHAPE], ["y", "mean", "variance"], phase).double()
    layer = net.layer("under_test").train(phase == "TRAIN")
    with torch.no_grad():
        layer.blobs[0].copy_(torch.from_numpy(scale).view(1, 4, 1, 1))
        layer.blobs[1].copy_(torch.from_numpy(shift).view(1, 4, 1, 1))
    tops, diff = _run(layer, x, seed)
    mean, variance = _statistics(x)
    normed = _normed(x, mean, variance, 1e-9)
    dx, dscale, dshift = _backward(normed, seed, scale, 1 / np.sqrt(variance + 1e-9))
    wanted = (normed * scale[:, None, None] + shift[:, None, None], mean, variance)
    for top, value in zip(tops, wanted, strict=True):
        np.testing.assert_allclose(top.numpy().reshape(value.shape), value, rtol=1e-10)
    for found, value in ((diff, dx), (layer.blobs[0].grad, dscale), (layer.blobs[1].grad, dshift)):
        np.testing.assert_allclose(found.numpy().reshape(value.shape), value, rtol=1e-8, atol=1e-10)
    assert [tuple(top.shape) for top in tops] == layer.top_shapes([SHAPE]) and layer.blob_shapes == [(1, 4, 1, 1)] * 2
    assert layer.replaces_gradient(0, [SHAPE])


def test_segnet_inference_is_scale_and_shift() -> None:
    x, seed = _values(*SHAPE), _values(*SHAPE, seed=1)
    layer = one_layer(
        "BN", "bn_param { bn_mode: INFERENCE }", SHAPE, blob0=torch.arange(4.0), blob1=torch.tensor([5.0, 6, 7, 8])
    ).double()
    (top,), diff = _run(layer, x, seed)
    scale = np.arange(4.0)[:, None, None]
    np.testing.assert_allclose(top.numpy(), x * scale + (np.arange(4.0) + 5)[:, None, None], rtol=1e-12)
    np.testing.assert_allclose(diff.numpy(), seed * scale, rtol=1e-12)
    np.testing.assert_allclose(layer.blobs[0].grad.numpy()[0, :, 0, 0], (x * seed).sum((0, 2, 3)), rtol=1e-12)
    assert not layer.survives_in_place
    with pytest.raises(LayerError, match="INFERENCE.*expected one"):
        one_layer("BN", "bn_param { bn_mode: INFERENCE }", SHAPE, tops=("y", "m"))


def test_constant_channels_are_the_shift() -> None:
    for body in ("scale_filler { value: 3 }", "slope_filler { value: 3 }"):
        for shape in ((2, 1, 2, 2), (1, 1, 1, 1)):
            layer = one_layer("BN", f"bn_param {{ {body} }}", shape, phase="TRAIN", blob1=torch.tensor([0.5]))
            top = layer(torch.full(shape, 7.0))
            assert (top[0] if isinstance(top, tuple) else top).flatten().unique().tolist() == [0.5]


def test_averages_move_and_tests_use_them() -> None:
    x, seed = _values(*SHAPE), _values(*SHAPE, seed=1)
    slope, bias = _values(4, seed=2), _values(4, seed=3)
    blobs = {"blob0": torch.from_numpy(slope), "blob1": torch.from_numpy(bias)}
    layer = one_layer("BN", "bn_param { momentum: 0.7 eps: 0.1 }", SHAPE, phase="TRAIN", **blobs).double().train()
    with torch.no_grad():
        layer.blobs[0].copy_(torch.from_numpy(slope).view(1, 4, 1, 1))
        layer.blobs[1].copy_(torch.from_numpy(bias).view(1, 4, 1, 1))
        layer.blobs[2].fill_(2)
        layer.blobs[3].fill_(3)
    (top,), diff = _run(layer, x, seed)
    mean, variance = _statistics(x)
    normed = _normed(x, mean, variance, layer.eps)
    dx, dslope, dbias = _backward(normed, seed, slope, 1 / np.sqrt(variance + layer.eps))
    np.testing.assert_allclose(top.numpy(), normed * slope[:, None, None] + bias[:, None, None], rtol=1e-10)
    for found, value in ((diff, dx), (layer.blobs[0].grad, dslope), (layer.blobs[1].grad, dbias)):
        np.testing.assert_allclose(found.numpy().reshape(value.shape), value, rtol=1e-8, atol=1e-10)
    kept = [layer.blobs[index].detach().numpy().reshape(-1) for index in (2, 3)]
    m = layer.momentum
    np.testing.assert_allclose(kept[0], m * 2 + (1 - m) * mean, rtol=1e-12)
    np.testing.assert_allclose(kept[1], m * 3 + (1 - m) * variance, rtol=1e-12)
    layer.eval()
    layer.zero_grad()
    (top,), diff = _run(layer, x, seed)
    normed = _normed(x, kept[0], kept[1], layer.eps)
    np.testing.assert_allclose(top.numpy(), normed * slope[:, None, None] + bias[:, None, None], rtol=1e-10)
    dx, dslope, dbias = _backward(normed, seed, slope, 1 / np.sqrt(kept[1] + layer.eps))
    for found, value in ((diff, dx), (layer.blobs[0].grad, dslope), (layer.blobs[1].grad, dbias)):
        np.testing.assert_allclose(found.numpy().reshape(value.shape), value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_frozen_uses_averages_and_learns_nothing(phase: str) -> None:
    x, seed = _values(*SHAPE), _values(*SHAPE, seed=1)
    net = one_net(
        "BN", "param { lr_mult: 1 } bn_param { frozen: true slope_filler { value: 2 } }", [SHAPE], phase=phase
    )
    assert [learnable.lr_mult for learnable in net.learnables] == [0, 0, 0, 0]
    layer = net.double().layer("under_test")
    assert layer.blobs[3].flatten().tolist() == [1] * 4
    layer.train(phase == "TRAIN")
    (top,), diff = _run(layer, x, seed)
    np.testing.assert_allclose(top.numpy(), 2 * x / np.sqrt(1 + layer.eps), rtol=1e-9)
    np.testing.assert_allclose(diff.numpy(), 2 * seed / np.sqrt(1 + layer.eps), rtol=1e-9)
    assert all(blob.grad is None for blob in layer.blobs) and layer.blobs[2].flatten().tolist() == [0] * 4


def test_no_solver_updates_the_averages_whatever_is_written() -> None:
    net = one_net("BN", "param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 3 } param {}", [SHAPE])
    assert [learnable.lr_mult for learnable in net.learnables] == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("bn_param { scale_filler {} shift_filler {} }", ScaleShiftBN),
        ("bn_param { bn_mode: LEARN }", ScaleShiftBN),
        ("bn_param { slope_filler {} }", MovingBN),
        ("bn_param { frozen: false }", MovingBN),
        ("param {} param {} param {} param {}", MovingBN),
    ],
)
def test_the_fields_tell_which_is_meant(body: str, kind: type) -> None:
    assert type(one_layer("BN", body, SHAPE)) is kind


def test_nothing_and_both_are_errors() -> None:
    with pytest.raises(LayerError, match=r"fit no meaning of the type \(pspnet, segnet\)"):
        one_layer("BN", "", SHAPE)
    with pytest.raises(LayerError, match=r"fit 2 meanings of the type \(pspnet, segnet\)"):
        one_layer("BN", "bn_param { scale_filler {} slope_filler {} }", SHAPE)
    with pytest.raises(LayerError, match="bn_param.eps is 0"):
        one_layer("BN", "bn_param { eps: 0 }", SHAPE)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 4), (4,)])
def test_weights_may_have_other_axes_of_size_1(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """PSPNet writes 1 x C x 1 x 1, yjxiong 1 x C."""
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 2 dim: 2 } } }\n'
        'layer { name: "bn" type: "BN" bottom: "x" top: "y" bn_param { slope_filler {} } }\n'
    )
    model = caffe_pb2.NetParameter()
    layer = model.layer.add(name="bn", type="BN")
    for number in range(4):
        layer.blobs.add(data=[number + 1.0, 2, 3, 4], shape={"dim": shape})
    (tmp_path / "net.caffemodel").write_bytes(model.SerializeToString())
    net = load_net(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert [blob.flatten()[0].item() for blob in net.layer("bn").blobs] == [1, 2, 3, 4]
    layer.blobs[1].shape.dim[:] = [2, 2]
    (tmp_path / "net.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="shape mismatch"):
        load_net(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
