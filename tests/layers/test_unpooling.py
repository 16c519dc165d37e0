"""Upsample of SegNet and of YOLO against loops written down from the forks' sources."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from one_layer import one_layer

from caffe_compat.description import State, describe_net
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.net.net import Net
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse


def _slow(x: np.ndarray, mask: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """upsample_layer.cpp: the last value of a place stays, each value takes its place's gradient."""
    top, diff = np.zeros(seed.shape), np.zeros(x.shape)
    for n, c, i, j in np.ndindex(x.shape):
        place = divmod(int(mask[n, c, i, j]), seed.shape[3])
        top[n, c][place], diff[n, c, i, j] = x[n, c, i, j], seed[n, c][place]
    return top, diff


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("scale: 2", (6, 8)),
        ("", (6, 8)),
        ("scale_h: 3 scale_w: 2", (9, 8)),
        ("scale: 2 pad_out_h: true pad_out_w: true", (5, 7)),
        ("upsample_h: 7 upsample_w: 5", (7, 5)),
        ("upsample_h: 7 upsample_w: 5 scale: 3 pad_out_h: true", (7, 5)),
    ],
)
def test_mask_number_by_number(body: str, made: tuple[int, int], twice: bool) -> None:
    random, shape = np.random.default_rng(0), (2, 3, 3, 4)
    pixels = made[0] * made[1]
    mask = random.integers(0, 6 if twice else pixels, shape)
    if not twice:
        mask = np.stack([random.permutation(pixels)[:12] for _ in range(6)]).reshape(shape)
    x, seed = random.normal(size=shape), random.normal(size=(2, 3, *made))
    layer = one_layer("Upsample", f"upsample_param {{ {body} }}", shape, shape)
    assert layer.top_shapes([shape, shape]) == [seed.shape]
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom, torch.from_numpy(mask).double())
    top.backward(torch.from_numpy(seed))
    for found, wanted in zip((top.detach(), bottom.grad), _slow(x, mask, seed), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_a_place_outside_the_top_is_an_error() -> None:
    layer = one_layer("Upsample", "upsample_param { scale: 2 }", (1, 1, 1, 2), (1, 1, 1, 2))
    for place in (8.0, -1.0):
        with pytest.raises(LayerError, match="under_test.*a place in the mask 'x1' for a top of 2 x 4 is"):
            layer(torch.zeros(1, 1, 1, 2), torch.tensor([0.0, place]).view(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("upsample_h: 4", "expected upsample_h and upsample_w"),
        ("scale_h: 2", "expected upsample_h and upsample_w"),
        ("scale: 2 scale_h: 2 scale_w: 2", "expected upsample_h and upsample_w"),
        ("scale: 1", "scale or scale_h is 1, expected 2 or more"),
        ("upsample_h: 1 upsample_w: 4", "upsample_h is 1"),
        ("scale: 3 pad_out_w: true", "scale or scale_w is 3, expected 2, as pad_out_w is set"),
    ],
)
def test_mask_refusals(body: str, what: str) -> None:
    with pytest.raises(LayerError, match=f"under_test.*{what}"):
        one_layer("Upsample", f"upsample_param {{ {body} }}", (1, 1, 2, 2), (1, 1, 2, 2))


def test_the_mask_has_the_shape_of_the_values() -> None:
    with pytest.raises(ShapeError, match="the mask has the shape"):
        one_layer("Upsample", "", (1, 2, 3, 3), (1, 2, 3, 4))


NET = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "pool" type: "Pooling" bottom: "x" top: "small" top: "mask"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Upsample" bottom: "small" bottom: "mask" top: "y"
  upsample_param { upsample_h: 5 upsample_w: 7 } }
layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 reduction_param { operation: SUMSQ } }
"""


def test_maxima_return_to_where_they_were() -> None:
    """Pooling's second top, with partial windows at the border; and the same in ONNX Runtime."""
    net = Net(describe_net(parse(NET, caffe_pb2.NetParameter), State("TEST")))
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    blobs = net(x=x)
    expected, seen = torch.zeros(2, 3, 5, 7), x.detach()
    for n, c, i, j in np.ndindex(2, 3, 3, 4):
        window = seen[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        where = tuple(int(v) for v in np.unravel_index(int(window.argmax()), window.shape))
        expected[n, c, 2 * i + where[0], 2 * j + where[1]] = window.max()
    torch.testing.assert_close(blobs["loss"].detach(), expected.square().sum())
    net.loss(blobs).backward()
    torch.testing.assert_close(x.grad, 2 * expected)
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": seen.numpy()})
    np.testing.assert_allclose(found, expected.square().sum().numpy(), rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_nearest_number_by_number(scale: int) -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(scale)).requires_grad_()
    top = one_layer("Upsample", f"upsample_param {{ scale: {scale} }}", x.shape)(x)
    seed = torch.randn(top.shape, generator=torch.Generator().manual_seed(9))
    top.backward(seed)
    diff = torch.zeros(x.shape)
    for n, c, i, j in np.ndindex(*top.shape):
        assert top[n, c, i, j] == x[n, c, i // scale, j // scale]
        diff[n, c, i // scale, j // scale] += seed[n, c, i, j]
    torch.testing.assert_close(x.grad, diff)


def test_nearest_refuses() -> None:
    with pytest.raises(LayerError, match="under_test.*scale is 0"):
        one_layer("Upsample", "upsample_param { scale: 0 }", (1, 1, 2, 2))
    with pytest.raises(LayerError, match="upsample_param.width means nothing"):
        one_layer("Upsample", "upsample_param { scale: 2 width: 3 }", (1, 1, 2, 2))
