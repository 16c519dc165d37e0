"""Pooling and SPP against a slow reference written from Caffe's rules, and figures measured on Caffe."""

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from gpu import cases, needs_gpu
from one_layer import numbers, one_layer, one_net, seq

from caffe_compat.errors import ExportError, LayerError, ShapeError
from caffe_compat.net import load_net
from caffe_compat.onnx import Session, export_onnx

CASES = Path(__file__).parents[1] / "data" / "onnx"
FLT_MAX = torch.finfo(torch.float32).max


def slow_sizes(image, kernel, stride, pad, floor):
    outs = []
    for n, k, s, p in zip(image, kernel, stride, pad, strict=True):
        out = (math.floor if floor else math.ceil)((n + 2 * p - k) / s) + 1
        if any(pad) and (out - 1) * s >= n + p:
            out -= 1
        outs.append(out)
    return outs


def slow_pool(x, method, kernel, stride, pad, floor=False, dy=None):
    """Top, mask and (for a gradient dy of the top) the gradient of the bottom."""
    height, width = x.shape[2:]
    outs = slow_sizes((height, width), kernel, stride, pad, floor)
    top, mask, dx = x.new_zeros(*x.shape[:2], *outs), x.new_zeros(*x.shape[:2], *outs), torch.zeros_like(x)
    for n, c, i, j in itertools.product(*map(range, top.shape)):
        h0, w0 = i * stride[0] - pad[0], j * stride[1] - pad[1]
        h1, w1 = min(h0 + kernel[0], height + pad[0]), min(w0 + kernel[1], width + pad[1])
        area = (h1 - h0) * (w1 - w0)
        rows, columns = range(max(h0, 0), min(h1, height)), range(max(w0, 0), min(w1, width))
        best, place, total = -FLT_MAX, -1, 0.0
        for h, w in itertools.product(rows, columns):
            value = x[n, c, h, w].item()
            total += value
            if value > best:
                best, place = value, h * width + w
            if dy is not None and method == "AVE":
                dx[n, c, h, w] += dy[n, c, i, j] / area
        if method == "MAX":
            top[n, c, i, j], mask[n, c, i, j] = best, place
            if dy is not None and place >= 0:
                dx[n, c].view(-1)[place] += dy[n, c, i, j]
        else:
            top[n, c, i, j] = total / area if area else math.nan
    return top, mask, dx


def body(method, kernel, stride, pad, floor=False):
    sides = zip(("kernel", "stride", "pad"), (kernel, stride, pad), strict=True)
    text = " ".join(f"{name}_h: {h} {name}_w: {w}" for name, (h, w) in sides)
    return f"pooling_param {{ pool: {method} {text} round_mode: {'FLOOR' if floor else 'CEIL'} }}"


def configurations():
    draw = random.Random(5)
    for _ in range(60):
        kernel = draw.randint(1, 4), draw.randint(1, 4)
        stride = draw.randint(1, 5), draw.randint(1, 5)
        pad = tuple(draw.randrange(k) if draw.random() < 0.6 else 0 for k in kernel)
        image = draw.randint(2, 8), draw.randint(2, 8)
        floor = draw.random() < 0.3
        if min(slow_sizes(image, kernel, stride, pad, floor)) > 0:
            yield image, kernel, stride, pad, floor


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("image", "kernel", "stride", "pad", "floor"), list(configurations()))
def test_any_window(method, image, kernel, stride, pad, floor):
    x = seq(2, 2, *image).requires_grad_()  # many ties
    tops = ("y", "mask") if method == "MAX" else ("y",)
    text = body(method, kernel, stride, pad, floor)
    plain, layer = one_layer("Pooling", text, x.shape), one_layer("Pooling", text, x.shape, tops=tops)
    y = plain(x)
    dy = torch.arange(y.numel(), dtype=torch.float32).view(y.shape) + 1
    (dx,) = torch.autograd.grad(y, x, dy)
    top, mask, slow_dx = slow_pool(x.detach(), method, kernel, stride, pad, floor, dy)
    assert plain.top_shapes([x.shape]) == [tuple(top.shape)]
    torch.testing.assert_close(y.detach(), top, equal_nan=method == "AVE" and not any(pad))  # 0 / 0 beyond the image
    torch.testing.assert_close(dx, slow_dx)
    if method == "MAX":
        both = layer(x)
        torch.testing.assert_close(both[0].detach(), top)
        torch.testing.assert_close(both[1], mask)
        assert not both[1].requires_grad
        torch.testing.assert_close(torch.autograd.grad(both[0], x, dy)[0], slow_dx)


