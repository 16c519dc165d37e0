"""PVANET's Proposal against loops written down from sanghoon/caffe's proposal_layer.cpp and nms.cpp."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from cases_proposal import SETTINGS
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.onnx import export_onnx

Box = list[float]
RATIOS, SCALES = (0.5, 1.0, 2.0), (1.0, 2.5)


def _body(more: str = "") -> str:
    anchors = " ".join([*(f"ratio: {value}" for value in RATIOS), *(f"scale: {value}" for value in SCALES)])
    return f"proposal_param {{ {SETTINGS} {anchors} {more} }}"


def _iou(a: Box, b: Box) -> float:
    if a[0] > b[2] or a[1] > b[3] or a[2] < b[0] or a[3] < b[1]:
        return 0
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    area = max(0, wide) * max(0, high)
    return area / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - area)


def _slow(scores: np.ndarray, deltas: np.ndarray, info: np.ndarray, before: int, after: int) -> list[list[float]]:
    """Rows x1, y1, x2, y2, score; feat_stride and base_size 8, min_size 3, nms_thresh 0.6."""
    anchors = []
    for ratio in RATIOS:
        wide = int(math.sqrt(64 / ratio) + 0.5)
        high = int(wide * ratio + 0.5)
        for scale in SCALES:
            w, h = 0.5 * (wide * scale - 1), 0.5 * (high * scale - 1)
            anchors.append([3.5 - w, 3.5 - h, 3.5 + w, 3.5 + h])
    found = []
    for i, j in np.ndindex(*scores.shape[1:]):
        for k, anchor in enumerate(anchors):
            dx, dy, dw, dh = deltas[4 * k : 4 * k + 4, i, j]
            box = [anchor[0] + 8 * j, anchor[1] + 8 * i, anchor[2] + 8 * j, anchor[3] + 8 * i]
            w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
            x, y = dx * w + box[0] + 0.5 * w, dy * h + box[1] + 0.5 * h
            pw, ph = math.exp(dw) * w, math.exp(dh) * h
            box = [x - 0.5 * pw, y - 0.5 * ph, x + 0.5 * pw, y + 0.5 * ph]
            box = [max(0.0, min(value, info[1 - n % 2] - 1)) for n, value in enumerate(box)]
            large = box[2] - box[0] + 1 >= 3 * info[3] and box[3] - box[1] + 1 >= 3 * info[2]
            found.append([*box, large * scores[len(anchors) + k, i, j]])
    found = sorted(found, key=lambda row: -row[4])[:before]
    kept: list[list[float]] = []
    for row in found:
        if all(_iou(row, other) <= 0.6 for other in kept):
            kept.append(row)
    return kept[:after]


@pytest.mark.parametrize(("before", "after"), [(6000, 300), (30, 300), (6000, 7)])
@pytest.mark.parametrize("info", [(30, 40, 1, 1), (60, 75, 2, 1.5, 50, 50)])  # what follows four is not read
def test_number_by_number(before: int, after: int, info: tuple[float, ...]) -> None:
    random = np.random.default_rng(before)
    scores, deltas = random.random((12, 4, 5)), random.normal(size=(24, 4, 5)) * 0.6
    net = one_net(
        "Proposal",
        _body(f"pre_nms_topn: {before} post_nms_topn: {after}"),
        ((1, 12, 4, 5), (1, 24, 4, 5), (1, len(info))),
        ("rois", "scores"),
    )
    layer = net.layer("under_test")
    rois, values = layer(torch.from_numpy(scores)[None], torch.from_numpy(deltas)[None], torch.tensor([info]).double())
    want = np.array(_slow(scores, deltas, np.array(info), before, after))
    assert rois.shape == (len(want), 5) and values.shape == (len(want),) and not rois[:, 0].any()
    np.testing.assert_allclose(rois[:, 1:].numpy(), want[:, :4], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(values.numpy(), want[:, 4], rtol=1e-6)
    assert (values.diff() <= 0).all()
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"x0": scores[None], "x1": deltas[None], "x2": np.array([info])}
    exported = session.run(["rois", "scores"], {name: value.astype(np.float32) for name, value in inputs.items()})
    np.testing.assert_allclose(exported[0], rois, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(exported[1], values, rtol=1e-6)


def test_small_boxes_stay_with_a_score_of_0() -> None:
    layer = one_layer("Proposal", _body(), (1, 12, 1, 1), (1, 24, 1, 1), (1, 4), tops=("rois", "scores"))
    deltas = torch.zeros(1, 24, 1, 1)
    deltas[0, 2::4] = -5  # hardly any width
    _, scores = layer(torch.full((1, 12, 1, 1), 0.5), deltas, torch.tensor([[30.0, 40, 1, 1]]))
    assert len(scores) > 0 and not scores.any()


@pytest.mark.parametrize(
    ("body", "shapes", "kind", "what"),
    [
        ("ratio: 1 scale: 0", [(1, 2, 2, 2), (1, 4, 2, 2), (1, 4)], LayerError, "expected positive numbers"),
        ("ratio: 1 scale: 1 post_nms_topn: 0", [(1, 2, 2, 2), (1, 4, 2, 2), (1, 4)], LayerError, "post_nms_topn 0"),
        ("ratio: 1 scale: 1", [(1, 2, 2, 2), (1, 4, 2, 2), (1, 3)], ShapeError, "expected 1 x 4"),
        ("ratio: 1 scale: 1", [(2, 2, 2, 2), (2, 4, 2, 2), (1, 4)], ShapeError, "of one image"),
        ("ratio: 1 scale: 1", [(1, 2, 2, 2), (1, 8, 2, 2), (1, 4)], ShapeError, "bottom 1 .* 1 x 4 x H x W"),
        ("min_size: 16", [(1, 2, 2, 2), (1, 4, 2, 2), (1, 4)], LayerError, "one or more of ratio and scale"),
    ],
)
def test_refusals(body: str, shapes: list[tuple[int, ...]], kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{what}"):
        one_layer("Proposal", f"proposal_param {{ {body} }}", *shapes)


def test_nan_is_an_error() -> None:
    layer = one_layer("Proposal", _body(), (1, 12, 1, 1), (1, 24, 1, 1), (1, 4))
    info = torch.tensor([[30.0, 40, 1, 1]])
    with pytest.raises(LayerError, match="bottom 'x1' holds NaN"):
        layer(torch.zeros(1, 12, 1, 1), torch.full((1, 24, 1, 1), torch.nan), info)


def _slow_fixed(scores: np.ndarray, deltas: np.ndarray, info: Box, most: int) -> list[list[float]]:
    """Rows x1, y1, x2, y2, score of synopsys-caffe's proposal_layer.cpp; feat_stride 8, base 2, least size 20."""
    found = []
    each = len(scores) // 2
    k = 0
    for ratio in (0.5, 1.0, 2.0):
        wide = math.floor(math.sqrt(4 / ratio) + 0.5)
        high = math.floor(wide * ratio + 0.5)
        for scale in (8, 16, 32):
            w, h = wide * scale, high * scale
            x, y = 0.5 - 0.5 * (w - 1) + 0.5 * w, 0.5 - 0.5 * (h - 1) + 0.5 * h
            for i, j in np.ndindex(*scores.shape[1:]):
                dx, dy, dw, dh = deltas[4 * k : 4 * k + 4, i, j]
                px, py = j * 8 + x + w * dx, i * 8 + y + h * dy
                pw, ph = w * math.exp(dw), h * math.exp(dh)
                box = [px - 0.5 * pw, py - 0.5 * ph, px + 0.5 * pw, py + 0.5 * ph]
                box = [max(min(value, int(info[1 - n % 2]) - 1), 0) for n, value in enumerate(box)]
                found.append([*box, scores[each + k, i, j]])
            k += 1
    i = 0
    while i < len(found) - 1:
        box = found[i]
        if box[2] - box[0] + 1 >= 20 * info[2] and box[3] - box[1] + 1 >= 20 * info[2]:
            i += 1
        else:
            del found[i]
    places = sorted(range(len(found)), key=lambda place: (found[place][4], place), reverse=True)
    kept: list[list[float]] = []
    for place in places:
        if all(_iou(found[place], other) <= np.float32(0.6) for other in kept):
            kept.append(found[place])
    return kept[:most]


