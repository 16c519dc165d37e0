"""RegionLoss against loops written down from MobileNet-YOLO's region_loss_layer.cpp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_region_loss import BIASES
from one_layer import one_layer
from yolo_loops import Box, iou_of, sigmoid

from caffe_compat.errors import LayerError, ShapeError

B = [float(word) for word in BIASES.split()[1::2]]


def _slow(
    x: np.ndarray, label: np.ndarray, num: int, classes: int, match: bool, rescore: bool, boxed: str = ""
) -> np.ndarray:
    """Forward_cpu's diff; object_scale 5, noobject_scale 0.5, class_scale 2, coord_scale 3, thresh 0.3.

    ``boxed``: of gklz1982/caffe-yolov2, in its first passes ("warm") or later ("cold").
    """
    side, each = x.shape[2], 5 + classes
    diff = np.zeros(x.shape)

    def box(b: int, n: int, i: int, j: int) -> Box:
        tx, ty, tw, th = x[b, n * each : n * each + 4, j, i]
        sizes = math.exp(tw) * B[2 * n] / side, math.exp(th) * B[2 * n + 1] / side
        return [(i + sigmoid(tx)) / side, (j + sigmoid(ty)) / side, *sizes]

    for b in range(len(x)):
        for j, i, n in np.ndindex(side, side, num):
            best = 0.0
            for row in label[b]:
                if not row[1]:
                    break
                best = max(best, iou_of(box(b, n, i, j), list(row[1:])))
            p = sigmoid(x[b, n * each + 4, j, i])
            diff[b, n * each + 4, j, i] = 0 if best > 0.3 else 0.5 * p * p * (1 - p)
            for k in range(4 if boxed == "warm" else 0):
                value = x[b, n * each + k, j, i]
                place = sigmoid(value)
                diff[b, n * each + k, j, i] = 0.01 * (value if k > 1 else -(0.5 - place) * place * (1 - place))
        for row in label[b]:
            if not row[3]:
                break
            i, j = int(row[1] * side), int(row[2] * side)
            best, n = 0.0, 0
            for k in range(num):
                size = [B[2 * k] / side, B[2 * k + 1] / side] if match else box(b, k, i, j)[2:]
                iou = iou_of([0, 0, *size], [0, 0, *row[3:]])
                if iou > best:
                    best, n = iou, k
            at = n * each
            scale = 3 if rescore or boxed else 3 * (2 - row[3] * row[4])
            for k, whole in ((0, i), (1, j)):
                place = sigmoid(x[b, at + k, j, i])
                diff[b, at + k, j, i] = -scale * (row[1 + k] * side - whole - place) * place * (1 - place)
                diff[b, at + 2 + k, j, i] = -scale * (
                    math.log(row[3 + k] * side / B[2 * n + k]) - x[b, at + 2 + k, j, i]
                )
            p = sigmoid(x[b, at + 4, j, i])
            goal = iou_of(box(b, n, i, j), list(row[1:])) if rescore and not boxed else 1
            diff[b, at + 4, j, i] = -5 * (goal - p) * p * (1 - p)
            e = np.exp(x[b, at + 5 : at + each, j, i])
            for c in range(classes):
                diff[b, at + 5 + c, j, i] = -2 * ((c == int(row[0])) - e[c] / e.sum())
    return diff


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize(("num", "classes", "side"), [(5, 3, 7), (2, 1, 3), (1, 4, 1)])
def test_number_by_number(num: int, classes: int, side: int, match: bool, rescore: bool) -> None:
    random = np.random.default_rng(side)
    x = random.normal(size=(3, num * (5 + classes), side, side))
    label = np.zeros((3, 300, 5))
    for b, objects in ((0, 40), (2, 3)):  # 40 objects meet in cells; the second image has none
        label[b, :objects, 0] = random.integers(0, classes, objects)
        label[b, :objects, 1:3] = random.random((objects, 2)) * 0.98 + 0.01
        label[b, :objects, 3:] = random.random((objects, 2)) * 0.7 + 0.05
    label[0, 35, 1] = 0  # ends what the predictions are compared with, not the objects
    label[0, 45, 3] = 0.3
    body = f"num_class: {classes} num: {num} bias_match: {int(match)} rescore: {int(rescore)} thresh: 0.3 {BIASES}"
    scales = "object_scale: 5 noobject_scale: 0.5 class_scale: 2 coord_scale: 3"
    layer = one_layer("RegionLoss", f"region_loss_param {{ {body} {scales} }}", x.shape, label.shape).double()
    bottom = torch.from_numpy(x).requires_grad_()
    loss = layer(bottom, torch.from_numpy(label))
    (4 * loss).backward()
    diff = _slow(x, label, num, classes, match, rescore)
    assert loss.item() == pytest.approx((diff**2).sum() / 3, rel=1e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), 4 * diff / 3, rtol=1e-5, atol=1e-9)


def test_images_without_objects_learn_that_there_are_none() -> None:
    layer = one_layer("RegionLoss", f"region_loss_param {{ num_class: 2 {BIASES} }}", (1, 35, 2, 2), (1, 1, 300, 5))
    bottom = torch.randn(1, 35, 2, 2, requires_grad=True)
    layer(bottom, torch.zeros(1, 1, 300, 5)).backward()
    diff = bottom.grad.reshape(5, 7, 2, 2)
    assert (diff[:, 4] > 0).all() and not diff[:, :4].any() and not diff[:, 5:].any()


@pytest.mark.parametrize(
    ("body", "shapes", "kind", "what"),
    [
        ("biases: 1 biases: 2", ((1, 35, 2, 2), (1, 1500)), LayerError, "expected 10 or more positive"),
        (f"{BIASES} coords: 5", ((1, 35, 2, 2), (1, 1500)), LayerError, "coords 5"),
        (f'{BIASES} softmax_tree: "t"', ((1, 35, 2, 2), (1, 1500)), LayerError, "softmax_tree or class_map"),
        (BIASES, ((1, 35, 2, 3), (1, 1500)), ShapeError, "expected N x 35 x S x S"),
        (BIASES, ((1, 30, 2, 2), (1, 1500)), ShapeError, "expected N x 35 x S x S"),
        (BIASES, ((1, 35, 2, 2), (1, 1, 9, 7)), ShapeError, "expected 30 x 5 numbers"),
    ],
)
def test_refusals(body: str, shapes: tuple[tuple[int, ...], ...], kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{what}"):
        one_layer("RegionLoss", f"region_loss_param {{ num_class: 2 {body} }}", *shapes)


@pytest.mark.parametrize(
    "row", [[2, 0.5, 0.5, 0.2, 0.2], [0, 1.0, 0.5, 0.2, 0.2], [0, 0.5, 0.5, 0.2, 0], [0, 0, -1, 1, 1]]
)
def test_objects_outside_of_the_map(row: list[float]) -> None:
    layer = one_layer("RegionLoss", f"region_loss_param {{ num_class: 2 {BIASES} }}", (1, 35, 2, 2), (1, 1500))
    label = torch.zeros(1, 300, 5)
    label[0, 0] = torch.tensor(row)
    with pytest.raises(LayerError, match="under_test.*an object in bottom 'x1' is"):
        layer(torch.zeros(1, 35, 2, 2), label.reshape(1, 1500))
    label[0, 0, 3] = torch.nan
    with pytest.raises(LayerError, match="under_test.*expected finite"):
        layer(torch.zeros(1, 35, 2, 2), label.reshape(1, 1500))


def _slow_intel(x: np.ndarray, rows: np.ndarray, num: int, classes: int, match: bool) -> np.ndarray:
    """intel/caffe's diff; object_scale 5, noobject_scale 0.5, class_scale 2, coord_scale 3, thresh 0.3."""
    side, each = x.shape[2], 5 + classes
    diff = np.zeros(x.shape)

    def box(b: int, n: int, i: int, j: int) -> Box:
        tx, ty, tw, th = x[b, n * each : n * each + 4, j, i]
        sizes = math.exp(tw) * B[2 * n] / side, math.exp(th) * B[2 * n + 1] / side
        return [(i + sigmoid(tx)) / side, (j + sigmoid(ty)) / side, *sizes]

    def held(value: float) -> float:
        return 1 if value > 1 else -1 if value < -1 else value

    for b in range(len(x)):
        objects = [
            (int(row[1]) - 1, [(row[3] + row[5]) / 2, (row[4] + row[6]) / 2, row[5] - row[3], row[6] - row[4]])
            for row in rows
            if row[0] == b
        ]
        for j, i, n in np.ndindex(side, side, num):
            best = max([iou_of(box(b, n, i, j), truth) for _, truth in objects], default=0)
            p = sigmoid(x[b, n * each + 4, j, i])
            diff[b, n * each + 4, j, i] = 0 if best > 0.3 else 0.5 * p * p * (1 - p)
        for label, truth in objects:
            i, j = int(truth[0] * side), int(truth[1] * side)
            best, n = 0.0, 0
            for k in range(num):
                size = [B[2 * k] / side, B[2 * k + 1] / side] if match else box(b, k, i, j)[2:]
                iou = iou_of([0, 0, *size], [0, 0, *truth[2:]])
                if iou > best:
                    best, n = iou, k
            at = n * each
            for k, whole in ((0, i), (1, j)):
                place = sigmoid(x[b, at + k, j, i])
                diff[b, at + k, j, i] = -3 * held(truth[k] * side - whole - place) * place * (1 - place)
                wanted = math.log(truth[2 + k] * side / B[2 * n + k])
                diff[b, at + 2 + k, j, i] = -3 * held(wanted - x[b, at + 2 + k, j, i])
            p = sigmoid(x[b, at + 4, j, i])
            diff[b, at + 4, j, i] = -5 * 2 * (1 - p) ** 3 * p * (1 - p)
            e = np.exp(x[b, at + 5 : at + each, j, i])
            for c in range(classes):
                diff[b, at + 5 + c, j, i] = -2 * ((c == label) - e[c] / e.sum())
    return diff