def test_nan_and_minus_infinity_are_never_the_maximum():
    x = torch.tensor([[math.nan, 1, -math.inf, -math.inf], [2, 0, -math.inf, math.nan]]).view(1, 1, 2, 4)
    text = "pooling_param { kernel_size: 2 stride: 2 }"
    for tops in (("y",), ("y", "mask")):
        found = one_layer("Pooling", text, x.shape, tops=tops)(x)
        top = found if len(tops) == 1 else found[0]
        assert top.flatten().tolist() == [2, -FLT_MAX]
    assert found[1].flatten().tolist() == [4, -1]


def test_figures_measured_on_caffe():
    x = seq(1, 1, 4, 4).requires_grad_()
    three = "pooling_param { pool: %s kernel_size: 3 stride: 2 pad: 1 }"
    y = one_layer("Pooling", three % "MAX", x.shape)(x)
    assert torch.equal(y.detach().flatten(), numbers("0.8 0.8 0.2 1 0.8 0.2 0.6 0.6 0"))
    (dx,) = torch.autograd.grad(y, x, seq(1, 1, 3, 3))
    torch.testing.assert_close(dx.flatten(), numbers("0 0 0 0 0 -1.2 0 1.4 -0.8 0 0 0 0 -0.4 0 1"))
    y = one_layer("Pooling", three % "AVE", x.shape)(x)
    expected = numbers("-0.0444444 0 -0.1 0.2 -0.0888889 -0.133333 0.0666667 -0.0333333 0")
    torch.testing.assert_close(y.detach().flatten(), expected, atol=1e-6, rtol=1e-5)
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert one_layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", x.shape)(x).item() == 1.5


def test_windows_beyond_the_image():
    x = torch.ones(1, 1, 5, 5)
    y = one_layer("Pooling", "pooling_param { kernel_size: 1 stride: 3 }", x.shape)(x)[0, 0]
    assert y[2].tolist() == [-FLT_MAX] * 3 and y[:2, :2].tolist() == [[1, 1], [1, 1]]
    y = one_layer("Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }", x.shape)(x)[0, 0]
    assert y[2].tolist() == [0, 0, 0] and torch.signbit(y[2]).tolist() == [True, True, False]
    y = one_layer("Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }", (1, 1, 3, 4))(x[:, :, :3, :4])
    assert y[0, 0, 1, 0].isnan()


def test_global_pooling_follows_the_image():
    layer = one_layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", (1, 2, 3, 4))
    x = torch.rand(2, 2, 5, 7)
    torch.testing.assert_close(layer(x), x.mean((2, 3), keepdim=True))
    assert layer.top_shapes([(2, 2, 5, 7)]) == [(2, 2, 1, 1)]


def test_stochastic_test_phase_weights_values_with_themselves():
    x = torch.tensor([[1.0, 3, 0, 0, 2], [0, 0, 0, 0, 4]]).view(1, 1, 2, 5)
    layer = one_layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", x.shape)
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([2.5, 0, 20 / 6]))


def test_stochastic_training_picks_in_proportion():
    torch.manual_seed(3)
    x = torch.tensor([[1.0, 3], [0, 4]]).repeat(1, 1, 60, 60).requires_grad_()
    text = "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"
    y = one_layer("Pooling", text, x.shape, phase="TRAIN")(x)
    shares = [(y == value).float().mean().item() for value in (1, 3, 0, 4)]
    assert shares == pytest.approx([1 / 8, 3 / 8, 0, 4 / 8], abs=0.03)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert dx.sum() == y.numel() and torch.equal((dx * x.detach()).sum(), y.detach().sum())


def test_spp():
    x = seq(1, 1, 5, 5).requires_grad_()
    y = one_layer("SPP", "spp_param { pyramid_height: 2 pool: AVE }", x.shape)(x)
    expected = numbers("-0.024 -0.111111 0.0666667 0.0222222 -0.0444444").view(1, 5)
    torch.testing.assert_close(y.detach(), expected, atol=1e-6, rtol=1e-5)
    (dx,) = torch.autograd.grad(y, x, seq(1, 5))
    row = "-0.0622222 -0.0622222 0.0266667 0.0266667 0.0266667 "
    last = "-0.128889 -0.128889 -0.04 -0.04 -0.04 "
    torch.testing.assert_close(dx.flatten(), numbers(2 * row + 3 * last), atol=1e-6, rtol=1e-5)
    layer = one_layer("SPP", "spp_param { pyramid_height: 3 }", (2, 3, 8, 9))
    assert layer(torch.rand(2, 3, 12, 7)).shape == (2, 3 * 21)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stride: 2", "expected kernel_size OR"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "expected kernel_size OR"),
        ("kernel_h: 2", "expected kernel_size OR"),
        ("kernel_size: 0", "positive"),
        ("kernel_size: 2 stride: 0", "positive"),
        ("kernel_size: 3 pad: 1 pad_h: 1 pad_w: 1", "pad OR both"),
        ("kernel_size: 3 stride_h: 1", "stride OR both"),
        ("kernel_size: 2 pad: 2", "less than the kernel"),
        ("global_pooling: true kernel_size: 2", "global_pooling"),
        ("global_pooling: true stride: 2", "global_pooling"),
        ("kernel_size: 2 pad: 1 pool: STOCHASTIC", "MAX and AVE"),
        ("kernel_size: 9", "larger than"),
    ],
)
def test_refusals(text, reason):
    with pytest.raises(LayerError, match=f"under_test.*{reason}"):
        one_layer("Pooling", f"pooling_param {{ {text} }}", (1, 2, 6, 6))


