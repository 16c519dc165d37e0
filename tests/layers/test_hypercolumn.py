"""Layers of caffe-sds against slow loops."""

import math

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError

RANDOM = np.random.RandomState(0)


def sample(plane: np.ndarray, y: float, x: float) -> float:
    """Bilinear value between cell centres; the border is repeated."""
    height, width = plane.shape
    y0, x0 = math.floor(y), math.floor(x)
    total = 0.0
    for yy, wy in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
        for xx, wx in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
            total += wy * wx * plane[min(max(yy, 0), height - 1), min(max(xx, 0), width - 1)]
    return total


def grid_probability(scores: np.ndarray, g: int) -> np.ndarray:
    number, channels, height, width = scores.shape
    result = np.zeros((number, channels // g**2, height, width))
    for n, c, y, x in np.ndindex(*result.shape):
        cells = 1 / (1 + np.exp(-scores[n, c * g * g : (c + 1) * g * g, y, x].reshape(g, g)))
        result[n, c, y, x] = sample(cells, (y + 0.5) * g / height - 0.5, (x + 0.5) * g / width - 0.5)
    return result


@pytest.mark.parametrize(("grid", "shape"), [(1, (2, 2, 3, 4)), (2, (1, 8, 5, 3)), (3, (1, 9, 2, 7))])
def test_locally_connected(grid: int, shape: tuple[int, ...]) -> None:
    scores = RANDOM.standard_normal(shape).astype(np.float32) * 3
    layer = one_layer("LocallyConnected", f"local_layer_param {{ grid_size: {grid} }}", shape)
    torch.testing.assert_close(
        layer(torch.tensor(scores)), torch.tensor(grid_probability(scores, grid), dtype=torch.float32)
    )


def test_locally_connected_loss() -> None:
    scores = RANDOM.standard_normal((2, 8, 3, 4)).astype(np.float32)
    label = np.array([-1, 0, 0.2, 0.5, 0.7, 1], np.float32)[RANDOM.randint(0, 6, (2, 2, 3, 4))]
    wanted = np.array([0.5, 2], np.float32)
    layer = one_layer(
        "LocallyConnectedWithLoss",
        "local_layer_param { grid_size: 2 pos_loss_wt: 3 neg_loss_wt: 0.5 }",
        *((2, 8, 3, 4), (2, 2, 3, 4), (2,)),
    )
    p = grid_probability(scores, 2)
    terms = np.where(label > 0.5, -3 * np.log(p), np.where((label >= 0) & (label < 0.5), -0.5 * np.log(1 - p), 0))
    x = torch.tensor(scores, requires_grad=True)
    loss = layer(x, torch.tensor(label), torch.tensor(wanted))
    assert loss.item() == pytest.approx((terms.sum((1, 2, 3)) * wanted).sum() / 2, rel=1e-5)
    # the gradient is that of weights 1, and a label of exactly 0.5 counts as negative in it
    mixed = torch.tensor(scores, requires_grad=True)
    plain = one_layer("LocallyConnected", "local_layer_param { grid_size: 2 }", (2, 8, 3, 4))(mixed)
    mask = torch.tensor(label >= 0) * torch.tensor(wanted)[:, None, None, None] / 2
    (
        torch.nn.functional.binary_cross_entropy(plain, torch.tensor(label > 0.5).float(), mask, reduction="sum")
    ).backward()
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(gradient, mixed.grad)


def test_locally_connected_loss_without_weights_is_zero_but_trains() -> None:
    layer = one_layer("LocallyConnectedWithLoss", "local_layer_param { grid_size: 1 }", *((1, 1, 1, 1),) * 2, (1,))
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    loss = layer(x, torch.ones(1, 1, 1, 1), torch.ones(1))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, x)[0].item() == -0.5
    assert layer.default_loss_weight == 0


def test_box_upsample() -> None:
    maps = RANDOM.standard_normal((2, 5, 4, 6)).astype(np.float32)
    boxes = np.array([[0, 0, 0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0, 1, 1], [1, 0, 0.9, 0.9, 1.2, 1.1]], np.float32)
    layer = one_layer("BoxUpsample", "box_upsample_param { width: 5 height: 3 channels: 2 }", maps.shape, boxes.shape)
    expected = np.zeros((3, 2, 3, 5), np.float32)
    for r, c, y, x in np.ndindex(*expected.shape):
        level, group, x1, y1, x2, y2 = boxes[r]
        yy, xx = ((y + 0.5) * (y2 - y1) / 3 + y1) * 4 - 0.5, ((x + 0.5) * (x2 - x1) / 5 + x1) * 6 - 0.5
        expected[r, c, y, x] = sample(maps[int(level), int(group) * 2 + c], yy, xx)
    got = layer(torch.tensor(maps), torch.tensor(boxes))
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(LayerError, match="a group in 'x1' is 2, expected 0 to 1"):
        layer(torch.tensor(maps), torch.tensor([[0, 2, 0, 0, 1, 1.0]]))
    with pytest.raises(LayerError, match="a level in 'x1' is 2"):
        layer(torch.tensor(maps), torch.tensor([[2, 0, 0, 0, 1, 1.0]]))


@pytest.mark.parametrize(("type_name", "shift"), [("SimpleUpsample", 0.5), ("Upsample", 0.0)])
@pytest.mark.parametrize(("height", "width"), [(9, 7), (2, 3)])
def test_upsample(type_name: str, shift: float, height: int, width: int) -> None:
    x = RANDOM.standard_normal((1, 2, 4, 5)).astype(np.float32)
    layer = one_layer(type_name, f"upsample_param {{ height: {height} width: {width} }}", x.shape)
    expected = np.zeros((1, 2, height, width), np.float32)
    for _, c, i, j in np.ndindex(*expected.shape):
        expected[0, c, i, j] = sample(x[0, c], (i + shift) * 4 / height - 0.5, (j + shift) * 5 / width - 0.5)
    torch.testing.assert_close(layer(torch.tensor(x)), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_superpixel_projection() -> None:
    ids = RANDOM.randint(1, 6, (1, 1, 7, 9)).astype(np.float32)
    boxes = np.array([[0, 0, 0.1, 0.2, 0.8, 0.9], [0, 0, -0.5, 0, 2, 1], [9, 9, 0.5, 0.5, 0.55, 0.6]], np.float32)
    masks = RANDOM.rand(3, 1, 4, 5).astype(np.float32)
    layer = one_layer("SuperpixelProjection", "", ids.shape, boxes.shape, masks.shape)
    expected, sizes = np.zeros((3, 5)), np.bincount(ids.astype(int).ravel(), minlength=6)[1:]
    for r, (_, _, *corners) in enumerate(boxes):
        x1, y1, x2, y2 = np.array(corners, np.float32) * np.array([9, 7, 9, 7], np.float32)
        for y in range(min(max(math.ceil(y1), 0), 6), min(max(math.floor(y2), 0), 6) + 1):
            for x in range(min(max(math.ceil(x1), 0), 8), min(max(math.floor(x2), 0), 8) + 1):
                row = min(max(math.floor((y - y1) / (y2 - y1 + 1) * 4), 0), 3)
                column = min(max(math.floor((x - x1) / (x2 - x1 + 1) * 5), 0), 4)
                expected[r, int(ids[0, 0, y, x]) - 1] += masks[r, 0, row, column]
    got = layer(torch.tensor(ids), torch.tensor(boxes), torch.tensor(masks))
    assert got.shape == (1, 1, 3, 5)
    torch.testing.assert_close(got[0, 0], torch.tensor(expected / sizes, dtype=torch.float32))
    with pytest.raises(LayerError, match="expected ids from 1"):
        layer(torch.tensor(ids) - 1, torch.tensor(boxes), torch.tensor(masks))


def test_refusals() -> None:
    with pytest.raises(ShapeError, match=r"a multiple of grid_size\^2 = 9"):
        one_layer("LocallyConnected", "local_layer_param { grid_size: 3 }", (2, 4, 6, 6))
    with pytest.raises(LayerError, match="box_upsample_param.channels is missing"):
        one_layer("BoxUpsample", "box_upsample_param { width: 2 height: 2 }", (2, 4, 6, 6), (1, 6))
    with pytest.raises(LayerError, match="upsample_param.width is missing"):
        one_layer("SimpleUpsample", "upsample_param { height: 2 }", (2, 4, 6, 6))
    with pytest.raises(ShapeError, match="one weight per box"):
        one_layer("LocallyConnectedWithLoss", "local_layer_param { grid_size: 2 }", (2, 4, 6, 6), (2, 1, 6, 6), (3,))
