"""RegionPooling and MultiROIPooling against loops written from their sources, and the losses beside them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.net import BlobNet, load_net


def _cells(box: np.ndarray, scale: float, offset: float) -> list[int]:
    low = [math.floor((value + 1 + offset) * scale + 0.5) for value in box[:2]]
    high = [math.ceil((value + 1 - offset) * scale - 0.5) for value in box[2:]]
    for axis in (0, 1):
        if low[axis] > high[axis]:
            low[axis] = high[axis] = int((low[axis] + high[axis]) / 2)
    return [*low, *high]


def _slow_regions(
    x: np.ndarray, rois: np.ndarray, size: tuple[int, int], scale: float, offset: float, seed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The top, and the diff of the features."""
    top, diff = np.zeros((len(rois), x.shape[1], *size)), np.zeros(x.shape)
    for n, roi in enumerate(rois):
        x1, y1, x2, y2 = _cells(roi[1:5], scale, offset)
        a1, b1, a2, b2 = _cells(roi[5:], scale, offset)
        bin_h, bin_w = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for c, ph, pw in np.ndindex(*top.shape[1:]):
            best, place = 0.0, None
            for h in range(math.floor(ph * bin_h) + y1, math.ceil((ph + 1) * bin_h) + y1):
                for w in range(math.floor(pw * bin_w) + x1, math.ceil((pw + 1) * bin_w) + x1):
                    if not (0 <= h < x.shape[2] and 0 <= w < x.shape[3]) or (a1 < w < a2 and b1 < h < b2):
                        continue
                    if x[int(roi[0]), c, h, w] > best:
                        best, place = x[int(roi[0]), c, h, w], (int(roi[0]), c, h, w)
            top[n, c, ph, pw] = best
            if place:
                diff[place] += seed[n, c, ph, pw]
    return top, diff


def test_region_pooling() -> None:
    """Whole numbers: many ties, of which the first gets the gradient."""
    random = np.random.default_rng(0)
    x = random.integers(-2, 4, (2, 3, 7, 8)).astype(np.float64)
    rois = np.concatenate([random.integers(0, 2, (40, 1)), random.integers(-20, 60, (40, 8)) + 0.25], 1)
    rois[:10, 5:] = rois[:10, 1:5]  # nothing but a frame
    rois[0] = [1, 0, 0, 62, 54, 0, 0, 62, 54]
    body = "region_pooling_param { pooled_h: 2 pooled_w: 4 spatial_scale: 0.125 offset: 3 }"
    layer = one_layer("RegionPooling", body, (2, 3, 7, 8), (40, 9))
    leaf = torch.from_numpy(x).requires_grad_()
    top = layer(leaf, torch.from_numpy(rois))
    seed = random.normal(size=top.shape)
    want, diff = _slow_regions(x, rois, (2, 4), 0.125, 3, seed)
    assert np.count_nonzero(want == 0) and len(np.unique(want)) == 4
    np.testing.assert_array_equal(top.detach().numpy(), want)
    top.backward(torch.from_numpy(seed))
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), diff, atol=1e-12)


