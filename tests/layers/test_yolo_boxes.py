"""YOLO version 2's DetectionOutput of one map, and Region, against loops written from the forks' source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases_region_loss import BIASES
from one_layer import one_layer
from yolo_loops import Box, iou_of, sigmoid

from caffe_compat.errors import LayerError, ShapeError

B = [float(word) for word in BIASES.split()[1::2]]


def _cut(box: Box) -> Box:
    """setNormalizedBBox, as a centre and a size again."""
    low = [max(box[k] - box[k + 2] / 2, 0) for k in (0, 1)]
    high = [min(box[k] + box[k + 2] / 2, 1) for k in (0, 1)]
    return [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[0] - low[0], high[1] - low[1]]


def _detections(x: np.ndarray, classes: int, by_objects: bool, threshold: float, nms: float) -> np.ndarray:
    """Forward_cpu of both forks."""
    side, each, rows = x.shape[2], 5 + classes, []
    for b in range(len(x)):
        predicts: list[list[Any]] = []
        for j, i, n in np.ndindex(side, side, x.shape[1] // each):
            v = [float(value) for value in x[b, n * each : (n + 1) * each, j, i]]
            e = np.exp(np.array(v[5:]) - max(v[5:]))
            label = int(np.argmax(e))
            score = sigmoid(v[4]) * e[label] / e.sum()
            if score >= threshold:
                box = [(i + sigmoid(v[0])) / side, (j + sigmoid(v[1])) / side]
                box += [math.exp(v[2 + k]) * B[2 * n + k] / side for k in (0, 1)]
                predicts.append([b, label, score, *box, sigmoid(v[4])])
        gone: set[int] = set()
        for i, one in enumerate(predicts):
            if i in gone:
                continue
            for j in range(i + 1, len(predicts)):
                if j in gone or iou_of(_cut(one[3:7]), _cut(predicts[j][3:7])) < nms:
                    continue
                gone.add(j if not by_objects or (i not in gone and one[7] > predicts[j][7]) else i)
        rows += [one[:7] for k, one in enumerate(predicts) if k not in gone]
    return np.array(rows if rows else [[b, *[-1] * 6] for b in range(len(x))])


@pytest.mark.parametrize("by_objects", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_detections(by_objects: bool, threshold: float) -> None:
    dropped = 0
    for seed in range(4):
        x = np.random.default_rng(seed).normal(0, 1, (2 if by_objects else 1, 40, 4, 4))
        x[:, 2::8], x[:, 3::8] = x[:, 2::8] - 1.5, x[:, 3::8] - 1.5
        x[0, 4::8, 1] = 0.5  # equal scores of objects
        body = f"side: 4 confidence_threshold: {threshold} nms_threshold: 0.3 {BIASES}"
        kind = "classes" if by_objects else "num_classes"
        layer = one_layer("DetectionOutput", f"detection_output_param {{ {kind}: 3 {body} }}", x.shape)
        want = _detections(x, 3, by_objects, threshold, 0.3)
        got = layer(torch.from_numpy(x))[0, 0].numpy()
        np.testing.assert_allclose(got, want, rtol=1e-5)
        dropped += len(_detections(x, 3, by_objects, threshold, 9)) - len(want)
    assert dropped > 50 or threshold == 0.9


def test_region() -> None:
    x = np.random.default_rng(0).normal(size=(2, 14, 2, 3))
    layer = one_layer("Region", "region_param { classes: 2 boxes_of_each_grid: 2 }", x.shape)
    want = np.zeros(x.size)
    for at, (b, j, i, c) in enumerate(np.ndindex(2, 2, 3, 14)):
        want[at] = sigmoid(x[b, c, j, i]) if c % 7 == 4 else x[b, c, j, i]
    np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), want.reshape(x.shape), rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "body", "shape", "message"),
    [
        ("DetectionOutput", f"detection_output_param {{ {BIASES} }}", (1, 40, 2, 2), "classes or neither"),
        ("DetectionOutput", f"detection_output_param {{ num_classes: 3 {BIASES} }}", (1, 40, 2, 2), "x 13 x 13"),
        ("DetectionOutput", f"detection_output_param {{ num_classes: 3 side: 2 {BIASES} }}", (2, 40, 2, 2), "one with"),
        ("DetectionOutput", "detection_output_param { classes: 3 side: 2 }", (1, 40, 2, 2), "has 0 biases"),
        ("Region", "region_param { classes: 2 }", (1, 14, 2, 2), "expected N x 35 x H x W"),
    ],
)
def test_refusals(kind: str, body: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_layer(kind, body, shape)
