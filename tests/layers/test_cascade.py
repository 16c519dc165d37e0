"""Cascade R-CNN's and MS-CNN's layers of regions against loops written down from the forks' sources."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cases_cascade import GROUP, NORM, REG, ROIS
from one_layer import one_layer
from test_grid_detection import MEANS, STDS, Row, overlap

from caffe_compat.description import describe_net
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.box_targets import BboxAccuracy, CascadeBboxAccuracy
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import layer_class
from caffe_compat.proto import caffe_pb2, parse_text

f32 = np.float32
SIZES = "img_width: 90 img_height: 70"


def corner_overlap(a: Row, b: Row, kind: str = "IOU") -> float:
    """JaccardOverlap of x1 y1 x2 y2: a single row in common is none, a single column is some."""
    areas = [
        0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)
    ]
    if min(areas) == 0:
        return 0.0
    low, high = [max(a[k], b[k]) for k in (0, 1)], [min(a[k], b[k]) for k in (2, 3)]
    over = 0.0 if low[0] > high[0] or low[1] >= high[1] else (high[0] - low[0] + 1) * (high[1] - low[1] + 1)
    return over / {"IOMU": min(areas), "IOFU": areas[0]}.get(kind, areas[0] + areas[1] - over)


def _nms(rows: list[Row], threshold: float, kind: str) -> list[Row]:
    """ApplyNMS of rows that begin with corners."""
    kept: list[Row] = []
    for row in rows:
        if all(not corner_overlap(other, row, kind) > threshold for other in kept):
            kept.append(row)
    return kept


def _moved(prior: Row, offsets: Row, norm: bool) -> Row:
    """DecodeBBoxesWithPrior."""
    bx, by, bw, bh = (v * s + m for v, m, s in zip(offsets, MEANS, STDS, strict=True)) if norm else offsets
    pw, ph = prior[2] - prior[0] + 1, prior[3] - prior[1] + 1
    tx, ty = bx * pw + 0.5 * (prior[2] + prior[0]), by * ph + 0.5 * (prior[3] + prior[1])
    tw, th = pw * math.exp(bw), ph * math.exp(bh)
    tx, ty = tx - (tw - 1) / 2, ty - (th - 1) / 2
    return [tx, ty, tx + tw - 1, ty + th - 1]


@pytest.mark.parametrize("kind", ["IOU", "IOMU", "IOFU"])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (14, 3)])
def test_box_group_output(kind: str, before: int, after: int) -> None:
    random = np.random.default_rng(before)
    scores = [np.round(random.random((4, 2, 4, 5)), 1), np.round(random.random((2, 2, 2, 3)), 1)]  # with ties
    offsets = [random.normal(size=(4, 4, 4, 5)), random.normal(size=(2, 4, 2, 3))]
    groups = f"box_group_param {{ {GROUP} }} box_group_param {{ field_w: 30 field_h: 25 stride: 16 }}"
    text = (
        f'box_group_output_param {{ {groups} fg_thr: 0.3 iou_thr: 0.3 nms_type: "{kind}" min_size: 6 field_xyr: 2 '
        f"field_whr: 2 max_nms_num: {before} max_post_nms_num: {after} }} bbox_reg_param {{ {NORM} }}"
    )
    bottoms = [scores[0], offsets[0], scores[1], offsets[1]]
    layer = one_layer("BoxGroupOutput", text, *(one.shape for one in bottoms), tops=("a", "b")).double()
    regions, scored = layer(*map(torch.from_numpy, bottoms))
    want: list[Row] = []
    for image in range(2):
        rows: list[Row] = []
        for level, fields in enumerate(([(8, 12, 8), (20, 10, 8)], [(30, 25, 16)])):
            height, width = scores[level].shape[2:]
            for k, (wide, high, stride) in enumerate(fields):
                m = image * len(fields) + k
                for h, w in np.ndindex(height, width):
                    score = f32(1) - f32(scores[level][m, 0, h, w])
                    x, y, tw, th = (offsets[level][m, c, h, w] * STDS[c] + MEANS[c] for c in range(4))
                    x, y = (min(max(v, -0.5), 0.5) for v in (x, y))
                    tw, th = (s * math.exp(min(max(v, -math.log(2)), math.log(2))) for v, s in ((tw, wide), (th, high)))
                    x, y = x * wide + (w + 0.5) * stride - tw / 2, y * high + (h + 0.5) * stride - th / 2
                    box = [max(x, 0), max(y, 0), min(x + tw - 1, width * stride), min(y + th - 1, height * stride)]
                    if score >= f32(0.3) and box[2] - box[0] + 1 >= 6 and box[3] - box[1] + 1 >= 6:
                        rows.append([*box, score])
        rows.sort(key=lambda row: -row[4])
        want += [[image, *row] for row in _nms(rows[: before or None], 0.3, kind)[: after or None]]
    assert scored.shape == (len(want), 6, 1, 1) and len(want) > 5
    np.testing.assert_allclose(scored[..., 0, 0].numpy(), want, rtol=1e-5, atol=1e-5)
    assert torch.equal(regions, scored[:, :5])


def test_box_group_output_without_any() -> None:
    text = f"box_group_output_param {{ box_group_param {{ {GROUP} }} fg_thr: 2 }}"
    layer = one_layer("BoxGroupOutput", text, (2, 2, 3, 3), (2, 4, 3, 3), tops=("a", "b"))
    regions, scored = layer(torch.rand(2, 2, 3, 3), torch.zeros(2, 4, 3, 3))
    assert regions.flatten().tolist() == [0, 1, 1, 10, 10] and scored.flatten().tolist() == [0] * 6
    with pytest.raises(LayerError, match="bottom 1 'x1' is NaN"):
        layer(torch.rand(2, 2, 3, 3), torch.full((2, 4, 3, 3), torch.nan))


def _regions(random: np.random.Generator, rows: int, images: int) -> np.ndarray:
    corners = np.sort(np.round(random.uniform(0, 80, (rows, 2, 2))), 1).reshape(rows, 4)
    return np.concatenate([random.integers(0, images, (rows, 1)), corners], 1)


@pytest.mark.parametrize(("aware", "most"), [(False, 0), (True, 5)])
def test_frcnn_output(aware: bool, most: int) -> None:
    random = np.random.default_rng(most)
    priors, scores = _regions(random, 12, 1), np.round(random.random((12, 3)), 1)
    offsets = random.normal(size=(12, 12 if aware else 8)) * 0.5
    text = f"frcnn_output_param {{ conf_thr: 0.25 iou_thr: 0.4 max_det_num: {most} }} bbox_reg_param {{ {NORM} "
    text += f"cls_aware: {str(aware).lower()} }}"
    bottoms = [scores, offsets, priors, np.array([[60.0, 70.0]])]
    layer = one_layer("FrcnnOutput", text, *(one.shape for one in bottoms)).double()
    top = layer(*map(torch.from_numpy, bottoms))[..., 0, 0].numpy()
    rows: list[Row] = []
    for label in (1, 2):
        found = []
        for r in range(12):
            start = 4 * (label if aware else 1)
            x1, y1, x2, y2 = _moved(list(priors[r, 1:]), list(offsets[r, start : start + 4]), True)
            if scores[r, label] >= 0.25:
                found.append([max(x1, 0), max(y1, 0), min(x2, 70), min(y2, 60), scores[r, label]])
        found.sort(key=lambda row: -row[4])
        rows += [[0, *row[:4], label, row[4]] for row in _nms(found, 0.4, "IOU")]
    if most:
        best = sorted(range(len(rows)), key=lambda k: -rows[k][6])[:most]
        rows = [rows[k] for k in sorted(best)]
    np.testing.assert_allclose(top, [[0, -1, -1, -1, -1, -1, -1], *rows], rtol=1e-5, atol=1e-4)
    with pytest.raises(LayerError, match=r"region 0 in bottom 'x2' is \[1.0"):
        layer(*map(torch.from_numpy, [scores, offsets, priors + 1, bottoms[3]]))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_decode_bbox(phase: str) -> None:
    random = np.random.default_rng(1)
    priors, offsets = _regions(random, 9, 2), random.normal(size=(9, 8)) * 3
    priors[3, [1, 3]] = priors[3, [3, 1]] + [9, 0]  # swapped, and so is what becomes of it
    matched = np.zeros((9, 6))
    matched[:, 5] = np.linspace(0.5, 1, 9)
    bottoms = [offsets, priors[..., None, None], matched][: 3 if phase == "TRAIN" else 2]
    layer = one_layer(
        "DecodeBBox", f"decode_bbox_param {{ gt_iou_thr: 0.9 }} {REG}", *(b.shape for b in bottoms), phase=phase
    )
    top = layer.double()(*map(torch.from_numpy, bottoms))
    want = [
        [row[0], *_moved(list(row[1:]), list(offset[4:]), True)] for row, offset in zip(priors, offsets, strict=True)
    ]
    if phase == "TRAIN":
        want = [
            row for row, o in zip(want, matched[:, 5], strict=True) if row[1] <= row[3] and row[2] <= row[4] and o < 0.9
        ]
        assert 0 < len(want) < 7
    assert top.shape == (len(want), 5, 1, 1)
    np.testing.assert_allclose(top[..., 0, 0].numpy(), want, rtol=1e-6)


def test_decode_bbox_refusals() -> None:
    with pytest.raises(LayerError, match="third bottom in the phase TEST"):
        one_layer("DecodeBBox", "", (2, 8), (2, 5), (2, 6))
    layer = one_layer("DecodeBBox", "", (1, 8), (1, 5), (1, 6), phase="TRAIN")
    with pytest.raises(LayerError, match="no region stays"):
        layer(torch.zeros(1, 8), torch.tensor([[0.0, 1, 1, 5, 5]]), torch.ones(1, 6))
    with pytest.raises(LayerError, match="no finite numbers"):
        layer(torch.full((1, 8), 200.0), torch.tensor([[0.0, 1, 1, 5, 5]]), torch.zeros(1, 6))


def test_scale_route() -> None:
    rois = torch.tensor(ROIS, dtype=torch.float32)  # scales of about 26.8, 23.1, 26.2 and 1
    other = torch.arange(8.0).reshape(4, 2)
    for text, want in (
        ("low_scale: 25", [0, 2]),
        ("high_scale: 25", [1, 3]),
        ("low_scale: 23 high_scale: 26.3", [1, 2]),
        ("low_scale: 2 high_scale: 9", [3]),  # none: the nearest to the middle in octaves
        ("low_scale: 50", [0]),
    ):
        layer = one_layer("ScaleRoute", f"scale_route_param {{ {text} }}", (4, 5), (4, 2), tops=("a", "b"))
        tops = layer(rois, other)
        assert torch.equal(tops[0][..., 0, 0], rois[want]) and torch.equal(tops[1][..., 0, 0], other[want]), text
    layer = one_layer("ScaleRoute", "scale_route_param { low_scale: 50 }", (1, 5))
    with pytest.raises(LayerError, match="no region with an area"):
        layer(torch.tensor([[0.0, 9, 9, 2, 2]]))


def test_hard_mining() -> None:
    random = np.random.default_rng(5)
    for number in range(6):
        rois, scores = _regions(random, 11, 3), np.round(random.random(11), 1)
        rois[:, 0] = random.integers(0, 3 if number else 2, 11)
        layer = one_layer(
            "HardMining",
            "hard_mining_param { num_roi_per_image: 3 num_image: 3 }",
            (11,),
            (11, 5),
            (11, 2),
            tops=("a", "b"),
        )
        pairs = [sorted(((scores[r], r) for r in range(11) if rois[r, 0] == image), reverse=True) for image in range(3)]
        kept = [pair for own in pairs for pair in own[:3]]
        kept += sorted((pair for own in pairs for pair in own[3:]), reverse=True)[: 9 - len(kept)]
        want = sorted(r for _, r in kept)
        other = np.arange(22.0).reshape(11, 2)
        tops = layer(*(torch.from_numpy(one).float() for one in (scores, rois, other)))
        np.testing.assert_array_equal(tops[0][..., 0, 0].numpy(), rois[want])
        np.testing.assert_array_equal(tops[1][..., 0, 0].numpy(), other[want])


def _match(regions: np.ndarray, truth: np.ndarray, pixel: int) -> list[tuple[float, int]]:
    found = []
    for region in regions:
        best, which = 0.0, -1
        for g, box in enumerate(truth):
            if box[0] != region[0]:
                continue
            spans = [[row[1], row[2], row[3] - row[1] + 1, row[4] - row[2] + 1] for row in (region, box)]
            value = overlap(spans[0], spans[1], pixel)
            if which < 0 or value > best:
                best, which = value, g
        found.append((best, which))
    return found


@pytest.mark.parametrize(("columns", "batch"), [(7, 12), (8, 12), (8, -1), (7, -1), (7, 40), (8, 40)])
@pytest.mark.parametrize("aware", [False, True])
def test_proposal_target(columns: int, batch: int, aware: bool) -> None:
    """Which regions are taken, and what each of them has to learn, row by row."""
    random = np.random.default_rng(columns * batch % 7)
    truth = np.zeros((5, columns))
    truth[:, :5], truth[:, 5], truth[4, 6] = _regions(random, 5, 2), [1, 2, 2, 1, 2], 1
    truth[3, 1:5] += [0.25, 0.5, 0, 0.25]
    near = truth[random.integers(0, 5, 12), :5] + np.concatenate(
        [np.zeros((12, 1)), random.integers(-9, 9, (12, 4))], 1
    )
    near[:, 3:] = np.maximum(near[:, 3:], near[:, 1:3] + 2)
    rois = np.concatenate([near, _regions(random, 8, 2)])
    pixel = int(columns == 8)
    text = (
        f"proposal_target_param {{ cls_num: 3 batch_size: {batch} fg_fraction: 0.5 num_img_per_batch: 2 fg_thr: 0.6 "
        f"bg_thr_hg: 0.5 bg_thr_lw: 0.1 {SIZES} bbox_thr_lw: 0.65 bbox_thr_hg: 0.95 iou_weighted: true }} "
        f"bbox_reg_param {{ {NORM} cls_aware: {str(aware).lower()} }}"
    )
    torch.manual_seed(2)
    tops = one_layer("ProposalTarget", text, rois.shape, truth.shape, tops=tuple("abcdefg"), phase="TRAIN")(
        torch.from_numpy(rois).float(), torch.from_numpy(truth).float()
    )
    regions, label, targets, inside, outside, matched, weights = (top.flatten(1).numpy() for top in tops)
    every = np.concatenate([rois, truth[:, :5]])
    found = _match(every, truth, pixel)
    own = [r for r, (o, g) in enumerate(found) if o >= f32(0.6) and not truth[g, 6]]
    low = [r for r, (o, _) in enumerate(found) if f32(0.1) <= o < f32(0.5)]
    other = [r for r, (o, _) in enumerate(found) if o < f32(0.6) and r not in low]
    taken = len(own) if batch == -1 else min(len(own), round(0.5 * batch))
    size = len(own) + len(low) if batch == -1 else batch
    rest = min(len(low), size - taken)
    picked = other[: max(0, size - taken - rest)]
    made_up = 0 if pixel else size - taken - rest - len(picked)
    assert len(label) == taken + rest + len(picked) + made_up and taken and (label[:taken] > 0).all()
    assert not label[taken:].any()
    np.testing.assert_allclose(regions[taken + rest : taken + rest + len(picked)], every[picked], atol=1e-4)
    total = [matched[:taken, 5].sum(), len(label) - taken]
    for row, region in enumerate(regions):
        if row < taken + rest:
            which = [r for r in (own if row < taken else low) if np.allclose(every[r], region, atol=1e-4)]
            assert which, "a region that is none"
        if row >= len(label) - made_up:
            assert _match(region[None], truth, pixel)[0][0] < 0.6
        if row >= taken:
            assert not targets[row].any() and not inside[row].any() and not matched[row].any()
            np.testing.assert_allclose(weights[row], 0.5 * len(label) / total[1], rtol=1e-5)
            continue
        o, g = found[which[0]]
        box = truth[g]
        np.testing.assert_allclose(matched[row], [box[5], *box[1:5], o], rtol=1e-5, atol=1e-4)
        (w, h), (gw, gh) = ((one[3] - one[1] + 1, one[4] - one[2] + 1) for one in (region, box))
        d = [
            (box[1] + gw / 2 - region[1] - w / 2) / w,
            (box[2] + gh / 2 - region[2] - h / 2) / h,
            math.log(gw / w),
            math.log(gh / h),
        ]
        place = 4 * (int(box[5]) if aware else 1)
        want = np.zeros(12 if aware else 8)
        want[place : place + 4] = [(v - m) / s for v, m, s in zip(d, MEANS, STDS, strict=True)]
        np.testing.assert_allclose(targets[row], want, rtol=1e-4, atol=1e-5)
        counts = f32(0.65) <= o <= f32(0.95)
        assert inside[row].tolist() == [float(counts and place <= k < place + 4) for k in range(len(want))]
        np.testing.assert_allclose(weights[row], o * 0.5 * len(label) / total[0], rtol=1e-5)
    np.testing.assert_array_equal(inside, outside)


def test_proposal_target_of_cascade_without_ground_truth() -> None:
    """A row of -1 is none; one region is made up if none is left."""
    text = f"proposal_target_param {{ cls_num: 3 batch_size: 4 bg_thr_lw: 0.1 pickup_discard: false {SIZES} }}"
    layer = one_layer("ProposalTarget", text, (2, 5), (1, 8), tops=tuple("abcdef"), phase="TRAIN")
    tops = layer(torch.tensor([[0.0, 1, 1, 20, 20], [0, 3, 3, 9, 9]]), torch.full((1, 8), -1.0))
    region = tops[0].flatten()
    assert tops[0].shape == (1, 5, 1, 1) and not tops[1].any()
    assert (region[3:] - region[1:3] + 1 >= 32).all()
    with pytest.raises(LayerError, match="num_img_per_batch, 4"):
        layer(torch.tensor([[7.0, 1, 1, 20, 20]] * 2), torch.full((1, 8), -1.0))


@pytest.mark.parametrize(("dialect", "pixel"), [("mscnn", 0), ("cascade", 1)])
def test_bbox_accuracy(dialect: str, pixel: int) -> None:
    random = np.random.default_rng(6)
    rois, offsets = _regions(random, 8, 1), random.normal(size=(8, 12 if dialect == "mscnn" else 8))
    matched = np.concatenate(
        [random.integers(0, 3, (8, 1)), rois[:, 1:] + random.uniform(-0.4, 6, (8, 4)), np.full((8, 1), 0.7)], 1
    )
    matched[:3, 0], matched[0, 5] = [1, 2, 0], 0.98
    layer = one_layer("BboxAccuracy", REG, offsets.shape, rois.shape, matched.shape, tops=("a", "b"))
    if pixel:
        layer = CascadeBboxAccuracy(layer.params, [offsets.shape, rois.shape, matched.shape])
    assert type(layer) is (CascadeBboxAccuracy if pixel else BboxAccuracy)
    tops = layer.double()(*map(torch.from_numpy, (offsets, rois, matched)))
    means: list[list[float]] = [[], []]
    for offset, roi, box in zip(offsets, rois, matched, strict=True):
        if box[0] <= 0 or box[5] > 0.975:
            continue
        start = 4 * (min(int(box[0]), 1) if pixel else int(box[0]))
        dx, dy, dw, dh = (v * s + m for v, m, s in zip(offset[start : start + 4], MEANS, STDS, strict=True))
        w, h = roi[3] - roi[1] + 1, roi[4] - roi[2] + 1
        tw, th = w * math.exp(dw), h * math.exp(dh)
        own = [dx * w + roi[1] + w / 2 - tw / 2, dy * h + roi[2] + h / 2 - th / 2, tw, th]
        gt = [box[1], box[2], box[3] - box[1] + 1, box[4] - box[2] + 1]
        means[0].append(overlap(own, gt, pixel))
        means[1].append(overlap([roi[1], roi[2], w, h], gt, pixel))
    np.testing.assert_allclose([top.item() for top in tops], [np.mean(one) for one in means], rtol=1e-6)
    matched[:, 0] = 0
    assert [top.item() for top in layer(*map(torch.from_numpy, (offsets, rois, matched)))] == [-1, -1]


def test_roi_align() -> None:
    random = np.random.default_rng(2)
    feature = random.normal(size=(2, 3, 5, 6))
    rois = np.array([[0, 2.3, 1, 30, 27], [1, -9, 8, 20, 70], [0, 9, 9, 9, 9], [1, 4, 4, 4, 20], [0, 0, 0, 47, 39]])
    text = "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.125 pad_ratio: 0.25 }"
    layer = one_layer("ROIAlign", text, feature.shape, rois.shape).double()
    top = layer(torch.from_numpy(feature), torch.from_numpy(rois)).numpy()
    for pad in (0.25, 0.0):
        if not pad:
            layer = one_layer("ROIAlign", text.replace("pad_ratio: 0.25", ""), feature.shape, rois.shape).double()
            top = layer(torch.from_numpy(feature), torch.from_numpy(rois)).numpy()
        for r, (image, x1, y1, x2, y2) in enumerate(rois):
            px, py = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
            left, upper, right, lower = ((v) * 0.125 - 0.5 for v in (x1 - px, y1 - py, x2 + px, y2 + py))
            for c, i, j in np.ndindex(3, 4, 3):
                want = 0.0
                y, x = upper + i * (lower - upper) / 3, left + j * (right - left) / 2
                if lower > upper and right > left and -0.5 <= y <= 4.5 and -0.5 <= x <= 5.5:
                    fy, fx = math.floor(y), math.floor(x)
                    y, x = min(max(y, 0), 4), min(max(x, 0), 5)
                    (ya, yb), (xa, xb) = ([min(max(v, 0), end) for v in (f, f + 1)] for f, end in ((fy, 4), (fx, 5)))
                    ly, lx, own = y - ya, x - xa, feature[int(image), c]
                    want = (1 - ly) * ((1 - lx) * own[ya, xa] + lx * own[ya, xb])
                    want += ly * ((1 - lx) * own[yb, xa] + lx * own[yb, xb])
                np.testing.assert_allclose(top[r, c, i, j], want, atol=1e-12)
    assert not top[2:4].any() and top[0].any()


def test_detection_evaluate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sizes.txt").write_text("a 60 80\nb 30 20\n")
    own = f'num_classes: 4 evaluate_difficult_gt: false name_size_file: "{tmp_path}/sizes.txt"'
    text = f"detection_evaluate_param {{ {own} }}"
    found = [
        [0, -1, -1, -1, -1, -1, -1],
        [0, 0, 0, 9, 9, 2, 0.5],
        [0, 10, 10, 19, 19, 1, 0.3],  # the box is taken already
        [0, 10, 10, 20, 20, 1, 0.8],
        [0, 30, 5, 39, 14, 1, 0.9],  # difficult
        [1, 0, 0, 9, 0, 1, 0.7],
    ]
    known = [
        [0, 10, 10, 19, 20, 1, 0, 0],
        [0, 30, 5, 39, 14, 1, 0, 1],
        [0, 1, 1, 5, 5, 3, 1, 0],  # ignored, and counted as there
        [1, 0, 0, 9, 0, 1, 0, 0],
    ]
    layer = one_layer("DetectionEvaluate", text, (6, 7, 1, 1), (4, 8, 1, 1), (2, 2, 1, 1))
    bottoms = [torch.tensor(rows, dtype=torch.float32) for rows in (found, known, [[30, 40], [30, 20]])]
    want = [
        *([-1, 1, 2, -1, -1], [-1, 2, 0, -1, -1], [-1, 3, 1, -1, -1]),
        *([0, 1, 0.9, 0, 0], [0, 1, 0.8, 1, 0], [0, 1, 0.3, 0, 1], [0, 2, 0.5, 0, 1]),
        [1, 1, 0.7, 0, 1],  # boxes of one row do not overlap even themselves, as there
    ]
    for _ in range(2):  # the sizes start again
        np.testing.assert_allclose(layer(*bottoms)[..., 0, 0].numpy(), want, rtol=1e-6)
    bottoms[0][1, 5] = 0
    with pytest.raises(LayerError, match="'x0' has the background's label 0"):
        layer(*bottoms)
    layer = one_layer("DetectionEvaluate", text.replace("sizes", "none"), (6, 7), (4, 8), (2, 2))
    assert "in the net's own pixels" in caplog.text
    bottoms[0][1, 5] = 2
    np.testing.assert_allclose(layer(*bottoms)[..., 0, 0].numpy(), want, rtol=1e-6)


def test_smooth_l1_loss_of_each_region() -> None:
    random = np.random.default_rng(8)
    a, b, inside, outside = (random.normal(size=(3, 4, 2, 1)) for _ in range(4))
    text = "smooth_l1_loss_param { sigma: 2 } loss_weight: 1 loss_weight: 0"
    layer = one_layer("SmoothL1Loss", text, *[(3, 4, 2, 1)] * 4, tops=("loss", "each"), dialect="cascade").double()
    loss, each = layer(*map(torch.from_numpy, (a, b, inside, outside)))
    d = inside * (a - b)
    want = np.where(abs(d) < 0.25, 2 * d * d, abs(d) - 0.125) * outside
    np.testing.assert_allclose(each.numpy(), want.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(loss.item(), want.sum() / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "what"),
    [
        (
            "BoxGroupOutput",
            f"box_group_output_param {{ box_group_param {{ {GROUP} }} }}",
            [(2, 2, 3, 3)] * 4,
            "4 bottoms and 1",
        ),
        ("FrcnnOutput", "frcnn_output_param { nms_type: 'X' }", [(2, 3), (2, 12), (2, 5), (1, 2)], "nms_type is 'X'"),
        ("FrcnnOutput", "", [(2, 3), (2, 8), (2, 5), (1, 2)], "bottom 1 has the shape"),
        ("ScaleRoute", "scale_route_param { low_scale: 9 high_scale: 3 }", [(2, 5)], "in order"),
        ("HardMining", "hard_mining_param { num_image: 0 }", [(2,), (2, 5)], "num_image 0"),
        ("ProposalTarget", "proposal_target_param { cls_num: 2 fg_thr: 0.3 }", [(2, 5), (2, 7)], "fg_thr 0.3"),
        ("ROIAlign", "roi_pooling_param { pooled_h: 2 }", [(1, 2, 3, 3), (2, 5)], "must be > 0"),
    ],
)
def test_refusals(kind: str, text: str, shapes: list[tuple[int, ...]], what: str) -> None:
    tops = tuple("abcdef") if kind == "ProposalTarget" else ("y",)
    with pytest.raises((LayerError, ShapeError), match=f"under_test.*{what}"):
        one_layer(kind, text, *shapes, tops=tops)


@pytest.mark.parametrize(("other", "kind"), [("", BboxAccuracy), ("scale_route_param { }", CascadeBboxAccuracy)])
def test_the_rest_of_the_net_says_which_bbox_accuracy_is_meant(other: str, kind: type) -> None:
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" {more} '
        f"input_param {{ shape {{ dim: 2 dim: {columns} }} }} }}"
        for name, columns, more in (("a", 8, ""), ("b", 5, ""), ("c", 6, other))
    )
    text += 'layer { name: "t" type: "BboxAccuracy" bottom: "a" bottom: "b" bottom: "c" top: "t" }'
    description = describe_net(parse_text(text, caffe_pb2.NetParameter))
    assert layer_class(Params(description.layers[-1])) is kind