def _slow_crops(
    x: np.ndarray, marks: np.ndarray, size: tuple[int, int], scale: float, seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tops (R, N, C, ...), and the kernel's diff, which takes the first copied row for all."""
    tops, diff = np.zeros((marks.shape[1], *x.shape[:2], *size)), np.zeros(x.shape)
    for r, n, c in np.ndindex(*tops.shape[:3]):
        start, bottom, top, length = [], [], [], []
        for axis in (0, 1):
            value = marks[n, r, 1 - axis] * scale - size[axis] // 2
            start.append(int(math.copysign(math.floor(abs(value) + 0.5), value)))
            bottom.append(max(start[axis], 0))
            top.append(max(-start[axis], 0))
            over = size[axis] + bottom[axis] > x.shape[2 + axis]
            whole = x.shape[2 + axis] - bottom[axis] if over else size[axis]
            length.append(size[axis] + start[axis] if start[axis] < 0 else whole)
        for ph in range(length[0]):
            for pw in range(length[1]):
                tops[r, n, c, top[0] + ph, top[1] + pw] = x[n, c, bottom[0] + ph, bottom[1] + pw]
                diff[n, c, bottom[0] + ph, bottom[1] + pw] += seeds[r, n, c, top[0], top[1] + pw]
    return tops, diff


def test_crops() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(8, 2, 6, 5))
    marks = random.integers(-12, 30, (8, 3, 2)).astype(np.float64)
    body = "multi_roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 top_num: 3 }"
    layer = one_layer("MultiROIPooling", body, (8, 2, 6, 5), (8, 3, 2), tops=("a", "b", "c"))
    leaf = torch.from_numpy(x).requires_grad_()
    tops = layer(leaf, torch.from_numpy(marks))
    seeds = random.normal(size=(3, *tops[0].shape))
    want, diff = _slow_crops(x, marks, (3, 4), 0.25, seeds)
    np.testing.assert_array_equal(torch.stack(tops).detach().numpy(), want)
    torch.autograd.backward(tops, list(torch.from_numpy(seeds)))
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), diff, atol=1e-12)
    assert not want[:, :, :, 0].all() and not want[:, :, :, :, -1].all()


def test_losses() -> None:
    random = np.random.default_rng(2)
    a, b = (random.integers(-2, 3, (3, 4)).astype(np.float64) for _ in range(2))
    assert (a == b).any()
    leaves = [torch.from_numpy(values).requires_grad_() for values in (a, b)]
    loss = one_layer("AbsLoss", "", (3, 4), (3, 4), phase="TRAIN")(*leaves)
    assert float(loss.detach()) == pytest.approx(np.abs(a - b).sum() / 3)
    (2 * loss).backward()
    for sign, leaf in zip((1, -1), leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), 2 * sign / 3 * np.where(a > b, 1, -1))
    scores, target, weight = random.normal(0, 3, (3, 4)), random.random((3, 4)), random.integers(0, 3, (3, 4)) * 0.5
    scores[0, 0], weight[0, 0] = np.inf, 0
    leaf = torch.from_numpy(scores).requires_grad_()
    loss = one_layer("SigmoidCrossEntropyLossWeighted", "", *[(3, 4)] * 3)(
        leaf, torch.from_numpy(target), torch.from_numpy(weight)
    )
    total = sum(
        -w * (x * (t - (x >= 0)) - math.log(1 + math.exp(x - 2 * x * (x >= 0))))
        for x, t, w in zip(scores.flat, target.flat, weight.flat, strict=True)
        if w
    )
    assert float(loss.detach()) == pytest.approx(total / 3, rel=1e-9)
    loss.backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), weight * (1 / (1 + np.exp(-scores)) - target) / 3, atol=1e-12)


