"""Layers of intel/caffe, against loops written down from its source."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_intel import BIASES
from one_layer import one_layer, one_net
from yolo_loops import iou_of, sigmoid

from caffe_compat.errors import ExportError, LayerError, ShapeError
from caffe_compat.layers.normalization import BatchNorm
from caffe_compat.layers.scaled_norm import IntelBatchNorm, PartBatchNorm
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse
from caffe_compat.proto.upgrade import upgrade_net


def test_batch_norm_by_parts() -> None:
    """Each part has its statistics; the sums take them one after the other."""
    x = np.random.default_rng(0).normal(2, 3, (6, 3, 2, 2))
    layer = one_layer("BatchNorm", "batch_norm_param { stats_batch_size: 2 }", x.shape, phase="TRAIN").double().train()
    assert type(layer) is PartBatchNorm
    source = torch.from_numpy(x).requires_grad_()
    top = layer(source)
    seed = np.random.default_rng(1).normal(size=x.shape)
    (gradient,) = torch.autograd.grad(top, source, torch.from_numpy(seed))
    sums, weight = np.zeros((2, 3)), 0.0
    for part in range(3):
        items = slice(2 * part, 2 * part + 2)
        for c in range(3):
            values, diff = x[items, c], seed[items, c]
            mean, variance = values.mean(), values.var()
            deviation = math.sqrt(variance + 1e-5)
            y = (values - mean) / deviation
            np.testing.assert_allclose(top.detach().numpy()[items, c], y, rtol=1e-9)
            want = (diff - diff.mean() - y * (diff * y).mean()) / deviation
            np.testing.assert_allclose(gradient.numpy()[items, c], want, rtol=1e-7, atol=1e-12)
            sums[:, c] = 0.999 * sums[:, c] + (mean, variance * 8 / 7)
        weight = 0.999 * weight + 1
    np.testing.assert_allclose(np.stack([blob.numpy() for blob in layer.blobs[:2]]), sums, rtol=1e-6)
    assert layer.blobs[2].item() == pytest.approx(weight)
    layer.eval()
    mean, variance = sums[:, :, None, None] / weight
    np.testing.assert_allclose(layer(source).detach().numpy(), (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-5)


def test_parts_of_a_scaled_batch_norm() -> None:
    text = "batch_norm_param { stats_batch_size: 2 use_weight_bias: true filler { value: 3 } bias_filler { value: 1 } }"
    layer = one_layer("BatchNorm", text, (4, 2), phase="TRAIN").train()
    assert type(layer) is IntelBatchNorm
    torch.testing.assert_close(
        layer(torch.tensor([[0.0, 0], [2, 4], [5, 9], [1, 1]])),
        torch.tensor([[-2.0, -2], [4, 4], [4, 4], [-2, -2]]),
        rtol=1e-4,
        atol=1e-4,
    )


def test_parts_that_do_not_fit() -> None:
    body = "batch_norm_param { stats_batch_size: 4 }"
    with pytest.raises(
        ShapeError, match="'under_test' .BatchNorm.* 6 items, expected a multiple of .*stats_batch_size 4"
    ):
        one_net("BatchNorm", body, [(6, 3)], phase="TRAIN")
    assert type(one_layer("BatchNorm", body, (6, 3))) is PartBatchNorm  # of no matter in TEST
    assert type(one_layer("BatchNorm", "batch_norm_param { stats_batch_size: 0 }", (6, 3))) is BatchNorm


def test_statistics_of_parts_are_not_exported(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = one_net("BatchNorm", "batch_norm_param { stats_batch_size: 2 use_global_stats: false }", [(4, 3)])
    with pytest.raises(ExportError, match="statistics of parts of a batch"):
        export_onnx(net, tmp_path / "net.onnx")


def test_the_nets_part_is_that_of_every_batch_norm() -> None:
    layer = 'layer { type: "BatchNorm" batch_norm_param { stats_batch_size: 8 } }'
    text = f'bn_stats_batch_size: 32 {layer} layer {{ type: "BN" }}'
    net = upgrade_net(parse(text, caffe_pb2.NetParameter)).net
    assert net.layer[0].batch_norm_param.stats_batch_size == 32
    assert not net.layer[1].HasField("batch_norm_param") and not net.HasField("bn_stats_batch_size")


@pytest.mark.parametrize("side", [2, 3])
def test_pixels_shuffled(side: int) -> None:
    shape = (2, 2 * side**2, 2, 3)
    x = np.random.default_rng(side).normal(size=shape)
    want = np.zeros((2, 2, 2 * side, 3 * side))
    for n, c, h, w in np.ndindex(*shape):
        want[n, c // side**2, h * side + c // side % side, w * side + c % side**2 % side] = x[n, c, h, w]
    tiling = one_layer("Tiling", f"tiling_param {{ tile_dim: {side} }}", shape)  # tiling_layer.cpp has the same loop
    layer = one_layer("Reshape", f"reshape_param {{ pixelshuffler: {side} }}", shape)
    for one in (tiling, layer):
        np.testing.assert_array_equal(one(torch.from_numpy(x)).numpy(), want)
    source = torch.from_numpy(x).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(source), source, torch.from_numpy(want))
    np.testing.assert_array_equal(gradient.numpy(), x)


@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        ("pixelshuffler: 2", (1, 6, 2, 2), "expected 4 axes and a multiple of 4 channels"),
        ("pixelshuffler: 2", (1, 4, 2), "expected 4 axes"),
        ("pixelshuffler: -2", (1, 4, 2, 2), "pixelshuffler is -2, expected 1 or more"),
        ("pixelshuffler: 2 shape { dim: 0 dim: -1 }", (1, 4, 2, 2), "reshape_param.shape means nothing"),
    ],
)
def test_pixels_that_cannot_be_shuffled(body: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_net("Reshape", f"reshape_param {{ {body} }}", [shape])


def test_flat_concat() -> None:
    shapes = [(2, 3, 2, 4), (2, 5, 1, 3)]
    bottoms = [np.random.default_rng(n).normal(size=shape) for n, shape in enumerate(shapes)]
    layer = one_layer("Concat", "concat_param { per_fla_fuse: true axis: 1 }", *shapes)
    top = layer(*map(torch.from_numpy, bottoms))
    assert top.shape == (2, 39, 1, 1)
    for n in range(2):
        want = [b[n, c, h, w] for b in bottoms for h, w, c in np.ndindex(b.shape[2], b.shape[3], b.shape[1])]
        np.testing.assert_array_equal(top[n, :, 0, 0].numpy(), want)
    with pytest.raises(ShapeError, match="bottom 1 has shape .* expected 4 axes and 2 items as"):
        layer.top_shapes([(2, 3, 2, 4), (3, 5, 1, 3)])


# -- EvalDetection --------------------------------------------------------------------------------------------------

SIDE, CLASSES = 3, 4
NUMBERS = [float(word) for word in BIASES.replace("biases:", "").split()]


def _slow_boxes(image: np.ndarray, score: str, nms: float) -> list[tuple[int, float, list[float]]]:
    """GetPredBox: label, score and box, by falling score; image [channels, row, column]."""
    found = []
    for j, i, n in np.ndindex(SIDE, SIDE, 5):
        values = [float(image[n * (5 + CLASSES) + k, j, i]) for k in range(5 + CLASSES)]
        box = [(i + sigmoid(values[0])) / SIDE, (j + sigmoid(values[1])) / SIDE]
        box += [math.exp(values[2 + k]) * NUMBERS[2 * n + k] / SIDE for k in (0, 1)]
        powers = [math.exp(value - max(values[5:])) for value in values[5:]]
        best = max(powers) / sum(powers)
        sure = sigmoid(values[4])
        number = {"OBJ": sure, "PROB": best, "MULTIPLY": sure * best}[score]
        found.append((powers.index(max(powers)), number, box))
    if nms < 0:
        return []
    found.sort(key=lambda one: -one[1])
    gone: set[int] = set()
    for i in range(len(found)):
        for j in range(i + 1, len(found)):
            if i not in gone and j not in gone and iou_of(found[i][2], found[j][2]) >= nms:
                gone.add(j)
    return [one for at, one in enumerate(found) if at not in gone and one[1] >= 0.005]


def _slow_eval(image: np.ndarray, objects: list[list[float]], score: str, nms: float, threshold: float) -> list[float]:
    """Forward_cpu, of one image; objects: class, centre and size."""
    counts = [float(sum(int(one[0]) == label for one in objects)) for label in range(CLASSES)]
    rows: list[float] = []
    found = _slow_boxes(image, score, nms)
    for label in sorted({one[0] for one in found}):
        truth = [one[1:] for one in objects if int(one[0]) == label]
        used = [False] * len(truth)
        for _, number, box in (one for one in found if one[0] == label):
            hit, miss = 0, 0 if truth else 1
            best, at = -1.0, -1
            for place, one in enumerate(truth):
                if (value := iou_of(box, one)) > best:
                    best, at = value, place
            if truth and best >= threshold:
                hit, miss = (0, 1) if used[at] else (1, 0)
                used[at] = True
            rows += [label, number, hit, miss]
    return counts + rows + [0.0] * (SIDE * SIDE * 5 * 4 - len(rows))


def _evaluated(scores: np.ndarray, label: np.ndarray, options: str) -> np.ndarray:
    body = f"eval_detection_param {{ side: {SIDE} num_class: {CLASSES} num_object: 5 {options} {BIASES} }}"
    layer = one_layer("EvalDetection", body, scores.shape, label.shape, scores.shape)
    top: np.ndarray = layer(torch.from_numpy(scores), torch.from_numpy(label), torch.empty(0)).numpy()
    return top


@pytest.mark.parametrize("score", ["OBJ", "PROB", "MULTIPLY"])
@pytest.mark.parametrize(("nms", "threshold"), [(0.45, 0.5), (0.9, 0.2), (-1, 0.5)])
def test_evaluation(score: str, nms: float, threshold: float) -> None:
    random = np.random.default_rng(5)
    scores = random.normal(0, 1.5, (2, 5 * (5 + CLASSES), SIDE, SIDE))
    scores[1, 4 :: 5 + CLASSES] -= 6  # below 0.005
    scores[0, 5 : 5 + CLASSES] = 0  # ties of classes
    corners = np.sort(random.random((9, 2, 2)), 1).reshape(9, 4)
    label = np.zeros((1, 1, 9, 8))
    label[0, 0, :, 0] = [0, 1, 0, 0, 1, -1, 0, 2, 1]  # 2: the image that the fork has room for
    label[0, 0, :, 1] = [1, 2, 3, 1, 4, 9, 2, 1, 2]
    label[0, 0, :, 3:7] = corners
    label[0, 0, 2, 3:7], label[0, 0, 4, 3:7] = (0.1, 0.1, 0.9, 0.9), (0.0, 0.0, 1.0, 1.0)
    top = _evaluated(scores, label, f"nms: {nms} threshold: {threshold} score_type: {score}")
    for item in range(2):
        objects = [
            [row[1] - 1, (row[3] + row[5]) / 2, (row[4] + row[6]) / 2, row[5] - row[3], row[6] - row[4]]
            for row in label[0, 0]
            if row[0] == item
        ]
        want = _slow_eval(scores[item], objects, score, nms, threshold)
        np.testing.assert_allclose(top[item], want, rtol=1e-7, err_msg=str(item))
    hits, misses = top[:, CLASSES:].reshape(2, -1, 4)[..., 2:].sum((0, 1))
    assert (misses > 0) == (nms > 0) and (hits > 0 or threshold > 0.2)


def test_evaluation_with_box_data() -> None:
    scores = np.random.default_rng(6).normal(0, 1.5, (1, 5 * (5 + CLASSES), SIDE, SIDE))
    rows = np.zeros((1, 30, 5))
    rows[0, :2] = [[2, 0.5, 0.5, 0.9, 0.8], [0, 0.3, 0.6, 0.5, 0.7]]
    rows[0, 3] = [1, 0.5, 0.5, 0.4, 0.4]  # behind the first with an x of 0
    top = _evaluated(scores, rows.reshape(1, 150), "nms: 0.5 threshold: 0.3")
    np.testing.assert_allclose(top[0], _slow_eval(scores[0], rows[0, :2].tolist(), "MULTIPLY", 0.5, 0.3), rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "label", "message"),
    [
        ("num_object: 2", (1, 1, 2, 8), "num_object 2, .* expected 5"),
        ("num_object: 5 side: 3", (1, 1, 2, 7), "bottom 1 has the shape"),
        ("num_object: 5 side: 4", (1, 1, 2, 8), r"bottom 0 has the shape .* expected N x 45 x 4 x 4"),
    ],
)
def test_evaluation_refused(options: str, label: tuple[int, ...], message: str) -> None:
    body = f"eval_detection_param {{ num_class: 4 {options} {BIASES} }}"
    with pytest.raises((LayerError, ShapeError), match=message):
        one_net("EvalDetection", body, [(1, 45, 3, 3), label])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 5, 0, 0, 0, 1, 1, 0], "has the class 4, expected 0 to 3"),
        ([3, 1, 0, 0, 0, 1, 1, 0], "an image that is not among the 1"),
        ([0, 1, 0, math.nan, 0, 1, 1, 0], "expected finite numbers"),
    ],
)
def test_wrong_ground_truth(row: list[float], message: str) -> None:
    scores = np.zeros((1, 45, 3, 3))
    with pytest.raises(LayerError, match=message):
        _evaluated(scores, np.array(row, dtype=np.float64).reshape(1, 1, 1, 8), "nms: 0.5")