def test_refused_shapes_and_tops():
    with pytest.raises(ShapeError, match="4 axes"):
        one_layer("Pooling", "pooling_param { kernel_size: 2 }", (2, 3, 8))
    with pytest.raises(LayerError, match="at most 1 top"):
        one_layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", (2, 3, 8, 8), tops=("y", "mask"))
    with pytest.raises(LayerError, match="less than the kernel"):
        one_layer("SPP", "spp_param { pyramid_height: 3 }", (1, 1, 5, 5))
    with pytest.raises(LayerError, match="pyramid_height is 0"):
        one_layer("SPP", "spp_param { }", (1, 1, 5, 5))


# -- ONNX ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [(), ("batch", "height", "width")])
@pytest.mark.parametrize(
    ("text", "tops", "nodes"),
    [
        ("kernel_size: 3 stride: 2", "y", 1),
        ("kernel_size: 3 stride: 2 pad: 1", "y", 1),
        ("kernel_size: 2 stride: 2 pad: 1", "y", 1),
        ("kernel_size: 2 stride: 3 pad: 1", "y", 1),
        ("kernel_size: 3 stride: 2 pad: 2", "y mask", (3, 5)),
        ("kernel_size: 1 stride: 3", "y", 2),
        ("kernel_size: 1 stride: 3", "y mask", (5, 14)),
        ("pool: AVE kernel_size: 1 stride: 1", "y", 1),
        ("pool: AVE kernel_size: 3 stride: 2 round_mode: FLOOR", "y", 1),
        ("pool: AVE kernel_size: 3 stride: 2", "y", (3, 8)),
        ("pool: AVE kernel_size: 3 stride_h: 2 stride_w: 1", "y", (1, 8)),  # 5 rows are two whole windows
        ("pool: AVE kernel_size: 3 stride: 3 pad: 2", "y", 2),
        ("pool: AVE kernel_size: 3 stride: 2 pad: 1", "y", (3, 9)),
        ("pool: AVE kernel_size: 1 stride: 3", "y", (3, 15)),
        ("pool: STOCHASTIC kernel_size: 2 stride: 2", "y", 8),
        ("global_pooling: true", "y", 1),
        ("global_pooling: true", "y mask", 4),
        ("global_pooling: true pool: AVE", "y", 1),
        ("global_pooling: true pool: STOCHASTIC", "y", 6),
    ],
)
def test_onnx(text, tops, nodes, dynamic):
    net = one_net("Pooling", f"pooling_param {{ {text} }}", [(1, 2, 5, 8)], tops.split())
    model = export_onnx(net, dynamic=dynamic)
    if isinstance(nodes, tuple):
        nodes = nodes[bool(dynamic)]
    assert len(model.graph.node) == nodes
    session = Session(model)
    for shape in [(1, 2, 5, 8)] + [(3, 2, 8, 7), (1, 2, 4, 9)] * bool(dynamic):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 2 * ("STOCHASTIC" in text)
        found = session({"x0": x.numpy()})
        for name in tops.split():
            equal_nan = "AVE kernel_size: 1 stride: 3" in text  # 0 / 0 beyond the image
            torch.testing.assert_close(torch.from_numpy(found[name]), net(x0=x)[name], equal_nan=equal_nan)


