"""DetectionLoss, DetectionAccuracy and their group forms against loops written down from the forks' sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_cascade import GROUP, NORM, truth
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError

MEANS, STDS = (0.1, 0, 0.2, 0), (0.1, 0.2, 0.3, 0.4)
Row = list[float]


def overlap(a: Row, b: Row, pixel: int) -> float:
    """BoxIOU (pixel 0) and JaccardOverlap (1) of x, y, width and height."""
    if min(a[2], a[3], b[2], b[3]) <= 0:
        return 0.0
    low = [max(a[k], b[k]) for k in (0, 1)]
    high = [min(a[k] + a[k + 2] - pixel, b[k] + b[k + 2] - pixel) for k in (0, 1)]
    apart = any(lo > hi if pixel else lo >= hi for lo, hi in zip(low, high, strict=True))
    over = 0.0 if apart else (high[0] - low[0] + pixel) * (high[1] - low[1] + pixel)
    return over / (a[2] * a[3] + b[2] * b[3] - over)


def _blob(maps: int, height: int, width: int, seed: int) -> np.ndarray:
    """What is right: classes 0 to 2, boxes near their cells, overlaps of one digit with ties."""
    random = np.random.default_rng(seed)
    blob = np.zeros((maps, 6, height, width))
    blob[:, 0] = random.integers(0, 3, (maps, height, width)) * (random.random((maps, height, width)) < 0.5)
    blob[:, 1:3] = random.uniform(0, 8 * max(height, width), (maps, 2, height, width))
    blob[:, 3:5] = random.uniform(1, 30, (maps, 2, height, width))
    blob[:, 5] = np.round(random.random((maps, height, width)), 1)
    return blob


def _target(cell: np.ndarray, place: tuple[int, int], field: tuple[float, float, float], norm: bool) -> Row:
    wide, high, stride = field
    h, w = place
    values = [
        (cell[1] - (w + 0.5) * stride) / wide,
        (cell[2] - (h + 0.5) * stride) / high,
        math.log(max(cell[3], 2) / wide),
        math.log(max(cell[4], 2) / high),
    ]
    return [(v - m) / s for v, m, s in zip(values, MEANS, STDS, strict=True)] if norm else values


def _bounds(xyr: float, whr: float, norm: bool) -> list[tuple[float, float]]:
    pairs = [(-1 / xyr, 1 / xyr), (math.log(1 / whr), math.log(whr))]
    if norm:
        pairs = [
            tuple((v - (MEANS[k] + MEANS[k + 1]) / 2) / math.sqrt(STDS[k] * STDS[k + 1]) for v in pair)
            for k, pair in zip((0, 2), pairs, strict=True)
        ]
    return [pairs[0], pairs[0], pairs[1], pairs[1]]


def _slow_loss(
    scores: np.ndarray,
    offsets: np.ndarray,
    blob: np.ndarray,
    counted: np.ndarray,
    weight: np.ndarray,
    boxed: np.ndarray,
    fields: list[tuple[float, float, float]],
    options: dict[str, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two numbers and the gradients, cell by cell."""
    softmax = np.exp(scores - scores.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    maps, _, height, width = scores.shape
    diff, slope = np.zeros_like(scores), np.zeros_like(offsets)
    total = [0.0, 0.0]
    numbers = [max(counted.sum(), 1), max(4 * boxed.sum(), 1)]
    norm = bool(options["norm"])
    for m, h, w in np.ndindex(maps, height, width):
        label = int(blob[m, 0, h, w])
        if counted[m, h, w]:
            total[0] -= math.log(max(softmax[m, label, h, w], 1.17549435e-38)) * weight[m, h, w]
            diff[m, :, h, w] = softmax[m, :, h, w] * weight[m, h, w] / numbers[0]
            diff[m, label, h, w] -= weight[m, h, w] / numbers[0]
        if boxed[m, h, w]:
            want = _target(blob[m, :, h, w], (h, w), fields[m % len(fields)], norm)
            bounds = _bounds(options["xyr"], options["whr"], norm) if options["bounded"] else [(-1e9, 1e9)] * 4
            for k in range(4):
                d = min(max(offsets[m, k, h, w], bounds[k][0]), bounds[k][1]) - want[k]
                smooth = options["smooth"] and abs(d) >= 1
                total[1] += abs(d) - 0.5 if smooth else d * d / 2
                slope[m, k, h, w] = options["lambda"] / numbers[1] * (math.copysign(1, d) if smooth else d)
    boxes = options["lambda"] * total[1] / numbers[1]
    return np.array([total[0] / numbers[0] + boxes, boxes]), diff, slope


def _background(blob: np.ndarray, threshold: float) -> np.ndarray:
    found: np.ndarray = (blob[:, 0] == 0) & (blob[:, 5] < np.float32(threshold))
    return found


@pytest.mark.parametrize("mode", ["all", "bootstrap", "random", "mixture"])
@pytest.mark.parametrize("norm", [False, True])
def test_detection_loss(mode: str, norm: bool) -> None:
    random, blob = np.random.default_rng(4), _blob(2, 4, 5, 4)
    maps = np.round(random.normal(size=(2, 7, 4, 5)) * 2, 1)  # with ties
    extra = "iou_weighted: true pos_neg_weighted: true bb_smooth: false" if norm else ""
    text = (
        "detection_loss_param { cls_num: 3 field_w: 10 field_h: 12 downsample_rate: 8 field_xyr: 2 field_whr: 3 "
        f'bg_multiple: 1 lambda: 0.5 bg_threshold: 0.6 sample_mode: "{mode}" {extra} }}'
    )
    text += f" bbox_reg_param {{ {NORM} }}" if norm else ""
    layer = one_layer("DetectionLoss", text, maps.shape, blob.shape, phase="TRAIN").double()
    value = torch.from_numpy(maps).requires_grad_()
    top = layer(value, torch.from_numpy(blob))
    top.backward(torch.tensor([2.0, 77.0]).double().reshape(1, 1, 1, 2))  # the second has no gradient
    gradient = value.grad.numpy() / 2
    positive, background = blob[:, 0] > 0, _background(blob, 0.6)
    chosen = (gradient[:, :3] != 0).any(1) & ~positive
    assert not (chosen & ~background).any() and chosen.any()
    if mode == "all":
        assert (chosen == background).all()
    wanted = np.zeros_like(chosen)
    for item in range(2):
        flat = maps[item].reshape(7, -1)
        for kind in (1, 2):
            number = max(4, int((blob[item, 0] == kind).sum() * (0.5 if mode == "mixture" else 1)))
            pairs = sorted(((flat[kind, j], j) for j in background[item].reshape(-1).nonzero()[0]), reverse=True)
            for _, j in pairs[:number]:
                wanted[item].reshape(-1)[j] = True
    if mode in ("bootstrap", "mixture"):
        assert (wanted <= chosen).all() and (mode == "mixture" or (wanted == chosen).all())
    if mode == "random":
        assert all(chosen[k].sum() <= max(positive[k].sum(), 8) for k in (0, 1))
    weight = np.where(positive, blob[:, 5], 1) if norm else np.ones_like(blob[:, 0])
    if norm:
        share, total = 1 / 2, chosen.sum() + positive.sum()
        sums = weight[positive].sum(), weight[chosen].sum()
        weight = np.where(positive, weight * share * total / sums[0], weight * (1 - share) * total / sums[1])
    options = {"xyr": 2, "whr": 3, "lambda": 0.5, "norm": norm, "bounded": True, "smooth": not norm}
    want = _slow_loss(maps[:, :3], maps[:, 3:], blob, positive | chosen, weight, positive, [(10.0, 12.0, 8.0)], options)
    np.testing.assert_allclose(top.detach().numpy().reshape(-1), want[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate(want[1:], 1), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("mining", ["random", "bootstrap", "mixture"])
@pytest.mark.parametrize(("batch", "ranking"), [(-1, "conf_loss"), (8, "conf_prob")])
def test_detection_group_loss(mining: str, batch: int, ranking: str) -> None:
    random, blob = np.random.default_rng(7), _blob(4, 3, 4, 7)
    blob[1, 0, 0, 0] = -3  # neither
    scores = np.round(random.normal(size=(4, 3, 3, 4)), 1)
    offsets = random.normal(size=(4, 4, 3, 4)) * 2
    norm = bounded = batch == 8
    text = (
        f"detection_group_loss_param {{ {GROUP} cls_num: 3 bg_multiple: 1 batch_size: {batch} pos_neg_weighted: true "
        f'neg_mining_type: "{mining}" neg_ranking_type: "{ranking}" '
        + (f"field_xyr: 1 field_whr: 4 }} bbox_reg_param {{ {NORM} }}" if norm else 'bbox_loss_type: "Euclidean_L2" }')
    )
    layer = one_layer("DetectionGroupLoss", text, scores.shape, offsets.shape, blob.shape, phase="TRAIN").double()
    values = [torch.from_numpy(one).requires_grad_() for one in (scores, offsets)]
    top = layer(*values, torch.from_numpy(blob))
    top.backward(torch.tensor([1.0, 5.0]).double().reshape(1, 1, 1, 2))
    positive, background = blob[:, 0] > 0, _background(blob, 0.5)
    chosen = (values[0].grad.numpy() != 0).any(1)
    assert not (chosen & ~positive & ~background).any()
    softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    rank = (1 - softmax[:, 0] if ranking == "conf_prob" else -np.log(softmax[:, 0])).reshape(2, -1)
    for image in range(2):
        own, other, found = (value.reshape(2, -1)[image] for value in (positive, background, chosen))
        wanted = own.sum() if batch == -1 else min(4, own.sum())
        most = min(max(wanted, 5) if batch == -1 else 8 - wanted, other.sum())
        assert (found & own).sum() == wanted and (found & other).sum() == most
        hard = {"random": 0, "bootstrap": most, "mixture": int(most * 0.5 + 0.5)}[mining]
        if other.sum() > most:
            order = sorted(((round(rank[image, j], 12), j) for j in other.nonzero()[0]), reverse=True)
            assert all(found[j] for _, j in order[:hard])
    kept = chosen & ~positive, chosen & positive
    weight = np.where(positive, chosen.sum() / 2 / kept[1].sum(), chosen.sum() / 2 / kept[0].sum())
    options = {"xyr": 1, "whr": 4, "lambda": 1, "norm": norm, "bounded": bounded, "smooth": norm}
    fields = [(8.0, 12.0, 8.0), (20.0, 10.0, 8.0)]
    want = _slow_loss(scores, offsets, blob, chosen, weight, chosen & positive, fields, options)
    np.testing.assert_allclose(top.detach().numpy().reshape(-1), want[0], rtol=1e-6)
    for value, gradient in zip(values, want[1:], strict=True):
        np.testing.assert_allclose(value.grad.numpy(), gradient, rtol=1e-5, atol=1e-9)


def test_losses_without_any_cell_are_zero() -> None:
    blob = torch.zeros(2, 6, 3, 4)
    blob[:, 5] = 0.9
    layer = one_layer(
        "DetectionGroupLoss", f"detection_group_loss_param {{ {GROUP} cls_num: 2 }}", *[(2, c, 3, 4) for c in (2, 4, 6)]
    )
    maps = [torch.ones(2, c, 3, 4, requires_grad=True) for c in (2, 4)]
    top = layer(*maps, blob)
    top.sum().backward()
    assert top.tolist() == [[[[0, 0]]]] and not any(one.grad.any() for one in maps)


@pytest.mark.parametrize(("kind", "pixel"), [("DetectionAccuracy", 0), ("DetectionGroupAccuracy", 1)])
@pytest.mark.parametrize("objectness", [False, True])
def test_accuracies(kind: str, pixel: int, objectness: bool) -> None:
    random, blob = np.random.default_rng(3), _blob(4, 3, 4, 3)
    blob[:, 3:5] *= 2
    classes = 2 if objectness else 3
    scores = np.round(random.normal(size=(4, classes, 3, 4)), 0)  # with ties
    offsets = random.normal(size=(4, 4, 3, 4))
    more = f"cls_num: {classes} objectness: {str(objectness).lower()} field_whr: 3 field_xyr: 2"
    if pixel:
        text = f"detection_group_accuracy_param {{ {GROUP} {more} }}"
        bottoms, fields = [scores, offsets, blob], [(8, 12, 8), (20, 10, 8)]
    else:
        text = f"detection_accuracy_param {{ field_w: 9 field_h: 11 downsample_rate: 8 {more} }}"
        bottoms, fields = [np.concatenate([scores, offsets], 1), blob], [(9, 11, 8)]
    text += f" loss_param {{ ignore_label: 2 }} bbox_reg_param {{ {NORM} }}"
    layer = one_layer(kind, text, *(one.shape for one in bottoms), tops=("a", "b")).double()
    tops = layer(*map(torch.from_numpy, bottoms))
    right, fore, ious = [], [], []
    for m, h, w in np.ndindex(4, 3, 4):
        label = raw = int(blob[m, 0, h, w])
        label = min(label, 1) if objectness else label
        own = scores[m, :, h, w]
        best = int(np.argmax(own)) if pixel else classes - 1 - int(np.argmax(own[::-1]))
        if label != 2 and not (label == 0 and blob[m, 5, h, w] >= 0.5):
            right.append(best == label)
            fore += [best == label] * (label != 0)
        if raw not in (0, 2):
            wide, high, stride = fields[m % len(fields)]
            x, y, tw, th = (offsets[m, k, h, w] * STDS[k] + MEANS[k] for k in range(4))
            x, y = (min(max(v, -0.5), 0.5) for v in (x, y))
            tw, th = (size * math.exp(min(max(v, -math.log(3)), math.log(3))) for v, size in ((tw, wide), (th, high)))
            box = [x * wide + (w + 0.5) * stride - tw / 2, y * high + (h + 0.5) * stride - th / 2, tw, th]
            gx, gy, gw, gh = blob[m, 1:5, h, w]
            ious.append(overlap(box, [gx - gw / 2, gy - gh / 2, gw, gh], pixel))
    assert len(ious) > 3 and max(ious) > 0
    np.testing.assert_allclose(tops[0].reshape(-1).numpy(), [np.mean(right), np.mean(fore)], rtol=1e-6)
    np.testing.assert_allclose(tops[1].item(), np.mean(ious), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "what"),
    [
        ("DetectionLoss", "detection_loss_param { cls_num: 3 field_w: 8 }", [(1, 7, 2, 2), (1, 6, 2, 2)], "field_h"),
        (
            "DetectionGroupLoss",
            f'detection_group_loss_param {{ {GROUP} cls_num: 2 neg_mining_type: "rand" }}',
            [(2, 2, 2, 2), (2, 4, 2, 2), (2, 6, 2, 2)],
            "neg_mining_type is 'rand'",
        ),
        (
            "DetectionGroupLoss",
            f"detection_group_loss_param {{ {GROUP} cls_num: 2 }} bbox_reg_param {{ bbox_mean: 1 bbox_std: 1 }}",
            [(2, 2, 2, 2), (2, 4, 2, 2), (2, 6, 2, 2)],
            "expected 4 numbers and 4 positive ones",
        ),
        (
            "DetectionGroupAccuracy",
            f"detection_group_accuracy_param {{ {GROUP} cls_num: 2 }}",
            [(3, 2, 2, 2), (3, 4, 2, 2), (3, 6, 2, 2)],
            "expected N 2 x 2 x H x W",
        ),
    ],
)
def test_refusals(kind: str, text: str, shapes: list[tuple[int, ...]], what: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=f"under_test.*{what}"):
        one_layer(kind, text, *shapes)


def test_a_class_without_a_score_is_refused() -> None:
    text = "detection_loss_param { cls_num: 2 field_w: 8 field_h: 8 downsample_rate: 4 }"
    layer = one_layer("DetectionLoss", text, (1, 6, 3, 4), (1, 6, 3, 4))
    with pytest.raises(LayerError, match="a class in bottom 'x1' is 2, expected below cls_num, 2"):
        layer(torch.zeros(1, 6, 3, 4), torch.tensor(truth(12)).reshape(1, 6, 3, 4))