@pytest.mark.parametrize(("most", "info"), [(300, (60.0, 80.0, 1.0)), (7, (90.0, 75.0, 1.5))])
def test_of_synopsys_caffe(most: int, info: Box) -> None:
    random = np.random.default_rng(most)
    scores = random.integers(0, 20, size=(18, 4, 5)) / 20  # with equal ones
    deltas = random.normal(size=(36, 4, 5)) * 0.4
    deltas[-2:, -1, -1] = -9  # the last box is far too small, and stays
    scores[-1, -1, -1] = 1
    body = f"anchor_base_size: 2 feat_stride: 8 max_rois: {most} rpn_min_size: 20 rpn_nms_thresh: 0.6"
    shapes = (1, 18, 4, 5), (1, 36, 4, 5), (1, 3)
    layer = one_layer("Proposal", f"proposal_param {{ {body} }}", *shapes, tops=("rois", "scores"))
    rois, values = layer(torch.from_numpy(scores)[None], torch.from_numpy(deltas)[None], torch.tensor([info]).double())
    want = np.array(_slow_fixed(scores, deltas, info, most))
    assert values.shape == (len(want), 1) and not rois[:, 0].any()
    np.testing.assert_allclose(rois[:, 1:].numpy(), want[:, :4], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(values[:, 0].numpy(), want[:, 4], rtol=1e-6)


def test_refusal_of_synopsys_caffe() -> None:
    with pytest.raises(LayerError, match="under_test.*max_rois 0"):
        one_layer("Proposal", "proposal_param { max_rois: 0 }", (1, 18, 1, 1), (1, 36, 1, 1), (1, 3))
