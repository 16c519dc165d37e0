"""What rearranging.py has, against loops written down from synopsys-caffe's source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError


def _list(numbers: list[int]) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"


def test_pad() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    want = np.full((3, 3, 5), 7.5)
    for place in np.ndindex(*x.shape):
        want[place[0] + 1, place[1], place[2] + 1] = x[place]
    layer = one_layer("Pad", "pad_param { paddings: [1, 0, 0, 0, 1, 2] constant_values: 7.5 }", x.shape)
    np.testing.assert_array_equal(layer(torch.from_numpy(x)).numpy(), want)


def _slow_depth_to_space(x: np.ndarray, block: int, kind: str) -> np.ndarray:
    images, depth, height, width = x.shape
    made = depth // block**2
    top = np.zeros((images, made, height * block, width * block))
    for b, d, h, w in np.ndindex(*top.shape):
        r, s = h % block, w % block
        channel = (d * block + r) * block + s if kind == "CRD" else d + (r * block + s) * made
        top[b, d, h, w] = x[b, channel, h // block, w // block]
    return top


@pytest.mark.parametrize("kind", ["NHWC", "NCHW", "DCR", "CRD"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_to_space(kind: str, block: int) -> None:
    x = np.random.default_rng(block).normal(size=(2, 2 * block**2, 3, 2))
    shown = np.moveaxis(x, 1, 3).copy() if kind == "NHWC" else x
    body = f'depth_to_space_param {{ block_size: {block} data_format: "{kind}" }}'
    got = one_layer("DepthToSpace", body, shown.shape)(torch.from_numpy(shown)).numpy()
    np.testing.assert_array_equal(
        np.moveaxis(got, 3, 1) if kind == "NHWC" else got, _slow_depth_to_space(x, block, kind)
    )


def _slow_space_to_batch(x: np.ndarray, blocks: list[int], pads: list[int]) -> np.ndarray:
    """The steps of space_to_batch_nd_layer.cpp, with its indices and permuted_order."""
    shape = list(x.shape)
    for i in range(len(pads) // 2):
        shape[i + 1] += pads[2 * i] + pads[2 * i + 1]
    padded = np.zeros(shape)
    for place in np.ndindex(*x.shape):
        where = list(place)
        for i in range(len(pads) // 2):
            where[i + 1] += pads[2 * i]
        padded[tuple(where)] = x[place]
    top_shape, permuted_shape = list(shape), list(shape)
    order = list(range(2 * len(shape) + 1))
    order[len(blocks)] = 0
    s = 1
    for i, block in enumerate(blocks):
        top_shape[i + s] //= block
        permuted_shape[i + s] = top_shape[i + s]
        order[i + len(blocks) + 1] = i + s
        s += 1
        top_shape.insert(i + s, block)
        permuted_shape.insert(i, block)
        order[i] = i + s
    mixed, top = padded.reshape(top_shape), np.zeros(permuted_shape)
    for place in np.ndindex(*top_shape):
        top[tuple(place[order[j]] for j in range(len(place)))] = mixed[place]
    sizes = [n // b for n, b in zip(shape[1:], blocks, strict=False)] + shape[len(blocks) + 1 :]
    return top.reshape(shape[0] * int(np.prod(blocks)), *sizes)


@pytest.mark.parametrize(
    ("shape", "blocks", "pads"),
    [
        ((2, 3, 3, 5), [1, 2, 3], [0, 0, 1, 2, 0, 1]),
        ((1, 4, 2, 3), [2], [1, 1]),
        ((2, 4, 6), [2, 3], [0, 0, 0, 0]),
        ((1, 2, 3, 2), [2, 2, 2], [0, 0, 1, 0, 2, 0]),
        ((2, 3), [], []),
    ],
)
def test_space_to_batch_and_back(shape: tuple[int, ...], blocks: list[int], pads: list[int]) -> None:
    x = np.random.default_rng(len(shape)).normal(size=shape)
    body = f"space_to_batch_nd_param {{ block_shape: {_list(blocks)} paddings: {_list(pads)} }}"
    got = one_layer("SpaceToBatchND", body, shape)(torch.from_numpy(x))
    np.testing.assert_array_equal(got.numpy(), _slow_space_to_batch(x, blocks, pads))
    body = f"batch_to_space_nd_param {{ block_shape: {_list(blocks)} crops: {_list(pads)} }}"
    back = one_layer("BatchToSpaceND", body, tuple(got.shape))(got)
    np.testing.assert_array_equal(back.numpy(), x)


def test_batch_to_space_by_places() -> None:
    """Pixel (h, w) of image n lies in image ((h % 2) 3 + w % 3) N + n, at (h / 2, w / 3)."""
    x = np.random.default_rng(5).normal(size=(12, 2, 3, 2))
    body = "batch_to_space_nd_param { block_shape: [2, 3] crops: [1, 0, 2, 1] }"
    got = one_layer("BatchToSpaceND", body, x.shape)(torch.from_numpy(x)).numpy()
    assert got.shape == (2, 3, 6, 2)
    for n, h, w in np.ndindex(2, 3, 6):
        row, column = h + 1, w + 2
        np.testing.assert_array_equal(got[n, h, w], x[((row % 2) * 3 + column % 3) * 2 + n, row // 2, column // 3])


@pytest.mark.parametrize(
    ("kind", "body", "shape", "error", "what"),
    [
        ("Pad", "pad_param { paddings: [1, 1] }", (2, 3), ShapeError, "paddings has 2 numbers"),
        ("DepthToSpace", "depth_to_space_param { block_size: 0 }", (1, 2, 2, 4), LayerError, "block_size is 0"),
        ("DepthToSpace", "depth_to_space_param { block_size: 2 }", (1, 4, 2, 3), ShapeError, "a multiple of 2 x 2"),
        ("DepthToSpace", "depth_to_space_param { block_size: 2 }", (1, 4, 2), ShapeError, "expected 4 axes"),
        (
            "DepthToSpace",
            'depth_to_space_param { block_size: 2 data_format: "X" }',
            (1, 4, 2, 4),
            LayerError,
            "data_format is 'X'",
        ),
        (
            "SpaceToBatchND",
            "space_to_batch_nd_param { block_shape: 2 paddings: [0, 0] }",
            (1, 3),
            ShapeError,
            "axis 1 has 3 numbers",
        ),
        ("SpaceToBatchND", "space_to_batch_nd_param { block_shape: 2 }", (1, 4), LayerError, "paddings has 0 numbers"),
        (
            "SpaceToBatchND",
            "space_to_batch_nd_param { block_shape: 0 paddings: [0, 0] }",
            (1, 4),
            LayerError,
            "block_shape is .0.",
        ),
        (
            "SpaceToBatchND",
            "space_to_batch_nd_param { block_shape: [1, 1] paddings: [0, 0, 0, 0] }",
            (1, 4),
            ShapeError,
            "more axes than the 2",
        ),
        (
            "BatchToSpaceND",
            "batch_to_space_nd_param { block_shape: 2 crops: [0, 0] }",
            (3, 4),
            ShapeError,
            "has 3 images",
        ),
        (
            "BatchToSpaceND",
            "batch_to_space_nd_param { block_shape: 2 crops: [1, 1] }",
            (2, 1),
            ShapeError,
            "crops leave 0",
        ),
    ],
)
def test_refusals(kind: str, body: str, shape: tuple[int, ...], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer(kind, body, shape)
