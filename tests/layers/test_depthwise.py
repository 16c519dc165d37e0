"""Depthwise convolutions against loops over single numbers, and against what BVLC Caffe writes with groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer, seq

from caffe_compat.errors import LayerError, ShapeError

TYPES = ("DepthwiseConvolution", "ConvolutionDepthwise")


def _slow(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, pad: int, dilation: int) -> np.ndarray:
    """Every output by itself; what lies outside the image is not added."""
    number, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    high = (height + 2 * pad - dilation * (rows - 1) - 1) // stride + 1
    wide = (width + 2 * pad - dilation * (columns - 1) - 1) // stride + 1
    top = np.zeros((number, channels, high, wide))
    for n, c, i, j in np.ndindex(top.shape):
        top[n, c, i, j] = bias[c]
        for p, q in np.ndindex(rows, columns):
            y, x_ = i * stride - pad + p * dilation, j * stride - pad + q * dilation
            if 0 <= y < height and 0 <= x_ < width:
                top[n, c, i, j] += weight[c, 0, p, q] * x[n, c, y, x_]
    return top


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation"), [(3, 1, 1, 1), (3, 2, 1, 1), (2, 3, 2, 1), (3, 1, 2, 2)]
)
@pytest.mark.parametrize("kind", TYPES)
def test_number_by_number(kind: str, kernel: int, stride: int, pad: int, dilation: int) -> None:
    random = np.random.default_rng(kernel + stride)
    x, weight, bias = (
        random.normal(size=(2, 4, 6, 5)),
        random.normal(size=(4, 1, kernel, kernel)),
        random.normal(size=4),
    )
    layer = one_layer(
        kind,
        f"convolution_param {{ num_output: 4 group: 4 kernel_size: {kernel} stride: {stride} pad: {pad} "
        f"dilation: {dilation} }}",
        x.shape,
        blob0=torch.from_numpy(weight),
        blob1=torch.from_numpy(bias),
    )
    assert layer.blob_shapes == [(4, 1, kernel, kernel), (4,)]
    expected = _slow(x, weight, bias, stride, pad, dilation)
    np.testing.assert_allclose(layer(torch.from_numpy(x).float()).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_gradients_are_those_of_a_convolution_in_groups(kind: str) -> None:
    body = "convolution_param { num_output: 4 group: 4 kernel_size: 3 pad: 1 stride: 2 weight_filler { value: 0.5 } }"
    found, wanted = [], []
    for name, result in ((kind, found), ("Convolution", wanted)):
        layer = one_layer(name, body, (2, 4, 5, 5), blob0=seq(4, 1, 3, 3))
        x = seq(2, 4, 5, 5).requires_grad_()
        (layer(x) * seq(2, 4, 3, 3)).sum().backward()
        result += [x.grad, layer.blobs[0].grad, layer.blobs[1].grad]
    torch.testing.assert_close(found, wanted)


def test_multiply_adds_count_one_filter_a_number() -> None:
    layer = one_layer(
        "DepthwiseConvolution", "convolution_param { num_output: 4 group: 4 kernel_size: 3 }", (1, 4, 5, 5)
    )
    assert layer.multiply_adds([(1, 4, 5, 5)], [(1, 4, 3, 3)]) == 4 * 9 * 9


def test_num_output_and_group_mean_nothing_to_convolution_depthwise() -> None:
    layer = one_layer("ConvolutionDepthwise", "convolution_param { num_output: 7 kernel_size: 1 }", (1, 4, 2, 2))
    assert layer.top_shapes([(1, 4, 2, 2)]) == [(1, 4, 2, 2)] and layer.blob_shapes == [(4, 1, 1, 1), (4,)]


def test_refusals() -> None:
    for counts in ("num_output: 4", "num_output: 8 group: 4", "num_output: 4 group: 2"):
        with pytest.raises(LayerError, match="under_test.*expected both to be the 4 channels"):
            one_layer("DepthwiseConvolution", f"convolution_param {{ {counts} kernel_size: 3 }}", (1, 4, 5, 5))
    for shape, axis in (((1, 4, 5), 1), ((1, 4, 5, 5), 2)):
        with pytest.raises(ShapeError, match="expected N x C x H x W"):
            one_layer("ConvolutionDepthwise", f"convolution_param {{ kernel_size: 1 axis: {axis} }}", shape)