@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize(("num", "classes", "side"), [(5, 3, 7), (2, 1, 3)])
def test_intel_number_by_number(num: int, classes: int, side: int, match: bool) -> None:
    random = np.random.default_rng(side)
    x = random.normal(size=(3, num * (5 + classes), side, side)) * 1.5
    rows = np.full((25, 8), -1.0)
    rows[:24, 0] = np.repeat([0, 2], [20, 4])  # the second image has none, the last row is empty
    rows[:24, 1] = random.integers(1, classes + 1, 24)
    corner, size = random.random((24, 2)) * 0.5, random.random((24, 2)) * 0.45 + 0.03
    rows[:24, 3:5], rows[:24, 5:7] = corner, corner + size
    scales = "object_scale: 5 noobject_scale: 0.5 class_scale: 2 coord_scale: 3"
    body = f"num_class: {classes} num: {num} bias_match: {int(match)} thresh: 0.3 {BIASES} {scales}"
    layer = one_layer("RegionLoss", f"region_loss_param {{ {body} }}", x.shape, (1, 1, 25, 8)).double()
    bottom = torch.from_numpy(x).requires_grad_()
    loss = layer(bottom, torch.from_numpy(rows)[None, None])
    (4 * loss).backward()
    diff = _slow_intel(x, rows, num, classes, match)
    assert loss.item() == pytest.approx((diff**2).sum(), rel=1e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), 4 * diff / 3, rtol=1e-5, atol=1e-9)


