"""Region pooling against slow loops, and SmoothL1Loss against its formula."""

import math

import numpy as np
import pytest
import torch
from one_layer import numbers, one_layer, seq

from caffe_compat.errors import LayerError, ShapeError


def c_round(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def bin_range(index: int, length: int, bins: int, start: int, size: int) -> range:
    step = np.float32(length) / np.float32(bins)
    low = math.floor(np.float32(index) * step) + start
    high = math.ceil(np.float32(index + 1) * step) + start
    return range(min(max(low, 0), size), min(max(high, 0), size))


def roi_pool(feature: np.ndarray, rois: np.ndarray, size: tuple[int, int], scale: float) -> np.ndarray:
    _, channels, height, width = feature.shape
    result = np.zeros((len(rois), channels, *size), np.float32)
    for r, (index, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (c_round(np.float32(corner) * np.float32(scale)) for corner in corners)
        for c, i, j in np.ndindex(channels, *size):
            rows = bin_range(i, max(y2 - y1 + 1, 1), size[0], y1, height)
            columns = bin_range(j, max(x2 - x1 + 1, 1), size[1], x1, width)
            cells = [feature[int(index), c, y, x] for y in rows for x in columns]
            result[r, c, i, j] = max(cells, default=0)
    return result


def test_oracle_values() -> None:
    layer = one_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }", (1, 1, 4, 4), (2, 5)
    )
    x = seq(1, 1, 4, 4).requires_grad_()
    y = layer(x, torch.tensor([[0.0, 1, 0, 5, 6], [0, -3, 2, 9, 3]]))
    torch.testing.assert_close(y.flatten(), numbers("0.8 0.6 0.6 0.4 0.8 0.2 1 0.4"))
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), numbers("0 0 1 0 0 2 0 1 1 0 2 0 0 1 0 0"))


@pytest.mark.parametrize(("size", "scale"), [((6, 6), 0.0625), ((7, 3), 0.0625), ((2, 2), 0.5)])
def test_against_loops(size: tuple[int, int], scale: float) -> None:
    random = np.random.RandomState(0)
    feature = random.standard_normal((2, 2, 13, 17)).astype(np.float32)
    corners = random.uniform(-30, 300, (40, 4)).round(1)
    corners[:10] = (corners[:10] * scale).round() / scale + 0.5 / scale  # exact halves
    rois = np.column_stack((random.randint(0, 2, 40), corners)).astype(np.float32)
    body = f"roi_pooling_param {{ pooled_h: {size[0]} pooled_w: {size[1]} spatial_scale: {scale} }}"
    layer = one_layer("ROIPooling", body, feature.shape, rois.shape)
    got = layer(torch.tensor(feature), torch.tensor(rois))
    assert np.array_equal(got.numpy(), roi_pool(feature, rois, size, scale))


def test_a_float32_bin_overshoots() -> None:
    layer = one_layer("ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 1 }", (1, 1, 60, 1), (1, 5))
    x = torch.arange(60.0).reshape(1, 1, 60, 1)
    got = layer(x, torch.tensor([[0.0, 0, 0, 0, 56]]))
    assert got[0, 0, 6, 0] == 57  # ceil(7 * float32(57 / 7)) is 58: one row beyond the region


def test_no_regions() -> None:
    layer = one_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", (1, 3, 4, 4), (1, 5))
    assert layer(torch.rand(1, 3, 4, 4), torch.zeros(0, 5)).shape == (0, 3, 2, 2)


@pytest.mark.parametrize("index", [2, -1])
def test_region_of_no_image(index: int) -> None:
    layer = one_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", (2, 1, 4, 4), (1, 5))
    with pytest.raises(LayerError, match=f"image index in 'x1' is {index}, expected 0 to 1"):
        layer(torch.rand(2, 1, 4, 4), torch.tensor([[index, 0, 0, 3, 3.0]]))


def test_roi_refusals() -> None:
    with pytest.raises(LayerError, match="pooled_w must be > 0"):
        one_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 }", (2, 1, 4, 4), (1, 5))
    with pytest.raises(ShapeError, match="R x 5"):
        one_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", (2, 1, 4, 4), (1, 4))


