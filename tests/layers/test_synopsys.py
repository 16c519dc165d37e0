"""What synopsys-caffe adds to Caffe's layers and its operators, against loops written down from its source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases_synopsys import PAD
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.synopsys import CappedReLU, SidedConvolution


def _slow_pool(x: np.ndarray, kernel: int, stride: int, pads: tuple[int, int, int, int], method: str) -> np.ndarray:
    """Forward_cpu of pooling_layer.cpp, of one map; pads top, bottom, left, right; sizes rounded up."""
    top, bottom, left, right = pads
    height, width = x.shape
    outs = []
    for size, before, after in ((height, top, bottom), (width, left, right)):
        out = -(-(size + before + after - kernel) // stride) + 1
        outs.append(out - 1 if (out - 1) * stride >= size + before else out)
    result = np.zeros(outs)
    for i, j in np.ndindex(*outs):
        h, w = i * stride - top, j * stride - left
        h1, w1 = min(h + kernel, height + bottom), min(w + kernel, width + right)
        if method == "AVE":
            area = (h1 - h) * (w1 - w)
        h, w, h1, w1 = max(h, 0), max(w, 0), min(h1, height), min(w1, width)
        if method == "AVE_EXC_PAD":
            area = (h1 - h) * (w1 - w)
        part = x[h:h1, w:w1]
        result[i, j] = part.max() if method == "MAX" else part.sum() / area
    return result


@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (1, 0, 0, 0), (1, 1, 0, 1), (0, 0, 1, 0)])
def test_pooling_by_side(method: str, kernel: int, stride: int, pads: tuple[int, int, int, int]) -> None:
    x = np.random.default_rng(kernel).normal(size=(5, 6))
    sides = " ".join(f"pad_{side}: {pad}" for side, pad in zip("tblr", pads, strict=True))
    layer = one_layer(
        "Pooling", f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} {sides} }}", (1, 1, 5, 6)
    )
    top = layer(torch.from_numpy(x)[None, None])[0, 0]
    np.testing.assert_allclose(top.numpy(), _slow_pool(x, kernel, stride, pads, method), rtol=1e-12)


def test_means_without_padding_where_pads_are_even() -> None:
    x = np.random.default_rng(0).normal(size=(6, 6))
    layer = one_layer("Pooling", "pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1 }", (1, 1, 6, 6))
    want = _slow_pool(x, 3, 2, (1, 1, 1, 1), "AVE_EXC_PAD")
    np.testing.assert_allclose(layer(torch.from_numpy(x)[None, None])[0, 0].numpy(), want, rtol=1e-12)


@pytest.mark.parametrize(("pads", "stride"), [((0, 1, 0, 1), 2), ((1, 2, 3, 0), 1), ((2, 0, 0, 0), 3)])
def test_convolution_by_side(pads: tuple[int, int, int, int], stride: int) -> None:
    top, bottom, left, right = pads
    sides = " ".join(f"pad_{side}: {pad}" for side, pad in zip("tblr", pads, strict=True))
    filler = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    body = f"convolution_param {{ num_output: 2 kernel_size: 3 stride: {stride} {sides} {filler} }}"
    layer = one_layer("Convolution", body, (1, 3, 5, 6)).double()
    assert type(layer) is SidedConvolution
    x = np.random.default_rng(1).normal(size=(3, 5, 6))
    wide = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    weight, bias = layer.blob(0).detach().numpy(), layer.blob(1).detach().numpy()
    outs = (5 + top + bottom - 3) // stride + 1, (6 + left + right - 3) // stride + 1
    want = np.zeros((2, *outs))
    for o, i, j in np.ndindex(2, *outs):
        part = wide[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
        want[o, i, j] = (part * weight[o]).sum() + bias[o]
    got = layer(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (3, 2), (2, 3), (4, 3), (1, 2)])
@pytest.mark.parametrize("size", [(5, 6), (4, 7)])
def test_pooling_as_tensorflow_pads(method: str, kernel: int, stride: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(kernel).normal(size=size)
    body = f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad_type: 1 }}"
    top = one_layer("Pooling", body, (1, 1, *size))(torch.from_numpy(x)[None, None])[0, 0].numpy()
    assert top.shape == tuple(-(-n // stride) for n in size)
    before = []
    for n in size:
        along = max(kernel - stride, 0) if n % stride == 0 else max(kernel - n % stride, 0)
        before.append(along // 2)
    for i, j in np.ndindex(*top.shape):
        h, w = i * stride - before[0], j * stride - before[1]
        part = x[max(h, 0) : max(h + kernel, 0), max(w, 0) : max(w + kernel, 0)]
        area = part.size if method == "AVE_EXC_PAD" else kernel**2
        want = part.max() if method == "MAX" else part.sum() / area
        np.testing.assert_allclose(top[i, j], want, rtol=1e-12)


def _slow_deviation_norm(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    """Forward_cpu of batch_norm_layer.cpp without add_eps_before_sqrt; x is N x C x S."""
    top = np.zeros_like(x)
    for n, c, s in np.ndindex(*x.shape):
        top[n, c, s] = (x[n, c, s] - mean[c]) / (np.sqrt(variance[c]) + eps)
    return top


def test_eps_beside_the_deviation() -> None:
    x, rng = np.random.default_rng(2).normal(size=(3, 2, 5)), np.random.default_rng(3)
    mean, variance = rng.normal(size=2), rng.random(2)
    body = "batch_norm_param { add_eps_before_sqrt: false eps: 0.25 moving_average_fraction: 0.5 }"
    blobs = {"blob0": 2 * mean, "blob1": 2 * variance, "blob2": np.array([2.0])}
    stored = one_layer("BatchNorm", body, x.shape).double()
    with torch.no_grad():
        for index, values in enumerate(blobs.values()):
            stored.blobs[index].copy_(torch.from_numpy(values))
    got = stored(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, _slow_deviation_norm(x, mean, variance, 0.25), rtol=1e-12)
    learning = one_layer("BatchNorm", body, x.shape, phase="TRAIN").double()
    bottom = torch.from_numpy(x).requires_grad_()
    top = learning(bottom)
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    y = _slow_deviation_norm(x, mean, variance, 0.25)
    np.testing.assert_allclose(top.detach().numpy(), y, rtol=1e-10)
    np.testing.assert_allclose(learning.blobs[0].numpy(), mean, rtol=1e-10)
    np.testing.assert_allclose(learning.blobs[1].numpy(), variance * 15 / 14, rtol=1e-10)
    assert learning.blobs[2].item() == 1
    dy = rng.normal(size=x.shape)
    top.backward(torch.from_numpy(dy))
    deviation = np.sqrt(variance) + 0.25  # temp_ of Backward_cpu
    inner = (dy * y).mean((0, 2))[:, None] * y + dy.mean((0, 2))[:, None]
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), (dy - inner) / deviation[:, None], rtol=1e-10)


def test_add_repeats_axes_of_one() -> None:
    a, b = torch.randn(2, 3, 4, 5), torch.randn(3, 1, 1)
    torch.testing.assert_close(one_layer("Add", "", a.shape, b.shape)(a, b), a + b)
    torch.testing.assert_close(one_layer("Add", "", b.shape, a.shape)(b, a), a + b)


def test_paddings_of_zero_are_none() -> None:
    body = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 pad_l: 0 pad_r: 0 pad_t: 0 pad_b: 0 }"
    assert one_layer("Convolution", body, (1, 3, 5, 6)).top_shapes([(1, 3, 5, 6)]) == [(1, 2, 5, 6)]


def test_hard_swish() -> None:
    x = torch.tensor([-4.0, -3, -1.5, 0, 1, 3, 5])
    want = torch.tensor([0, 0, -1.5 * 1.5 / 6, 0, 4 / 6, 3, 5])
    torch.testing.assert_close(one_layer("HardSwish", "", (7,))(x), want)


def test_relu_to_6() -> None:
    layer = one_layer("ReLU", "relu_param { relu6: true negative_slope: 0.5 }", (4,))
    assert type(layer) is CappedReLU
    x = torch.tensor([-2.0, 0.5, 6, 9], requires_grad=True)
    top = layer(x)
    top.sum().backward()
    assert top.tolist() == [-1, 0.5, 6, 6] and x.grad is not None and x.grad.tolist() == [0.5, 1, 0, 0]


def test_mul_repeats_axes_of_one() -> None:
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(one_layer("Mul", "", a.shape, b.shape)(a, b), a * b)
    a, b = torch.randn(4, 5), torch.randn(2, 1, 5)
    torch.testing.assert_close(one_layer("Mul", "", a.shape, b.shape)(a, b), a * b)
    layer = one_layer("Mul", "mul_param { mul_shape: 3 mul_shape: 1 }", (2, 3, 4))
    with torch.no_grad():
        layer.blob(0).copy_(torch.tensor([[1.0], [2], [3]]))
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(layer(x), x * torch.tensor([[1.0], [2], [3]]))


def test_darknet_reorg() -> None:
    """The loop of darknet.py, over a bottom that is read as 1 x 2 x 8 x 4."""
    x = torch.arange(64, dtype=torch.float64).view(1, 8, 4, 2).requires_grad_()
    wide, want = x.detach().reshape(1, 2, 8, 4), torch.zeros(1, 8, 4, 2, dtype=torch.float64)
    for k, y, z in np.ndindex(8, 4, 2):
        offset = k // 2
        want[0, k, y, z] = wide[0, k % 2, y * 2 + offset // 2, z * 2 + offset % 2]
    top = one_layer("Python", 'python_param { module: "yolov2" layer: "darknet_reorg" }', x.shape)(x)
    assert torch.equal(top, want.reshape(1, 32, 2, 1))
    with pytest.raises(LayerError, match="no gradient"):
        top.sum().backward()


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad_tensor(mode: str) -> None:
    x = np.random.default_rng(6).normal(size=(1, 2, 3, 4))
    top = one_layer("Python", PAD % mode, x.shape)(torch.from_numpy(x))
    np.testing.assert_array_equal(top.numpy(), np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)), mode))


_CONV = "convolution_param { num_output: 1 kernel_size: 3 %s }"
_POOL = "pooling_param { %s }"


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "error", "what"),
    [
        ("Convolution", _CONV % "pad: 1 pad_l: 1", [(1, 1, 4, 4)], LayerError, "one form"),
        ("Convolution", _CONV % "pad_l: -1", [(1, 1, 4, 4)], LayerError, "is negative"),
        ("Convolution", _CONV % "pad_l: 1", [(1, 1, 4)], LayerError, "2 spatial axes"),
        ("Deconvolution", _CONV % "pad_l: 1", [(1, 1, 4, 4)], LayerError, "pad_l means nothing"),
        ("Pooling", _POOL % "kernel_size: 3 pad: 1 pad_l: 1", [(1, 1, 4, 4)], LayerError, "pad OR pad_t"),
        ("Pooling", _POOL % "kernel_size: 3 pad_r: 3", [(1, 1, 4, 4)], LayerError, "less than the kernel"),
        ("Pooling", _POOL % "global_pooling: true pad_r: 1", [(1, 1, 4, 4)], LayerError, "global_pooling with pad"),
        ("Pooling", _POOL % "kernel_size: 3 pad_type: 2", [(1, 1, 4, 4)], LayerError, "pad_type is 2"),
        ("Pooling", _POOL % "kernel_size: 3 pad_type: 1 pad: 1", [(1, 1, 4, 4)], LayerError, "pad_type and another"),
        ("Add", "", [(2, 3), (3, 2)], ShapeError, "expected equal sizes or 1"),
        ("Python", PAD % "wrap", [(1, 1, 4, 4)], LayerError, "a pad_mode of constant, edge, reflect"),
        ("Python", PAD % "reflect", [(1, 1, 2, 4)], ShapeError, "too small to be reflected"),
        ("Squeeze", "squeeze_param { axis: 1 }", [(1, 2, 1)], ShapeError, "axis 1 of the bottom's"),
        ("Mul", "", [(2, 3), (3, 2)], ShapeError, "expected equal sizes or 1"),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer(kind, body, *shapes)
