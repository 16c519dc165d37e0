"""Interp against loops written down from PSPNet's util/interp.cpp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError


def _slow(x: np.ndarray, seed: np.ndarray, begin: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Top and diff of the bottom, for a cropped map of ``size`` that begins at ``begin``; coordinates in float32."""
    top, diff = np.zeros(seed.shape), np.zeros(x.shape)
    (high1, wide1), (high2, wide2) = size, seed.shape[2:]
    if (high1, wide1) == (high2, wide2):
        inner = (..., slice(begin, begin + high1), slice(begin, begin + wide1))
        diff[inner] = seed
        return x[inner], diff
    rows = np.float32(high1 - 1) / np.float32(high2 - 1) if high2 > 1 else np.float32(0)
    columns = np.float32(wide1 - 1) / np.float32(wide2 - 1) if wide2 > 1 else np.float32(0)
    for i, j in np.ndindex(high2, wide2):
        at = rows * np.float32(i), columns * np.float32(j)
        y, x_ = int(at[0]), int(at[1])
        down, right = int(y < high1 - 1), int(x_ < wide1 - 1)
        below, aside = float(at[0] - np.float32(y)), float(at[1] - np.float32(x_))
        for dy, dx, weight in (
            (0, 0, (1 - below) * (1 - aside)),
            (0, right, (1 - below) * aside),
            (down, 0, below * (1 - aside)),
            (down, right, below * aside),
        ):
            top[:, :, i, j] += weight * x[:, :, begin + y + dy, begin + x_ + dx]
            diff[:, :, begin + y + dy, begin + x_ + dx] += weight * seed[:, :, i, j]
    return top, diff


@pytest.mark.parametrize(
    ("body", "shape", "pads", "made"),
    [
        ("height: 9 width: 13", (2, 3, 5, 4), (0, 0), (9, 13)),
        ("height: 3 width: 2", (1, 2, 8, 9), (-1, -2), (3, 2)),
        ("height: 1 width: 1", (1, 2, 3, 4), (0, 0), (1, 1)),
        ("height: 4 width: 5", (2, 2, 1, 1), (0, 0), (4, 5)),
        ("height: 3 width: 3", (1, 2, 5, 5), (-2, 0), (3, 3)),
        ("zoom_factor: 8", (1, 2, 3, 4), (0, 0), (17, 25)),
        ("zoom_factor: 8 height: 3 width: 3", (1, 2, 3, 4), (0, 0), (17, 25)),
        ("shrink_factor: 2", (1, 2, 8, 9), (0, -1), (4, 4)),
        ("shrink_factor: 4 zoom_factor: 2", (1, 2, 9, 6), (0, 0), (5, 3)),
        ("shrink_factor: 4 zoom_factor: 2 height: 6 width: 7", (1, 2, 9, 6), (0, 0), (6, 7)),
    ],
)
def test_number_by_number(body: str, shape: tuple[int, ...], pads: tuple[int, int], made: tuple[int, int]) -> None:
    random = np.random.default_rng(len(body))
    layer = one_layer("Interp", f"interp_param {{ {body} pad_beg: {pads[0]} pad_end: {pads[1]} }}", shape)
    assert layer.top_shapes([shape]) == [(*shape[:2], *made)]
    x, seed = random.normal(size=shape).astype(np.float32), random.normal(size=(*shape[:2], *made)).astype(np.float32)
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom)
    top.backward(torch.from_numpy(seed))
    cropped = (shape[2] + sum(pads), shape[3] + sum(pads))
    expected, diff = _slow(x, seed, -pads[0], cropped)
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("size", [(6, 9), (2, 1), (5, 4)])
def test_the_size_of_another_blob(size: tuple[int, int]) -> None:
    random, shape = np.random.default_rng(size[0]), (2, 3, 5, 4)
    body = "interp_param { use_blob_size: true zoom_factor: 3 height: 2 width: 2 }"
    layer = one_layer("Interp", body, shape, (7, 1, *size))
    x, seed = random.normal(size=shape).astype(np.float32), random.normal(size=(2, 3, *size)).astype(np.float32)
    bottom, like = torch.from_numpy(x).requires_grad_(), torch.ones(7, 1, *size, requires_grad=True)
    top = layer(bottom, like)
    top.backward(torch.from_numpy(seed))
    expected, diff = _slow(x, seed, 0, shape[2:])
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-5, atol=5e-6)
    assert like.grad is None


@pytest.mark.parametrize("size", [(6, 9), (2, 3), (5, 4)])
def test_bilinear_interpolation(size: tuple[int, int]) -> None:
    random, shape = np.random.default_rng(size[0]), (2, 3, 5, 4)
    layer = one_layer("BilinearInterpolation", "", shape, (7, 1, *size))
    x, seed = random.normal(size=shape).astype(np.float32), random.normal(size=(2, 3, *size)).astype(np.float32)
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom, torch.ones(7, 1, *size))
    top.backward(torch.from_numpy(seed))
    assert bottom.grad is not None
    expected, diff = _slow(x, seed, 0, shape[2:])
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-5, atol=5e-6)
    with pytest.raises(ShapeError, match="expected 2 rows and columns or more"):
        one_layer("BilinearInterpolation", "", shape, (1, 1, 1, 3))


def test_a_second_bottom_and_use_blob_size_come_together() -> None:
    with pytest.raises(LayerError, match="under_test.*has 1 bottoms, expected a second one"):
        one_layer("Interp", "interp_param { use_blob_size: true }", (1, 2, 5, 5))
    with pytest.raises(LayerError, match="under_test.*has 2 bottoms"):
        one_layer("Interp", "interp_param { zoom_factor: 2 }", (1, 2, 5, 5), (1, 2, 3, 3))


def test_equal_size_copies_what_is_not_finite() -> None:
    bottom = torch.tensor([[[[1.0, torch.inf], [torch.nan, 2.0]]]])
    top = one_layer("Interp", "interp_param { height: 2 width: 2 }", bottom.shape)(bottom)
    torch.testing.assert_close(top, bottom, equal_nan=True)
    assert top.data_ptr() != bottom.data_ptr()


@pytest.mark.parametrize(
    ("body", "kind", "what"),
    [
        ("", LayerError, "says no size"),
        ("height: 3", LayerError, "says no size"),
        ("height: 3 width: 3 pad_beg: 1", LayerError, "pad_beg is 1"),
        ("zoom_factor: 0", LayerError, "zoom_factor is 0"),
        ("shrink_factor: -1", LayerError, "shrink_factor is -1"),
        ("height: 0 width: 3", ShapeError, "expected positive numbers"),
        ("zoom_factor: 2 pad_beg: -3 pad_end: -2", ShapeError, "expected some"),
    ],
)
def test_refusals(body: str, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{what}"):
        one_layer("Interp", f"interp_param {{ {body} }}", (1, 2, 5, 5))
