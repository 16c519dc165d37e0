"""The layers of region proposal nets against loops written down from py-faster-rcnn's Python."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from cases_rpn import named
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, PrototxtError, ShapeError
from caffe_compat.layers.anchors import AnchorGrid, suppress
from caffe_compat.onnx import export_onnx

PROPOSAL = ("rpn.proposal_layer", "ProposalLayer")
ANCHOR = ("rpn.anchor_target_layer", "AnchorTargetLayer")
TARGET = ("rpn.proposal_target_layer", "ProposalTargetLayer")
MATLAB = """
    -83 -39 100 56  -175 -87 192 104  -359 -183 376 200  -55 -55 72 72  -119 -119 136 136  -247 -247 264 264
    -35 -79 52 96  -79 -167 96 184  -167 -343 184 360
"""
Box = tuple[float, float, float, float]


def test_anchors_are_those_of_the_first_code() -> None:
    """Those in the comment of generate_anchors.py, which count pixels from 1."""
    wanted = np.array(MATLAB.split(), float).reshape(9, 4) - 1
    np.testing.assert_array_equal(AnchorGrid(16).anchors, wanted)
    cells = AnchorGrid(16).boxes(2, 3, torch.device("cpu")).numpy().reshape(2, 3, 9, 4)
    np.testing.assert_array_equal(cells[1, 2], wanted + [32, 16, 32, 16])


def _iou(a: Box, b: Box, kind: type = float) -> float:
    wide = kind(min(a[2], b[2])) - kind(max(a[0], b[0])) + kind(1)
    high = kind(min(a[3], b[3])) - kind(max(a[1], b[1])) + kind(1)
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(kind(c[2]) - kind(c[0]) + kind(1)) * (kind(c[3]) - kind(c[1]) + kind(1)) for c in (a, b)]
    return float(wide * high / (areas[0] + areas[1] - wide * high))


def _proposals(
    scores: np.ndarray, deltas: np.ndarray, info: np.ndarray, grid: AnchorGrid, limits: tuple[int, int], least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores, anchor by anchor."""
    count, (height, width) = len(grid), scores.shape[2:]
    found = []
    for i, j, a in np.ndindex(height, width, count):
        x1, y1, x2, y2 = grid.anchors[a] + grid.stride * np.array([j, i, j, i])
        wide, high = x2 - x1 + 1, y2 - y1 + 1
        dx, dy, dw, dh = (float(deltas[0, 4 * a + k, i, j]) for k in range(4))
        x, y, w, h = dx * wide + x1 + wide / 2, dy * high + y1 + high / 2, math.exp(dw) * wide, math.exp(dh) * high
        ends = (info[1] - 1, info[0] - 1) * 2
        box = [max(min(v, e), 0) for v, e in zip((x - w / 2, y - h / 2, x + w / 2, y + h / 2), ends, strict=True)]
        if min(box[2] - box[0], box[3] - box[1]) + 1 >= least * info[2]:
            found.append((float(scores[0, count + a, i, j]), box))
    found.sort(key=lambda item: -item[0])
    kept: list[tuple[float, list[float]]] = []
    for score, box in found[: limits[0]]:
        if all(_iou(tuple(box), tuple(other)) < 0.7 for _, other in kept):
            kept.append((score, box))
    kept = kept[: limits[1]]
    return np.array([[0, *box] for _, box in kept]), np.array([[score] for score, _ in kept])


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("limits", [(60, 20), (6000, 300), (10**6, 10**6)])
def test_proposals(limits: tuple[int, int], phase: str) -> None:
    random = np.random.default_rng(limits[0])
    scores = random.random((1, 18, 7, 9)).astype(np.float32)
    deltas = (random.normal(size=(1, 36, 7, 9)) * 0.3).astype(np.float32)
    info = np.array([[100, 130, 1.3]], np.float32)
    text = f"{{feat_stride: 16, scales: [1, 3, 8], pre_nms_top_n: {limits[0]}, post_nms_top_n: {limits[1]}}}"
    net = one_net("Python", named(*PROPOSAL, text), [scores.shape, deltas.shape, info.shape], ["rois", "scores"], phase)
    rois, kept = net.layer("under_test")(*map(torch.from_numpy, (scores, deltas, info)))
    wanted, values = _proposals(scores, deltas, info[0], AnchorGrid(16, (1, 3, 8)), limits, 16)
    assert 10 < len(wanted) < 7 * 9 * 9
    np.testing.assert_allclose(rois.numpy(), wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(kept.numpy(), values, rtol=1e-6)
    if phase == "TRAIN":
        return
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    exported = session.run(["rois", "scores"], {"x0": scores, "x1": deltas, "x2": info})
    np.testing.assert_allclose(exported[0], wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(exported[1], values, rtol=1e-6)


def test_proposals_of_other_phases_are_other_numbers() -> None:
    shapes = [(1, 18, 50, 60), (1, 36, 50, 60), (1, 3)]
    for phase, most in (("TRAIN", 2000), ("TEST", 300)):
        layer = one_layer("Python", named(*PROPOSAL, "'feat_stride': 16"), *shapes, phase=phase)
        assert layer.top_shapes(shapes) == [(most, 5)]
        assert (layer.settings.pre_nms_top_n, layer.settings.min_size) == (12000 if phase == "TRAIN" else 6000, 16)


def test_nothing_is_large_enough() -> None:
    layer = one_layer("Python", named(*PROPOSAL, "{feat_stride: 1, scales: [1]}"), (1, 6, 3, 3), (1, 12, 3, 3), (1, 3))
    (rois,) = layer(torch.rand(1, 6, 3, 3), torch.zeros(1, 12, 3, 3), torch.tensor([[10.0, 10, 1]]))
    assert rois.shape == (0, 5)


def test_an_overlap_of_just_the_threshold_goes() -> None:
    """cpu_nms.pyx compares with >=; boxes of 16 x 16 and 32 x 16 pixels overlap by a half exactly."""
    boxes, scores = torch.tensor([[0.0, 0, 15, 15], [0, 0, 31, 15]]), torch.tensor([0.5, 0.9])
    layer = one_layer("ReLU", "", (1,))
    assert suppress(layer, boxes, scores, 0.5).tolist() == [1]
    assert suppress(layer, boxes, scores, 0.50001).tolist() == [1, 0]


def test_proposal_refusals() -> None:
    shapes = [(1, 18, 4, 4), (1, 36, 4, 4), (1, 3)]
    for text, what in (
        ("'num': 3", "param_str has 'num'"),
        ("[1, 2]", "expected YAML such as"),
        ("{scales: [8]}", "expected feat_stride in it"),
        ("{feat_stride: 0}", "feat_stride is 0, expected positive"),
        ("{feat_stride: 16, scales: 8}", "scales is 8, expected a list"),
        ("{feat_stride: 16, post_nms_top_n: 1.5}", "post_nms_top_n is 1.5, expected a whole number"),
    ):
        with pytest.raises(LayerError, match=f"under_test.*{what}"):
            one_layer("Python", named(*PROPOSAL, text), *shapes)
    with pytest.raises(PrototxtError, match="not valid YAML"):
        one_layer("Python", named(*PROPOSAL, "{a: !!python/object:os.x 3}"), *shapes)
    for index, shape in ((0, (2, 18, 4, 4)), (0, (1, 17, 4, 4)), (1, (1, 36, 4, 5)), (2, (1, 2))):
        with pytest.raises(ShapeError, match=f"bottom {index} has the shape"):
            one_layer("Python", named(*PROPOSAL, "'feat_stride': 16"), *shapes[:index], shape, *shapes[index + 1 :])
    layer = one_layer("Python", named(*PROPOSAL, "'feat_stride': 16"), *shapes)
    bottoms = [torch.zeros(shape) for shape in shapes]
    bottoms[1][0, 3, 2, 1] = torch.nan
    with pytest.raises(LayerError, match="under_test.*bottom 'x1' holds NaN"):
        layer(*bottoms)


GT = np.array([[10, 12, 60, 70, 2], [30, 5, 44, 90, 1], [0, 0, 20, 20, 1]], np.float32)
INFO = np.array([[96, 80, 1.5]], np.float32)


def _offsets(box: Box, gt: Box) -> list[float]:
    wide, high, gt_wide, gt_high = box[2] - box[0] + 1, box[3] - box[1] + 1, gt[2] - gt[0] + 1, gt[3] - gt[1] + 1
    return [
        (gt[0] + gt_wide / 2 - box[0] - wide / 2) / wide,
        (gt[1] + gt_high / 2 - box[1] - high / 2) / high,
        math.log(gt_wide / wide),
        math.log(gt_high / high),
    ]


def _anchor_targets(
    grid: AnchorGrid, size: tuple[int, int], gt: np.ndarray, border: float, clobber: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Labels before any are dropped, and offsets, anchor by anchor: [A, H, W] and [4 A, H, W]."""
    count, (height, width) = len(grid), size
    labels, targets = np.full((count, height, width), -1.0), np.zeros((4 * count, height, width))
    inside = []
    for i, j, a in np.ndindex(height, width, count):
        box = tuple(grid.anchors[a] + grid.stride * np.array([j, i, j, i]))
        if min(box[:2]) >= -border and box[2] < INFO[0, 1] + border and box[3] < INFO[0, 0] + border:
            inside.append(((a, i, j), box, [_iou(box, tuple(map(float, g[:4]))) for g in gt]))
    best = [max(overlaps[g] for _, _, overlaps in inside) for g in range(len(gt))]
    for (a, i, j), box, overlaps in inside:
        high = max(overlaps)
        label = -1.0
        if high < 0.3 and not clobber:
            label = 0
        if any(overlap == best[g] for g, overlap in enumerate(overlaps)) or high >= 0.7:
            label = 1
        if high < 0.3 and clobber:
            label = 0
        labels[a, i, j] = label
        targets[4 * a : 4 * a + 4, i, j] = _offsets(box, tuple(map(float, gt[overlaps.index(high), :4])))
    return labels, targets


@pytest.mark.parametrize(("border", "clobber"), [(0, False), (0, True), (20, False)])
@pytest.mark.parametrize("far", [False, True])
def test_anchor_targets(border: int, clobber: bool, far: bool) -> None:
    gt = np.concatenate([GT, [[78, 94, 79, 95, 1]]]).astype(np.float32) if far else GT  # touches no inner anchor
    shapes = [(1, 12, 6, 5), gt.shape, (1, 3), (1, 3, 96, 80)]
    text = f"{{feat_stride: 16, scales: [1, 2], allowed_border: {border}, clobber_positives: {str(clobber).lower()}, "
    layer = one_layer("Python", named(*ANCHOR, text + "batch_size: 4000}"), *shapes, tops=("l", "t", "i", "o"))
    labels, targets, inside, outside = layer(
        torch.rand(shapes[0]), torch.from_numpy(gt), torch.from_numpy(INFO), torch.zeros(shapes[3])
    )
    wanted, moves = _anchor_targets(AnchorGrid(16, (1, 2)), (6, 5), gt, border, clobber)
    assert (wanted == 1).any() and (wanted == 0).any() and (wanted == -1).any()
    np.testing.assert_array_equal(labels.numpy().reshape(wanted.shape), wanted)
    np.testing.assert_allclose(targets[0].numpy(), moves, rtol=1e-5, atol=1e-6)
    spread = np.repeat(wanted, 4, 0)
    np.testing.assert_array_equal(inside[0].numpy(), spread == 1)
    np.testing.assert_allclose(outside[0].numpy(), (spread >= 0) / (wanted >= 0).sum(), rtol=1e-6)
    assert labels.shape == (1, 1, 6 * 6, 5)


def test_anchor_targets_are_subsampled_and_repeat_with_the_seed() -> None:
    text = "{feat_stride: 16, scales: [1, 2], batch_size: 8, fg_fraction: 0.25, positive_weight: 0.75}"
    shapes = [(1, 12, 6, 5), GT.shape, (1, 3)]
    layer = one_layer("Python", named(*ANCHOR, text), *shapes, tops=("l", "t", "i", "o"))
    bottoms = [torch.rand(shapes[0]), torch.from_numpy(GT), torch.from_numpy(INFO)]
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        labels, _, _, outside = layer(*bottoms)
        assert int((labels == 1).sum()) == 2 and int((labels == 0).sum()) == 6
        assert sorted(outside.unique().tolist()) == pytest.approx([0, 0.25 / 6, 0.75 / 2])
        found.append(labels)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_anchor_refusals() -> None:
    shapes = [(1, 12, 6, 5), (1, 5), (1, 3)]
    layer = one_layer("Python", named(*ANCHOR, "{feat_stride: 16}"), *shapes, tops=("l", "t", "i", "o"))
    with pytest.raises(LayerError, match="no anchor lies in the image of 96 x 80"):
        layer(torch.zeros(shapes[0]), torch.from_numpy(GT[:1]), torch.from_numpy(INFO))
    layer = one_layer("Python", named(*ANCHOR, "{feat_stride: 16, scales: [1]}"), *shapes, tops=("l", "t", "i", "o"))
    with pytest.raises(LayerError, match="bottom 'x1' has no boxes"):
        layer(torch.zeros(shapes[0]), torch.zeros(0, 5), torch.from_numpy(INFO))


def _rois(random: np.random.Generator, number: int) -> np.ndarray:
    near = GT[random.integers(0, 3, number), :4] + random.normal(size=(number, 4)) * 6
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 3)
    return np.concatenate([np.zeros((number, 1)), near], 1).astype(np.float32)


@pytest.mark.parametrize(("classes", "agnostic"), [(3, False), (2, False), (3, True)])
def test_proposal_targets_of_all_regions(classes: int, agnostic: bool) -> None:
    rois = _rois(np.random.default_rng(classes), 30)
    text = f"{{num_classes: {classes}, batch_size: -1, bg_thresh_lo: 0.1, agnostic: {str(agnostic).lower()}}}"
    layer = one_layer("Python", named(*TARGET, text), rois.shape, GT.shape, tops=tuple("rltio"))
    kept, labels, targets, inside, outside = (
        top.numpy() for top in layer(torch.from_numpy(rois), torch.from_numpy(GT))
    )
    everything = [*map(tuple, rois[:, 1:]), *map(tuple, GT[:, :4])]
    foreground, background = [], []
    for box in everything:
        overlaps = [_iou(tuple(map(float, box)), tuple(map(float, g[:4]))) for g in GT]
        high = max(overlaps)
        g = GT[overlaps.index(high)]
        if high >= 0.5:
            foreground.append((box, g))
        elif high >= 0.1:
            background.append((box, g))
    rows = foreground + background
    assert len(foreground) > 5 and len(background) > 1
    np.testing.assert_array_equal(kept, [[0, *box] for box, _ in rows])
    np.testing.assert_array_equal(labels, [*(g[4] for _, g in foreground), *[0] * len(background)])
    for row, (box, g) in enumerate(rows):
        wanted, weight = np.zeros(4 * classes), np.zeros(4 * classes)
        if row < len(foreground):
            first = 4 if agnostic or classes == 2 else 4 * int(g[4])
            wanted[first : first + 4] = np.array(_offsets(tuple(map(float, box)), tuple(map(float, g[:4])))) / [
                0.1,
                0.1,
                0.2,
                0.2,
            ]
            weight[first : first + 4] = 1
        np.testing.assert_allclose(targets[row], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(inside[row], weight)
        np.testing.assert_array_equal(outside[row], weight)


def test_proposal_targets_are_a_sample() -> None:
    rois = _rois(np.random.default_rng(0), 200)
    text = "{num_classes: 3, batch_size: 16}"
    layer = one_layer("Python", named(*TARGET, text), rois.shape, GT.shape, tops=tuple("rltio"))
    torch.manual_seed(0)
    kept, labels, *_ = layer(torch.from_numpy(rois), torch.from_numpy(GT))
    assert kept.shape == (16, 5) and int((labels > 0).sum()) == 4 and not labels[4:].any()
    assert len({tuple(row) for row in kept.tolist()}) == 16
    known = {tuple(row) for row in np.concatenate([rois[:, 1:], GT[:, :4]]).tolist()}
    assert {tuple(row) for row in kept[:, 1:].tolist()} <= known


def test_proposal_target_refusals() -> None:
    shapes, tops = [(4, 5), (3, 5)], tuple("rltio")
    layer = one_layer("Python", named(*TARGET, "'num_classes': 3"), *shapes, tops=tops)
    rois = torch.from_numpy(_rois(np.random.default_rng(0), 4))
    with pytest.raises(LayerError, match="a class in bottom 'x1' is 3"):
        layer(rois, torch.from_numpy(GT + np.float32([0, 0, 0, 0, 1])))
    rois[1, 0] = 1
    with pytest.raises(LayerError, match="bottom 'x0' has regions of several images"):
        layer(rois, torch.from_numpy(GT))
    with pytest.raises(LayerError, match="num_classes is 1"):
        one_layer("Python", named(*TARGET, "'num_classes': 1"), *shapes, tops=tops)