def mask_map(roi: list[int], mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The map of CFMPooling, by its definition."""
    x1, y1, x2, y2 = roi
    (mh, mw), result = mask.shape, np.zeros((height, width), np.float32)
    sy, sx = mh / (y2 - y1 + 1), mw / (x2 - x1 + 1)
    for y in range(y1, y2 + 1):
        for x in range(x1, x2 + 1):
            cy, cx = (y + 0.5 - y1) * sy - 0.5, (x + 0.5 - x1) * sx - 0.5
            value = total = 0.0
            for j in range(max(math.ceil(cy - sy), 0), min(math.floor(cy + sy), mh - 1) + 1):
                for i in range(max(math.ceil(cx - sx), 0), min(math.floor(cx + sx), mw - 1) + 1):
                    weight = (1 - abs(i - cx) / sx) * (1 - abs(j - cy) / sy)
                    value, total = value + weight * mask[j, i], total + weight
            result[y, x] = total > 0 and value / total >= 0.5
    return result


def test_masked_pooling() -> None:
    random = np.random.RandomState(0)
    feature = random.standard_normal((2, 2, 6, 7)).astype(np.float32)
    rois = np.array([[0, 0, 0, 4, 3], [1, 1, 2, 6, 5], [1, 2, 2, 2, 2]], np.float32)
    masks = random.randint(0, 2, (3, 1, 4, 3)).astype(np.float32)
    layer = one_layer(
        "CFMPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
        *(a.shape for a in (feature, rois, masks)),
        tops=("pooled", "maps"),
    )
    x = torch.tensor(feature, requires_grad=True)
    pooled, maps = layer(x, torch.tensor(rois), torch.tensor(masks))
    expected = np.stack(
        [mask_map(roi[1:].astype(int).tolist(), mask[0], 6, 7) for roi, mask in zip(rois, masks, strict=True)]
    )
    assert 0 < expected.mean() < 1
    assert np.array_equal(maps[:, 0].numpy(), expected)
    masked = feature[rois[:, 0].astype(int)] * expected[:, None]
    local = np.column_stack((range(3), rois[:, 1:]))
    assert np.array_equal(pooled.detach().numpy(), roi_pool(masked, local, (2, 2), 1))
    pooled.sum().backward()
    assert x.grad is not None
    lit = np.zeros((2, 6, 7))
    for roi, one in zip(rois, expected, strict=True):
        lit[int(roi[0])] += one
    assert not x.grad.numpy()[(lit == 0)[:, None].repeat(2, 1)].any()
    with pytest.raises(LayerError, match="region 1 is"):
        layer(x, torch.tensor(rois) + torch.tensor([0, 1.0, 0, 1, 0]), torch.tensor(masks))


@pytest.mark.parametrize("weights", [0, 1, 2])
@pytest.mark.parametrize("sigma", [1, 3])
def test_smooth_l1(weights: int, sigma: int) -> None:
    random = np.random.RandomState(0)
    a, b, inside, outside = random.standard_normal((4, 3, 5)).astype(np.float32)
    shapes = [(3, 5)] * {0: 2, 1: 3, 2: 4}[weights]
    layer = one_layer("SmoothL1Loss", f"smooth_l1_loss_param {{ sigma: {sigma} }}", *shapes)
    w_in = inside if weights else np.ones_like(a)
    w_out = outside if weights == 2 else np.ones_like(a)
    d, s2 = w_in * (a - b), sigma**2
    value = np.where(abs(d) < 1 / s2, 0.5 * s2 * d * d, abs(d) - 0.5 / s2)
    slope = np.where(abs(d) < 1 / s2, s2 * d, np.sign(d)) * w_in * w_out / 3
    tensors = [torch.tensor(t, requires_grad=True) for t in (a, b, inside, outside)[: len(shapes)]]
    loss = layer(*tensors)
    assert loss.item() == pytest.approx((w_out * value).sum() / 3, rel=1e-5)
    to_a, to_b, *rest = torch.autograd.grad(loss, tensors, allow_unused=True)
    torch.testing.assert_close(to_a, torch.tensor(slope))
    torch.testing.assert_close(to_b, -to_a)
    assert all(gradient is None for gradient in rest)


def test_smooth_l1_has_no_loss_weight_by_default() -> None:
    assert one_layer("SmoothL1Loss", "", (3, 5), (3, 5)).default_loss_weight == 0
    with pytest.raises(ShapeError, match="expected equal shapes"):
        one_layer("SmoothL1Loss", "", (3, 5), (3, 5), (3, 4))
