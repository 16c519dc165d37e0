"""Convolution, Deconvolution and Im2col."""

import itertools

import pytest
import torch
from one_layer import numbers, one_layer, seq

from caffe_compat.errors import LayerError, ShapeError


def slow_convolution(x, weight, bias, window, group):
    """Loops over everything; ``window`` is (stride, pad, dilation) per axis; x is [N, C, spatial...]."""
    stride, pad, dilation = window
    kernel, image = weight.shape[2:], x.shape[2:]
    outs = []
    for n, k, s, p, d in zip(image, kernel, stride, pad, dilation, strict=True):
        outs.append(int((n + 2 * p - d * (k - 1) - 1) / s) + 1)  # int() truncates toward zero as C++ does
    y = x.new_zeros(x.shape[0], weight.shape[0], *outs)
    per_group, inputs = weight.shape[0] // group, x.shape[1] // group
    for n, o in itertools.product(range(y.shape[0]), range(y.shape[1])):
        for place in itertools.product(*map(range, outs)):
            total = 0.0 if bias is None else bias[o].item()
            for c, tap in itertools.product(range(inputs), itertools.product(*map(range, kernel))):
                at = [i * s - p + t * d for i, s, p, t, d in zip(place, stride, pad, tap, dilation, strict=True)]
                if all(0 <= a < size for a, size in zip(at, image, strict=True)):
                    total += x[(n, o // per_group * inputs + c, *at)].item() * weight[(o, c, *tap)].item()
            y[(n, o, *place)] = total
    return y


def each(name, values):
    return " ".join(f"{name}: {value}" for value in values)


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "pad", "dilation", "group"),
    [
        ((5, 6), (3, 2), (2, 1), (1, 0), (1, 2), 2),
        ((7,), (3,), (2,), (1,), (2,), 1),
        ((3, 4, 3), (2, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1), 2),
        ((2, 3, 2, 3), (2, 2, 1, 2), (1, 2, 1, 1), (0, 1, 0, 1), (1, 1, 1, 2), 2),
        ((2, 2), (3, 3), (2, 2), (0, 0), (1, 1), 1),  # smaller than the kernel by less than the stride
        ((2, 7), (4, 3), (3, 1), (0, 2), (1, 1), 1),
    ],
)
def test_convolution_and_its_adjoint(image, kernel, stride, pad, dilation, group):
    x, weight, bias = seq(2, 4, *image), seq(6, 4 // group, *kernel), numbers(".1 .2 .3 .4 .5 .6")
    sides = each("kernel_size", kernel) + " " + each("stride", stride) + " " + each("pad", pad)
    text = f"convolution_param {{ num_output: %d group: {group} {sides} {each('dilation', dilation)} bias_term: %s }}"
    layer = one_layer("Convolution", text % (6, "true"), x.shape, blob0=weight, blob1=bias)
    expected = slow_convolution(x, weight, bias, (stride, pad, dilation), group)
    torch.testing.assert_close(layer(x), expected)
    assert layer.top_shapes([x.shape]) == [tuple(expected.shape)]

    columns = one_layer("Im2col", f"convolution_param {{ {sides} {each('dilation', dilation)} }}", x.shape)(x)
    assert columns.shape == (2, 4 * weight[0, 0].numel(), *expected.shape[2:])
    product = torch.einsum("ogk,ngkp->ngop", *_grouped(columns, weight, group)).reshape(expected.shape)
    torch.testing.assert_close(product + bias.view(-1, *[1] * len(image)), expected)

    dy = seq(*expected.shape)  # the adjoint: <conv(x), dy> = <x, deconv(dy)>
    back = one_layer("Deconvolution", text % (4, "false"), dy.shape, blob0=weight)(dy)
    if all(b == n for b, n in zip(back.shape[2:], image, strict=True)):
        plain = one_layer("Convolution", text % (6, "false"), x.shape, blob0=weight)(x)
        torch.testing.assert_close((plain * dy).sum(), (x * back).sum())
        shifted = one_layer("Deconvolution", text % (4, "true"), dy.shape, blob0=weight, blob1=bias[:4])(dy)
        torch.testing.assert_close(shifted - back, bias[:4].view(-1, *[1] * len(image)).expand(back.shape))


def _grouped(columns, weight, group):
    taps = weight[0].numel()
    return weight.reshape(group, -1, taps).permute(1, 0, 2), columns.flatten(2).unflatten(1, (group, taps))


def test_convolution_measured_on_caffe():
    x = seq(1, 2, 5, 5).requires_grad_()
    text = "convolution_param { num_output: 2 kernel_size: 2 dilation: 2 stride: 2 pad: 1 }"
    layer = one_layer("Convolution", text, x.shape, blob0=seq(2, 2, 2, 2), blob1=numbers(".1 .2"))
    y = layer(x)
    expected = "0.5 -1.02 1.3 -0.54 -0.5 -1.02 0.74 -0.42 -0.1 0.8 -0.72 1.4 -0.6 -2 1.16 0.48 0.96 0.32"
    torch.testing.assert_close(y.detach().flatten(), numbers(expected))
    y.backward(seq(*y.shape))
    expected = "1.16 0.04 0.88 -0.24 -0.2 -0.2 -0.2 -0.2 -0.64 0.88 -0.92 0.6 1.12 -0.2 1.12 -0.2"
    torch.testing.assert_close(layer.weight.grad.flatten(), numbers(expected))
    torch.testing.assert_close(layer.bias.grad, numbers("0 -1.2"), atol=1e-6, rtol=0)


def test_deconvolution_measured_on_caffe():
    x = seq(1, 2, 2, 2).requires_grad_()
    text = "convolution_param { num_output: 4 group: 2 kernel_size: 2 }"
    layer = one_layer("Deconvolution", text, x.shape, blob0=seq(2, 2, 2, 2), blob1=numbers(".1 .2 .3 .4"))
    y = layer(x)
    expected = "1.1 0.5 0.14 -1.1 1.46 0.42 0.46 -0.86 0.74 0.2 -0.6 0.04 0.8 0.6 -0.48 -0.16 0.8 0.04"
    torch.testing.assert_close(y.detach().flatten()[:18], numbers(expected))
    y.backward(seq(*y.shape))
    torch.testing.assert_close(x.grad.flatten(), numbers("1.12 -1.88 0.92 -2.08 -0.36 1.52 2.2 -0.76"))


def test_im2col_measured_on_caffe():
    x = seq(1, 1, 3, 3).requires_grad_()
    y = one_layer("Im2col", "convolution_param { kernel_size: 2 }", x.shape)(x)
    torch.testing.assert_close(
        y.detach().flatten(), numbers("-1 -0.2 -0.8 0 -0.2 0.6 0 0.8 -0.8 0 -0.6 0.2 0 0.8 0.2 1")
    )
    (dx,) = torch.autograd.grad(y, x, seq(*y.shape))
    torch.testing.assert_close(dx.flatten(), numbers("-1 -0.2 0.8 1.6 -2 0.8 0.4 -1.8 0"), atol=1e-6, rtol=1e-5)


def test_transposed_over_four_axes_is_the_adjoint():
    text = "convolution_param { num_output: %d kernel_size: 2 stride: 2 group: 2 bias_term: false }"
    x, weight = seq(1, 4, 2, 4, 2, 2), seq(6, 2, 2, 2, 2, 2)
    y = one_layer("Convolution", text % 6, x.shape, blob0=weight)(x)
    dy = seq(*y.shape)
    back = one_layer("Deconvolution", text % 4, dy.shape, blob0=weight)(dy)
    assert back.shape == x.shape
    torch.testing.assert_close((y * dy).sum(), (x * back).sum())


def test_no_spatial_axis_is_a_matrix_product():
    x, weight = seq(3, 4), seq(6, 2)
    layer = one_layer("Convolution", "convolution_param { num_output: 6 group: 2 }", x.shape, blob0=weight)
    expected = torch.cat([x[:, :2] @ weight[:3].t(), x[:, 2:] @ weight[3:].t()], 1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("axis", [0, 2, -3])
def test_axis(axis):
    x = seq(2, 3, 4, 5)[:, :, :, 0] if axis == 0 else seq(2, 2, 3, 4, 5)
    channels = x.shape[axis]
    weight = seq(2, channels, 3, 3)
    text = f"convolution_param {{ num_output: 2 kernel_size: 3 pad: 1 axis: {axis} }}"
    y = one_layer("Convolution", text, x.shape, blob0=weight)(x)
    flat = x.reshape(-1, channels, *x.shape[-2:])
    expected = torch.nn.functional.conv2d(flat, weight, padding=1)
    lead = x.shape[: axis % x.dim()]
    torch.testing.assert_close(y, expected.reshape(*lead, *expected.shape[1:]))


def test_an_empty_top_is_no_error():
    layer = one_layer("Convolution", "convolution_param { num_output: 2 kernel_size: 4 }", (1, 1, 3, 5))
    assert layer(torch.zeros(1, 1, 3, 5)).shape == (1, 2, 0, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kernel_size: 3", "num_output is 0"),
        ("num_output: 2", "kernel_size"),
        ("num_output: 2 kernel_size: 0", "nonzero"),
        ("num_output: 2 kernel_size: 3 stride: 0", "nonzero"),
        ("num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3", "one form"),
        ("num_output: 2 kernel_size: 3 stride: 1 stride: 1 stride: 1", "3 entries"),
        ("num_output: 6 kernel_size: 3 group: 3", "divisor"),
        ("num_output: 5 kernel_size: 3 group: 2", "divisor"),
        ("num_output: 2 kernel_size: 3 axis: 4", "axis is 4"),
        ("num_output: 2 kernel_size: 9", "larger than the padded image"),
    ],
)
def test_refusals(text, reason):
    with pytest.raises(LayerError, match=f"under_test.*{reason}"):
        one_layer("Convolution", f"convolution_param {{ {text} }}", (2, 4, 6, 6))


def test_refused_bottoms():
    text = "convolution_param { num_output: 2 kernel_size: 3 }"
    layer = one_layer("Convolution", text, (1, 3, 6, 6))
    with pytest.raises(ShapeError, match="3 channels"):
        layer.top_shapes([(1, 4, 6, 6)])
    with pytest.raises(ShapeError, match="4 axes"):
        layer.top_shapes([(1, 3, 6)])
    with pytest.raises(ShapeError, match="equal ones"):
        one_layer("Convolution", text, (1, 3, 6, 6), (1, 3, 6, 7), tops=("a", "b"))
    with pytest.raises(LayerError, match="one top blob for each bottom"):
        one_layer("Convolution", text, (1, 3, 6, 6), tops=("a", "b"))
