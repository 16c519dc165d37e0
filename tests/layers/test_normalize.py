"""Normalize against loops over single numbers, written down from SSD's normalize_layer.cpp."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat import BlobNet, load_net
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.sharing import Reread
from caffe_compat.onnx import export_onnx

SSD = "norm_param { across_spatial: false scale_filler { type: 'constant' value: 20 } channel_shared: false }"
COMBINATIONS = list(itertools.product([False, True], [False, True]))
SHAPE = (3, 4, 2, 3)


def _body(across: bool, shared: bool, eps: float = 0.5) -> str:
    return f"norm_param {{ across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()} eps: {eps} }}"


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _length(x: np.ndarray, item: int, pixel: tuple[int, ...], across: bool, eps: float) -> float:
    total = 0.0
    for place in np.ndindex(x.shape[1:]):
        if across or place[1:] == pixel:
            total += float(x[(item, *place)]) ** 2
    return math.sqrt(total + eps)


def _slow(x: np.ndarray, dy: np.ndarray, scale: np.ndarray, across: bool, eps: float) -> tuple[np.ndarray, ...]:
    """Top, diff of the bottom, diff of the scale; number by number."""
    y, dx, dscale = np.zeros_like(x), np.zeros_like(x), np.zeros_like(scale)
    for index in np.ndindex(x.shape):
        item, channel, *rest = index
        one = () if scale.ndim == 0 else (channel,)
        length = _length(x, item, tuple(rest), across, eps)
        y[index] = x[index] / length * scale[one]
        dscale[one] += y[index] * dy[index] / scale[one]
        dot = 0.0  # of bottom and top diff, without the scales
        for place in np.ndindex(x.shape[1:]):
            if across or place[1:] == tuple(rest):
                dot += x[(item, *place)] * dy[(item, *place)]
        dx[index] = (dy[index] - x[index] * dot / length**2) / length * scale[one]
    return y, dx, dscale


@pytest.mark.parametrize("shape", [SHAPE, (2, 3), (2, 3, 4)])
@pytest.mark.parametrize(("across", "shared"), COMBINATIONS)
def test_number_by_number(across: bool, shared: bool, shape: tuple[int, ...]) -> None:
    layer = one_layer("Normalize", _body(across, shared), shape).double()
    scale = np.array(1.7) if shared else np.linspace(-1.4, 2.5, shape[1])
    with torch.no_grad():
        layer.blobs[0].copy_(torch.from_numpy(scale))
    x, dy = _values(*shape), _values(*shape[::-1]).reshape(shape)
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom)
    top.backward(torch.from_numpy(dy))
    assert layer.blobs[0].shape == scale.shape
    found = (top.detach(), bottom.grad, layer.blobs[0].grad)
    for value, wanted in zip(found, _slow(x, dy, scale, across, layer.eps), strict=True):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-12, atol=1e-13)
    form = layer.backward_form(Reread((bottom.detach(),), (bottom,), (top.detach(),)))
    again = torch.autograd.grad(form, [bottom, layer.blobs[0]], torch.from_numpy(dy))
    torch.testing.assert_close(again, (bottom.grad, layer.blobs[0].grad))


@pytest.mark.parametrize("across", [False, True])
def test_one_scale_per_channel_has_the_derivative_only_where_scales_are_equal(across: bool) -> None:
    layer = one_layer("Normalize", _body(across, False), SHAPE).double()
    bottom = torch.from_numpy(_values(*SHAPE)).requires_grad_()
    with torch.no_grad():
        layer.blobs[0].fill_(3)
    assert torch.autograd.gradcheck(layer, (bottom,))
    with torch.no_grad():
        layer.blobs[0][0] = 1
    assert not torch.autograd.gradcheck(layer, (bottom,), raise_exception=False)


def test_as_ssd_has_it() -> None:
    layer = one_layer("Normalize", SSD, (2, 512, 3, 3))
    assert layer.eps == pytest.approx(1e-10) and layer.blob_shapes == [(512,)]
    assert layer.blobs[0].tolist() == [20] * 512
    top = layer(torch.randn(2, 512, 3, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(top.square().sum(1).sqrt(), torch.full((2, 3, 3), 20.0))


def test_defaults_and_a_vector_of_zeros() -> None:
    layer = one_layer("Normalize", "", (2, 3, 2, 2))
    assert layer.across and layer.shared and layer.blob_shapes == [()] and layer.blobs[0].item() == 1
    bottom = torch.zeros(2, 3, 2, 2, requires_grad=True)
    layer(bottom).sum().backward()
    assert not bottom.grad.isnan().any() and layer(bottom).abs().sum() == 0
    torch.testing.assert_close(bottom.grad, torch.full_like(bottom, 1e5))  # 1 / sqrt(eps)


def test_scale_zero_has_a_gradient() -> None:
    """Caffe divides the top by the scale: 0 / 0.  What that quotient stands for is known."""
    layer = one_layer("Normalize", _body(False, False), (1, 2, 1, 1), blob0=torch.zeros(2))
    layer(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).sum().backward()
    torch.testing.assert_close(layer.blobs[0].grad, torch.tensor([3.0, 4.0]) / math.sqrt(25.5))


def _chain(across: bool, shared: bool, later: str) -> str:
    """``y`` is the top of Normalize, whose bottom is in one buffer with ``x``; ``later`` overwrites buffers."""
    return f"""
    force_backward: true
    layer {{ name: "in" type: "Input" top: "in" input_param {{ shape {{ dim: 2 dim: 3 dim: 2 dim: 2 }} }} }}
    layer {{ name: "first" type: "Power" bottom: "in" top: "first" }}
    layer {{ name: "both" type: "Split" bottom: "first" top: "same" top: "x" }}
    layer {{ name: "norm" type: "Normalize" bottom: "same" top: "y" {_body(across, shared)} }}
    {later}
    layer {{ name: "out" type: "Eltwise" bottom: "x" bottom: "y" top: "out" }}
    layer {{ name: "loss" type: "Reduction" bottom: "out" top: "loss" loss_weight: 0.5
      reduction_param {{ operation: SUMSQ }} }}
    """


def _in_place(blob: str) -> str:
    return f'layer {{ name: "tanh_{blob}" type: "TanH" bottom: "{blob}" top: "{blob}" }}'


@pytest.mark.parametrize("overwritten", ["", "x", "y", "xy"])
@pytest.mark.parametrize(("across", "shared"), COMBINATIONS)
def test_gradients_where_buffers_were_overwritten(tmp_path: Path, across: bool, shared: bool, overwritten: str) -> None:
    """Caffe reads bottom and top as they are by then, and keeps the lengths."""
    path = tmp_path / "net.prototxt"
    path.write_text(_chain(across, shared, "".join(map(_in_place, overwritten))))
    net = load_net(path)
    parameter = net.layer("norm").blobs[0]
    scale = np.array(2.0) if shared else np.array([0.5, 1.0, 2.0])
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(scale))
    x = _values(2, 3, 2, 2)
    dx, dscale = _expected(x, scale, across, overwritten)
    bottom = torch.from_numpy(x).float().requires_grad_()
    net.loss(net(**{"in": bottom})).backward()
    assert bottom.grad is not None and parameter.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), dx, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parameter.grad.numpy(), dscale, rtol=1e-4, atol=1e-5)
    parameter.grad = None
    engine = BlobNet(net)
    engine.blob("in").data[...] = x
    engine.forward()
    engine.backward()
    np.testing.assert_allclose(engine.blob("in").diff, dx, rtol=1e-4, atol=1e-5)
    number = next(i for i, node in enumerate(net.plan.nodes) if node.name == "norm")
    np.testing.assert_allclose(engine.param_blob(number, 0).diff, dscale, rtol=1e-4, atol=1e-5)


def _expected(x: np.ndarray, scale: np.ndarray, across: bool, overwritten: str) -> tuple[np.ndarray, np.ndarray]:
    """Diff of the input and of the scale, with Caffe's formulas on buffers."""
    y, _, _ = _slow(x, x, scale, across, 0.5)
    x_now = np.tanh(x) if "x" in overwritten else x
    y_now = np.tanh(y) if "y" in overwritten else y
    out = x_now + y_now  # and its own diff
    dx = out * (1 - x_now**2) if "x" in overwritten else out
    dy = out * (1 - y_now**2) if "y" in overwritten else out
    axes, column = ((1, 2, 3) if across else (1,)), scale.reshape(-1, 1, 1)
    length = np.sqrt(np.square(x).sum(axes, keepdims=True) + 0.5)
    along = (x_now * dy).sum(axes, keepdims=True) / length**2
    products = y_now * dy
    dscale = products.sum() / scale if scale.ndim == 0 else products.sum((0, 2, 3)) / scale
    return dx + (dy - x_now * along) / length * column, dscale