def test_manhattan_loss() -> None:
    a, b = np.array([[1.0, -2.0], [0.5, 0.001]]), np.array([[0.0, -2.0], [3.0, 0.0]])
    leaves = [torch.from_numpy(a).requires_grad_(), torch.from_numpy(b.reshape(2, 2, 1)).requires_grad_()]
    loss = one_layer("ManhattanLoss", "", (2, 2), (2, 2, 1), phase="TRAIN")(*leaves)
    assert float(loss.detach()) == pytest.approx((1 + 0 + 2.5 + 0.001) / 2)
    (3 * loss).backward()
    for sign, leaf in zip((1, -1), leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.reshape(2, 2).numpy(), sign * 1.5 * np.array([[1, 0], [-1, 1]]))


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "tops", "message"),
    [
        ("RegionPooling", "", [(1, 2, 4, 4), (1, 9)], 1, "pooled_h, pooled_w must be > 0"),
        ("RegionPooling", "region_pooling_param { pooled_h: 1 pooled_w: 1 }", [(1, 2, 4, 4), (1, 5)], 1, "R x 9"),
        ("RegionPooling", "region_pooling_param { pooled_h: 1 pooled_w: 1 }", [(2, 4, 4), (1, 9)], 1, "N x C x H x W"),
        (
            "MultiROIPooling",
            "multi_roi_pooling_param { pooled_h: 2 }",
            [(1, 2, 4, 4), (1, 2, 2)],
            2,
            "pooled_h, pooled",
        ),
        (
            "MultiROIPooling",
            "multi_roi_pooling_param { pooled_h: 2 pooled_w: 2 top_num: 3 }",
            [(1, 2, 4, 4), (1, 2, 2)],
            2,
            "top_num is 3, expected 2",
        ),
        (
            "MultiROIPooling",
            "multi_roi_pooling_param { pooled_h: 5 pooled_w: 2 top_num: 2 }",
            [(1, 2, 4, 4), (1, 2, 2)],
            2,
            "larger than the map, 4 x 4",
        ),
        (
            "MultiROIPooling",
            "multi_roi_pooling_param { pooled_h: 2 pooled_w: 2 top_num: 2 }",
            [(1, 2, 4, 4), (1, 3, 2)],
            2,
            "expected landmarks 1 x 2 x 2",
        ),
        ("SigmoidCrossEntropyLossWeighted", "", [(2, 3), (2, 3), (2, 1)], 1, "must have the same count"),
        ("AbsLoss", "", [(2, 3), (2, 4)], 1, "must have the same dimension"),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], tops: int, message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_layer(kind, body, *shapes, tops=[f"y{index}" for index in range(tops)])


def test_regions_that_are_none() -> None:
    layer = one_layer("RegionPooling", "region_pooling_param { pooled_h: 1 pooled_w: 1 }", (1, 1, 4, 4), (1, 9))
    with pytest.raises(LayerError, match="an image index in 'x1' is 1, expected 0 to 0"):
        layer(torch.rand(1, 1, 4, 4), torch.ones(1, 9))
    with pytest.raises(LayerError, match="expected finite"):
        layer(torch.rand(1, 1, 4, 4), torch.full((1, 9), torch.nan))


def test_reshape_in_place_as_locnet_has_it(tmp_path: Path) -> None:
    """The same numbers and diffs as with a top of another name; without a layer of LocNet it is refused."""
    found = []
    for top, pooled in (("z", True), ("y", True), ("y", False)):
        regions = """layer { name: "f" type: "Input" top: "f" top: "r" input_param {
            shape { dim: 1 dim: 1 dim: 4 dim: 4 } shape { dim: 1 dim: 9 } } }
            layer { name: "p" type: "RegionPooling" bottom: "f" bottom: "r" top: "p"
              region_pooling_param { pooled_h: 1 pooled_w: 1 } }"""
        (tmp_path / "net.prototxt").write_text(
            f"""force_backward: true
            layer {{ name: "i" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 }} }} }}
            {regions * pooled}
            layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "y"
              inner_product_param {{ num_output: 6 weight_filler {{ type: "gaussian" }} }} }}
            layer {{ name: "rs" type: "Reshape" bottom: "y" top: "{top}"
              reshape_param {{ shape {{ dim: -1 dim: 2 dim: 3 }} }} }}
            layer {{ name: "s" type: "Sigmoid" bottom: "{top}" top: "s" }}
            layer {{ name: "l" type: "Reduction" bottom: "s" top: "l" loss_weight: 1 }}"""
        )
        if not pooled:
            with pytest.raises(LayerError, match="in place"):
                load_net(tmp_path / "net.prototxt")
            break
        torch.manual_seed(0)
        engine = BlobNet(load_net(tmp_path / "net.prototxt"))
        engine.blob("x").data[...] = np.random.default_rng(0).normal(size=(4, 3))
        for _ in range(2):
            engine.forward()
            engine.backward()
        assert engine.blob(top).data.shape == (4, 2, 3)
        found.append((engine.blob("s").data.copy(), engine.blob("x").diff.copy()))
    assert found[1][1].any()
    for other, same in zip(*found, strict=True):
        np.testing.assert_array_equal(other, same)
