"""DenseBlock against loops written from the GPU code of senlinuc/caffe_ocr."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer

FILLERS = 'Filter_Filler { type: "gaussian" std: 0.4 } BN_Scaler_Filler { value: 1 }'


def _layer(more: str, phase: str) -> Layer:
    torch.manual_seed(1)
    body = f"denseblock_param {{ numTransition: 2 growthRate: 2 moving_average_fraction: 0.25 {FILLERS} {more} }}"
    layer = one_layer("DenseBlock", body, (2, 3, 4, 3), phase=phase).double()
    random = np.random.default_rng(2)
    with torch.no_grad():
        for blob in layer.blobs:
            low = 0.5 if not blob.requires_grad else -1.0
            blob.copy_(torch.from_numpy(random.uniform(low, 1.5, blob.shape)))
    return layer


def _normal(x: np.ndarray, blobs: list[np.ndarray], train: bool) -> np.ndarray:
    """cuDNN's, and what the layer does of its running averages."""
    scale, shift, mean, variance = blobs
    top = np.empty_like(x)
    for c in range(x.shape[1]):
        values = [x[n, c, h, w] for n in range(len(x)) for h in range(x.shape[2]) for w in range(x.shape[3])]
        centre, spread = mean[0, c, 0, 0], variance[0, c, 0, 0]
        if train:
            centre = sum(values) / len(values)
            squares = sum((value - centre) ** 2 for value in values)
            spread = squares / len(values)
            mean[0, c, 0, 0] = 0.25 * centre + 0.75 * mean[0, c, 0, 0]
            variance[0, c, 0, 0] = 0.25 * squares / (len(values) - 1) + 0.75 * variance[0, c, 0, 0]
        top[:, c] = scale[0, c, 0, 0] * (x[:, c] - centre) / np.sqrt(spread + 1e-5) + shift[0, c, 0, 0]
    return np.maximum(top, 0)


def _convolved(x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    pad = filters.shape[2] // 2
    wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    top = np.zeros((len(x), len(filters), *x.shape[2:]))
    for n, o, h, w in np.ndindex(*top.shape):
        top[n, o, h, w] = (wide[n, :, h : h + 2 * pad + 1, w : w + 2 * pad + 1] * filters[o]).sum()
    return top


def _slow(x: np.ndarray, blobs: list[np.ndarray], bottleneck: bool, train: bool) -> np.ndarray:
    """Changes the averages in ``blobs``."""
    for index in range(2):
        new = _normal(x, [blobs[2 * part + index] for part in (1, 2, 3, 4)], train)
        if bottleneck:
            new = _convolved(new, blobs[10 + index])
            new = _normal(new, [blobs[2 * part + index] for part in (6, 7, 8, 9)], train)
        x = np.concatenate([x, _convolved(new, blobs[index])], 1)
    return x


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_against_loops(bottleneck: bool, phase: str) -> None:
    layer = _layer("use_BC: true" if bottleneck else "", phase)
    blobs = [blob.detach().numpy().copy() for blob in layer.blobs]
    assert [blob.shape for blob in blobs[:2]] == ([(2, 8, 3, 3)] * 2 if bottleneck else [(2, 3, 3, 3), (2, 5, 3, 3)])
    assert len(blobs) == (21 if bottleneck else 11)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 3))
    for _ in range(2):
        want = _slow(x, blobs, bottleneck, phase == "TRAIN")
        np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), want, rtol=1e-9, atol=1e-9)
    for blob, expected in zip(layer.blobs, blobs, strict=True):
        np.testing.assert_allclose(blob.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_gradients(bottleneck: bool) -> None:
    """In TRAIN, by finite differences."""
    layer = _layer("use_BC: true" if bottleneck else "", "TRAIN")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 2, 2))).requires_grad_()
    learned = [blob for blob in layer.blobs if blob.requires_grad]
    assert len(learned) == (12 if bottleneck else 6)
    assert torch.autograd.gradcheck(lambda *_: layer(x), (x, *learned), eps=1e-6, atol=1e-6)


def test_the_gradient_in_test_is_that_of_normalization_by_the_batch() -> None:
    body = f"denseblock_param {{ numTransition: 1 growthRate: 2 {FILLERS} }}"
    found = []
    for phase in ("TRAIN", "TEST"):
        torch.manual_seed(4)
        layer = one_layer("DenseBlock", body, (2, 3, 4, 3), phase=phase)
        with torch.no_grad():
            for index in (3, 4):
                layer.blobs[index].fill_(0.4)
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)).requires_grad_()
        top = layer(x)
        (top * torch.arange(top.numel()).reshape(top.shape)).sum().backward()
        found.append((top.detach(), x.grad, layer.blobs[0].grad))
    train, test = found
    assert not torch.allclose(train[0], test[0])
    assert all(torch.equal(a, b) for a, b in zip(train[1:], test[1:], strict=True))


def test_dropout() -> None:
    layer = _layer("use_dropout: true dropout_amount: 0.5", "TRAIN")
    plain = _layer("", "TRAIN")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 3)))
    got, want = layer(x)[:, 3:5], plain(x)[:, 3:5]
    dropped = got == 0
    assert 0 < int(dropped.sum()) < dropped.numel()
    torch.testing.assert_close(got[~dropped], 2 * want[~dropped])
    assert not torch.equal(layer(x)[:, 3:5] == 0, dropped)
    tested = [_layer(more, "TEST")(x) for more in ("", "use_dropout: true dropout_amount: 0.5")]
    assert torch.equal(*tested)
    assert not _layer("use_dropout: true dropout_amount: 1", "TRAIN")(x)[:, 3:].any()


@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        ("denseblock_param { numTransition: 0 }", (1, 2, 3, 3), "numTransition 0"),
        ("denseblock_param { numTransition: 2147483647 }", (1, 2, 3, 3), "makes 25769803766 channels"),
        ("denseblock_param { growthRate: -1 }", (1, 2, 3, 3), "growthRate -1"),
        ("denseblock_param { dropout_amount: 2 }", (1, 2, 3, 3), "dropout_amount is 2, expected 0 to 1"),
        ("denseblock_param { moving_average_fraction: -1 }", (1, 2, 3, 3), "moving_average_fraction is -1"),
        ("param { lr_mult: 0 }", (1, 2, 3, 3), "has param blocks"),
        ("", (2, 3), "expected 4 axes"),
    ],
)
def test_refusals(body: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_layer("DenseBlock", body, shape)