@pytest.mark.parametrize("dynamic", [False, ("height", "width")])
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_onnx_of_windows_beyond_the_image(method, dynamic):
    """Caffe divides 0 by an area of 0, 0 or NaN; with MAX nothing is the maximum."""
    net = one_net("Pooling", f"pooling_param {{ pool: {method} kernel_size: 1 stride: 3 }}", [(1, 2, 6, 8)], ["y"])
    x = torch.rand(1, 2, 6, 8)
    y = net(x0=x)["y"]
    assert y.shape[2:] == (3, 4)
    assert y[0, 0].isnan().tolist() == [[False] * 4] * 2 + [[method == "AVE"] * 4]
    (found,) = Session(export_onnx(net, dynamic=dynamic))({"x0": x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(found), y, equal_nan=method == "AVE")


def refused_forms(model):
    """Attributes that runtimes read in different ways."""
    found = []
    for node in model.graph.node:
        names = {attribute.name for attribute in node.attribute}
        if node.op_type == "AveragePool":
            found += names - {"kernel_shape", "strides", "auto_pad"}
            assert all(attribute.s == b"VALID" for attribute in node.attribute if attribute.name == "auto_pad")
        if node.op_type == "MaxPool":
            found += names - {"kernel_shape", "strides", "pads"}
    return found


@pytest.mark.parametrize("method", ["MAX", "MASK", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize("dynamic", [(), ("height",), ("height", "width")])
def test_onnx_of_any_window_is_portable(method, dynamic):
    for number, (image, kernel, stride, pad, floor) in enumerate(configurations()):
        if method == "STOCHASTIC" and any(pad):
            continue
        tops = ("y", "mask") if method == "MASK" else ("y",)
        text = body(method.replace("MASK", "MAX"), kernel, stride, pad, floor)
        net = one_net("Pooling", text, [(1, 2, *image)], tops)
        model = export_onnx(net, dynamic=dynamic, opset=17 + number % 5)
        assert not refused_forms(model)
        session = Session(model)
        for height, width in (image, (image[0] + 1, image[1] + 2), (image[0] + 3, image[1] + 1)):
            if "width" not in dynamic and width != image[1] or not dynamic and height != image[0]:
                continue
            x = torch.rand(1, 2, height, width) - (method != "STOCHASTIC") * 0.5
            found, wanted = session({"x0": x.numpy()}), net(x0=x)
            for top in tops:
                equal_nan = method == "AVE" and not any(pad)  # 0 / 0 beyond the image
                torch.testing.assert_close(torch.from_numpy(found[top]), wanted[top], equal_nan=equal_nan)


@pytest.mark.parametrize("name", ["ave", "ave55", "maxpad"])
@pytest.mark.parametrize("opset", [17, 21])
def test_nets_that_runtimes_read_in_different_ways(name, opset):
    net = load_net(CASES / f"{name}.prototxt", phase="TEST")
    (shape,) = (net.plan.shapes[blob] for blob in net.plan.inputs)
    ones = torch.ones(shape)
    for dynamic in (True, False):
        model = export_onnx(net, dynamic=dynamic, opset=opset)
        assert not refused_forms(model)
        for x in (ones, seq(*shape)) + (torch.ones(2, *shape[1:3], 8), torch.ones(1, 1, 7, 7)) * dynamic:
            (found,) = Session(model)({"data": x.numpy()}).values()
            torch.testing.assert_close(torch.from_numpy(found), net(data=x)["pool"])
            if x.amin() == 1:
                assert (found == 1).all()


@needs_gpu
@pytest.mark.parametrize(
    "text",
    cases(
        [
            "kernel_size: 3 stride: 2",  # pads at the end alone, of which cuDNN is not told
            "kernel_size: 3 stride: 2 pad: 1",
            "kernel_size: 2 stride: 2 pad: 1",
            "kernel_h: 3 kernel_w: 2 stride: 1 pad_h: 2 pad_w: 0",
            "kernel_size: 1 stride: 3",
            "pool: AVE kernel_size: 3 stride: 2",
            "pool: AVE kernel_size: 3 stride: 2 pad: 1",
            "pool: STOCHASTIC kernel_size: 3 stride: 2",
        ]
    ),
)
def test_onnx_on_the_gpu(text):
    net = one_net("Pooling", f"pooling_param {{ {text} }}", [(1, 2, 6, 8)], ["y"])
    for dynamic in (False, ("height", "width")):
        session = Session(export_onnx(net, dynamic=dynamic), device="cuda")
        for shape in ((1, 2, 6, 8), *((1, 2, 7, 11),) * bool(dynamic)):
            x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
            (found,) = session({"x0": x.numpy()}).values()
            torch.testing.assert_close(torch.from_numpy(found), net(x0=x)["y"])


def test_onnx_of_a_pyramid_of_one_level_has_open_sizes():
    net = one_net("SPP", "spp_param { pyramid_height: 1 pool: AVE }", [(1, 2, 5, 8)])
    model = export_onnx(net, dynamic=("height", "width"))
    x = torch.rand(1, 2, 3, 4)
    (found,) = Session(model)({"x0": x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(found), net(x0=x)["y"])
    net = one_net("SPP", "spp_param { pyramid_height: 2 }", [(1, 2, 5, 8)])
    with pytest.raises(ExportError, match=r"under_test.*bins depend on height and width"):
        export_onnx(net, dynamic=("height", "width"))
