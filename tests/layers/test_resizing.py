"""ResizeNearestNeighbor, ResizeBilinear, UpsampleDarknet against loops written down from synopsys-caffe's source."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError

F32 = np.float32


def _scale(out: int, size: int, corners: bool) -> np.float32:
    """CalculateResizeScale."""
    return F32(size - 1) / F32(out - 1) if corners and out > 1 else F32(size) / F32(out)


def _nearest(i: int, out: int, size: int, mode: str) -> int:
    scale = _scale(out, size, mode == "align_corners")
    if mode == "half_pixel_onnx":
        return max(min(math.floor(float((F32(i) + F32(0.5)) * scale) - 0.5), size - 1), 0)
    if mode == "half_pixel_centers":
        return max(min(math.floor((F32(i) + F32(0.5)) * scale), size - 1), 0)
    at = float(F32(i) * scale)
    return min(math.floor(at + 0.5) if mode == "align_corners" else math.floor(at), size - 1)


def _linear(i: int, out: int, size: int, mode: str) -> tuple[int, int, float]:
    scale = _scale(out, size, mode == "align_corners")
    if mode in ("", "align_corners"):
        at = F32(i) * scale
    elif mode == "pytorch_half_pixel" and out == 1:
        at = F32(-0.5)
    else:
        at = (F32(i) + F32(0.5)) * scale - F32(0.5)
    low = math.floor(at)
    return max(low, 0), min(math.ceil(at), size - 1), float(at) - low


def _sizes(outs: tuple[int, ...]) -> str:
    return " ".join(f"output_{side}: {n}" for side, n in zip(("height", "width", "depth"), outs, strict=False))


NEAREST = ["", "align_corners", "half_pixel_centers", "half_pixel_onnx"]
LINEAR = ["", "align_corners", "half_pixel_centers", "pytorch_half_pixel"]


@pytest.mark.parametrize("mode", NEAREST)
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_nearest(mode: str, last: bool) -> None:
    rng = np.random.default_rng(0)
    for (h, w), (high, wide) in itertools.product([(1, 5), (4, 3)], [(1, 1), (3, 7), (8, 6), (2, 5)]):
        x = rng.normal(size=(2, 2, h, w)).astype(F32)
        rows, columns = ([_nearest(i, o, n, mode) for i in range(o)] for o, n in ((high, h), (wide, w)))
        want = np.array([[[[p[r, c] for c in columns] for r in rows] for p in image] for image in x])
        shown = np.moveaxis(x, 1, 3).copy() if last else x
        body = _sizes((high, wide)) + (f" {mode}: true" if mode else "") + ("" if last else ' data_format: "NCHW"')
        layer = one_layer("ResizeNearestNeighbor", f"resize_nearest_neighbor_param {{ {body} }}", shown.shape)
        got = layer(torch.from_numpy(shown)).numpy()
        np.testing.assert_array_equal(np.moveaxis(got, 3, 1) if last else got, want)


@pytest.mark.parametrize(("size", "out"), [(1, 41), (2, 98), (3, 49 * 3), (82, 2), (7, 5)])
def test_places_are_rounded_as_float32_rounds(size: int, out: int) -> None:
    body = f'resize_nearest_neighbor_param {{ data_format: "NCHW" output_height: 1 output_width: {out} }}'
    layer = one_layer("ResizeNearestNeighbor", body, (1, 1, 1, size))
    got = layer(torch.arange(size, dtype=torch.float32).view(1, 1, 1, size)).flatten().tolist()
    assert got == [_nearest(i, out, size, "") for i in range(out)]


@pytest.mark.parametrize("mode", LINEAR)
@pytest.mark.parametrize("kind", ["NCHW", "NHWC", "NCHWD"])
def test_linear(mode: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    rank = 3 if kind == "NCHWD" else 2
    for size, outs in itertools.product([(1, 5, 2), (4, 3, 3)], [(1, 1, 1), (3, 7, 2), (8, 2, 5)]):
        x = rng.normal(size=(2, 2, *size[:rank]))
        want = np.zeros((2, 2, *outs[:rank]))
        for place in np.ndindex(*outs[:rank]):
            ends = [_linear(i, o, n, mode) for i, o, n in zip(place, outs, size, strict=False)]
            for corner in itertools.product((0, 1), repeat=rank):
                share = math.prod(e[2] if side else 1 - e[2] for e, side in zip(ends, corner, strict=True))
                at = tuple(e[side] for e, side in zip(ends, corner, strict=True))
                want[(slice(None), slice(None), *place)] += share * x[(slice(None), slice(None), *at)]
        shown = np.moveaxis(x, 1, 3).copy() if kind == "NHWC" else x
        body = f'data_format: "{kind}" {_sizes(outs[:rank])}' + (f" {mode}: true" if mode else "")
        layer = one_layer("ResizeBilinear", f"resize_bilinear_param {{ {body} }}", shown.shape)
        got = layer(torch.from_numpy(shown)).numpy()
        np.testing.assert_allclose(np.moveaxis(got, 3, 1) if kind == "NHWC" else got, want, atol=2e-6)


def test_sizes_by_factors_are_rounded_down() -> None:
    body = 'resize_bilinear_param { data_format: "NCHW" scale_height: 1.5 scale_width: 0.7 }'
    assert one_layer("ResizeBilinear", body, (1, 2, 3, 5)).top_shapes([(1, 2, 3, 5)]) == [(1, 2, 4, 3)]
    # 0.1 in float32 is a little more than a tenth; the product is rounded to float32 before it is rounded down
    body = "resize_nearest_neighbor_param { scale_height: 0.1 scale_width: 1 }"
    assert one_layer("ResizeNearestNeighbor", body, (1, 30, 2, 1)).top_shapes([(1, 30, 2, 1)]) == [(1, 3, 2, 1)]


def test_upsample_darknet() -> None:
    x = torch.arange(12, dtype=torch.float64).view(1, 2, 2, 3).requires_grad_()
    top = one_layer("UpsampleDarknet", "upsample_darknet_param { stride: 3 }", (1, 2, 2, 3))(x)
    assert all(
        top[0, c, h, w] == x[0, c, h // 3, w // 3] for c, h, w in itertools.product(range(2), range(6), range(9))
    )
    seed = torch.arange(108, dtype=torch.float64).view(1, 2, 6, 9)
    top.backward(seed)
    want = np.zeros((2, 2, 3))
    for c, h, w in itertools.product(range(2), range(6), range(9)):
        want[c, h // 3, w // 3] += float(seed[0, c, h, w])
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad[0].numpy(), want)


@pytest.mark.parametrize(
    ("kind", "body", "shape", "error", "what"),
    [
        ("ResizeBilinear", 'data_format: "CHW"', (1, 2, 3, 4), LayerError, "data_format is 'CHW'"),
        ("ResizeNearestNeighbor", 'data_format: "NCHWD"', (1, 2, 3, 4), LayerError, "expected one of NHWC, NCHW"),
        ("ResizeBilinear", "align_corners: true half_pixel_centers: true", (1, 2, 3, 4), LayerError, "one of them"),
        ("ResizeBilinear", "output_height: 0", (1, 2, 3, 4), ShapeError, "asks for .0, 3. pixels"),
        ("ResizeNearestNeighbor", "scale_width: -1", (1, 2, 3, 4), ShapeError, "positive numbers"),
        ("ResizeNearestNeighbor", "scale_width: nan", (1, 2, 3, 4), ShapeError, "a factor of nan"),
        ("ResizeBilinear", "scale_height: 1e38", (1, 20, 3, 4), ShapeError, "a factor of 1e.38"),
        ("ResizeBilinear", "", (1, 2, 3), ShapeError, "expected 4 axes"),
        ("ResizeBilinear", 'data_format: "NCHWD"', (1, 2, 3, 4), ShapeError, "expected 5 axes"),
        ("ResizeBilinear", "", (1, 0, 3, 4), ShapeError, "expected some pixels"),
        ("UpsampleDarknet", "stride: 0", (1, 2, 3, 4), LayerError, "upsample_darknet_param.stride is 0"),
    ],
)
def test_refusals(kind: str, body: str, shape: tuple[int, ...], error: type[Exception], what: str) -> None:
    section = {
        "ResizeBilinear": "resize_bilinear_param",
        "ResizeNearestNeighbor": "resize_nearest_neighbor_param",
        "UpsampleDarknet": "upsample_darknet_param",
    }[kind]
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer(kind, f"{section} {{ {body} }}", shape)