def test_rows_of_another_image() -> None:
    layer = one_layer("RegionLoss", f"region_loss_param {{ num_class: 2 {BIASES} }}", (1, 35, 2, 2), (1, 1, 1, 8))
    row = torch.tensor([1, 1, 0, 0.1, 0.1, 0.5, 0.5, 0]).reshape(1, 1, 1, 8)
    with pytest.raises(LayerError, match="under_test.*rows of an image that is not among the 1"):
        layer(torch.zeros(1, 35, 2, 2), row)


@pytest.mark.parametrize("field", ["", "num_label: 7"])
def test_ground_truth_of_box_data(field: str) -> None:
    """The first 12800 / 2 passes draw all boxes to their biases; the loss is not over the batch, the gradient is."""
    random = np.random.default_rng(8)
    x = random.normal(size=(2, 3 * 7, 4, 4))
    label = np.zeros((2, 7 if field else 30, 5))
    label[1, :5, 0] = random.integers(0, 2, 5)
    label[1, :5, 1:3] = random.random((5, 2)) * 0.98 + 0.01
    label[1, :5, 3:] = random.random((5, 2)) * 0.7 + 0.05
    body = f"num_class: 2 num: 3 {field} thresh: 0.3 {BIASES} object_scale: 5 noobject_scale: 0.5 class_scale: 2"
    layer = one_layer(
        "RegionLoss", f"region_loss_param {{ {body} coord_scale: 3 }}", x.shape, (2, label[0].size)
    ).double()
    for passes, boxed in ((0, "warm"), (6399, "warm"), (6400, "cold")):
        layer.seek(passes)
        source = torch.from_numpy(x).requires_grad_()
        loss = layer(source, torch.from_numpy(label).reshape(2, -1))
        (gradient,) = torch.autograd.grad(loss, source)
        want = _slow(x, label, 3, 2, True, True, boxed)
        np.testing.assert_allclose(loss.item(), (want**2).sum(), rtol=1e-6)
        np.testing.assert_allclose(gradient.numpy(), want / 2, rtol=1e-5, atol=1e-9)
    with pytest.raises(ShapeError, match=r"expected (7|30) x 5 numbers of each image or 1 x 1 x G x 8"):
        one_layer("RegionLoss", f"region_loss_param {{ {body} }}", x.shape, (2, 60))