def test_in_place_is_the_same_but_has_no_gradient_of_the_bottom() -> None:
    x = torch.from_numpy(_values(*SHAPE)).float()
    layer = one_layer("Normalize", SSD, SHAPE, tops=("x0",))
    torch.testing.assert_close(layer(x), one_layer("Normalize", SSD, SHAPE)(x))
    layer(x).sum().backward()  # the scale's is right in place too
    torch.testing.assert_close(layer.blobs[0].grad, (layer(x) / 20).detach().sum((0, 2, 3)))
    with pytest.raises(LayerError, match="under_test.*in place"):
        layer(x.requires_grad_()).sum().backward()
    with pytest.raises(LayerError, match="under_test.*in place"):
        y = layer.backward_form(Reread((x,), (x,), (layer(x).detach(),)))
        y.sum().backward()


@pytest.mark.parametrize("opset", range(17, 22))
@pytest.mark.parametrize("shape", [SHAPE, (2, 3), (2, 3, 4)])
@pytest.mark.parametrize(("across", "shared"), COMBINATIONS)
def test_onnx(across: bool, shared: bool, shape: tuple[int, ...], opset: int) -> None:
    net = one_net("Normalize", _body(across, shared), [shape])
    with torch.no_grad():
        net.layer("under_test").blobs[0].copy_(torch.tensor(1.5) if shared else torch.linspace(0.5, 3, shape[1]))
    model = export_onnx(net, opset=opset, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = _values(*shape).astype(np.float32)
    (found,) = session.run(None, {"x0": x})
    with torch.no_grad():
        np.testing.assert_allclose(found, net(x0=torch.from_numpy(x))["y"].numpy(), rtol=1e-5, atol=1e-6)


def test_refusals() -> None:
    for shape in ((3,), (1, 2, 1, 1, 1)):
        with pytest.raises(ShapeError, match="(2 to|at most) 4 axes"):
            one_layer("Normalize", "", shape)
    with pytest.raises(ShapeError, match="4 channels"):
        one_layer("Normalize", _body(True, False), SHAPE).top_shapes([(3, 5, 2, 3)])
    assert one_layer("Normalize", _body(True, True), SHAPE).top_shapes([(3, 5, 2, 3)]) == [(3, 5, 2, 3)]
    with pytest.raises(LayerError, match="at least one axis"):
        one_layer("Normalize", "norm_param { scale_filler { type: 'xavier' } }", SHAPE)
