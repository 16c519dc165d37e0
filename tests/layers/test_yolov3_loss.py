"""Yolov3 against loops written down from MobileNet-YOLO's yolov3_layer.cpp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_yolov3_loss import BIASES, SIZES
from one_layer import one_layer
from yolo_loops import iou_of

from caffe_compat.errors import LayerError, ShapeError

MASK = "num: 3 mask: 3 mask: 4 mask: 5"


class _Loop:
    """Forward_cpu: object_scale 5, class_scale 2, coord_scale 3, thresh 0.3, anchors_scale 32."""

    def __init__(self, classes: int, mask: list[int], slope: bool, focal: bool, smooth: float) -> None:
        self.classes, self.mask, self.slope, self.focal, self.smooth = classes, mask, slope, focal, smooth
        self.iou_thresh = 0.4

    def run(self, x: np.ndarray, label: np.ndarray) -> tuple[float, np.ndarray]:
        """The top, and the bottom's diff for a top diff of 1."""
        each = 5 + self.classes
        number, _, height, width = x.shape
        swap, diff = 1 / (1 + np.exp(-x)), np.zeros(x.shape)
        for n in range(len(self.mask)):
            swap[:, n * each + 2 : n * each + 4] = x[:, n * each + 2 : n * each + 4]
        self.x, self.swap, self.diff, self.each, self.height, self.width = x, swap, diff, each, height, width
        for b in range(number):
            for j, i, n in np.ndindex(height, width, len(self.mask)):
                at = n * each
                size = SIZES[self.mask[n]]
                box = [
                    (i + swap[b, at, j, i]) / width,
                    (j + swap[b, at + 1, j, i]) / height,
                    math.exp(x[b, at + 2, j, i]) * size[0] / (32 * width),
                    math.exp(x[b, at + 3, j, i]) * size[1] / (32 * height),
                ]
                best = 0.0
                for row in label[b]:
                    if not row[1]:
                        break
                    best = max(best, iou_of(box, list(row[1:])))
                diff[b, at + 4, j, i] = 0 if best > 0.3 else swap[b, at + 4, j, i]
            for row in label[b]:
                if not row[3]:
                    break
                self._object(b, row)
        top = (diff**2).sum() / number
        if self.slope:
            for c in range(x.shape[1]):
                if c % each not in (2, 3):
                    diff[:, c] *= swap[:, c] * (1 - swap[:, c])
        return top, diff / number

    def _object(self, b: int, row: np.ndarray) -> None:
        i, j = int(row[1] * self.width), int(row[2] * self.height)
        wanted = [0, 0, row[3], row[4]]
        best, best_n = 0.0, -1
        shapes = [[0, 0, w / (32 * self.width), h / (32 * self.height)] for w, h in SIZES]
        for n, shape in enumerate(shapes):
            iou = iou_of(shape, wanted)
            if iou > best:
                best, best_n = iou, n
        mask_n = self.mask.index(best_n) if best_n in self.mask else -1
        if mask_n >= 0:
            best_n = mask_n
            self._learn(b, mask_n, j, i, row)
        for n, shape in enumerate(shapes):
            mask_n = self.mask.index(n) if n in self.mask else -1
            if mask_n >= 0 and n != best_n and self.iou_thresh < 1 and iou_of(shape, wanted) > self.iou_thresh:
                self._learn(b, mask_n, j, i, row)

    def _learn(self, b: int, place: int, j: int, i: int, row: np.ndarray) -> None:
        value, diff = self.swap[b, place * self.each :, j, i], self.diff[b, place * self.each :, j, i]
        scale = 3 * (2 - row[3] * row[4])
        for k, whole, side in ((0, i, self.width), (1, j, self.height)):
            diff[k] = -scale * (row[1 + k] * side - whole - value[k])
            diff[2 + k] = -scale * (math.log(row[3 + k] * side * 32 / SIZES[self.mask[place]][k]) - value[2 + k])
        diff[4] = -(1 - value[4]) * (5 if self.slope else 1)
        own = int(row[0])
        if diff[5 + own]:
            diff[5 + own] = -2 * ((1 - self.smooth) + 0.5 * self.smooth - value[5 + own])
        elif self.focal:
            p = value[5 + own] + 1e-15
            for c in range(self.classes):
                diff[5 + c] = -2 * ((c == own) - value[5 + c]) * 0.5 * -(1 - p) * (2 * p * math.log(p) + p - 1)
        else:
            for c in range(self.classes):
                diff[5 + c] = -2 * ((c == own) * (1 - self.smooth) + 0.5 * self.smooth - value[5 + c])


@pytest.mark.parametrize(("slope", "focal", "smooth"), [(0, 0, 0.1), (1, 0, 0), (0, 1, 0.1), (1, 1, 0)])
@pytest.mark.parametrize(
    ("mask", "classes", "height", "width"),
    [([3, 4, 5], 3, 4, 6), ([0, 1, 2], 1, 7, 7), ([1, 2, 0], 2, 2, 3), ([4], 4, 1, 1)],
)
def test_number_by_number(
    mask: list[int], classes: int, height: int, width: int, slope: int, focal: int, smooth: float
) -> None:
    random = np.random.default_rng(height)
    x = random.normal(size=(3, len(mask) * (5 + classes), height, width))
    label = np.zeros((3, 300, 5))
    for b, objects in ((0, 40), (2, 3)):  # 40 objects meet in cells; the second image has none
        label[b, :objects, 0] = random.integers(0, classes, objects)
        label[b, :objects, 1:3] = random.random((objects, 2)) * 0.98 + 0.01
        label[b, :objects, 3:] = random.random((objects, 2)) * 0.7 + 0.05
    label[0, 35, 1] = 0  # ends what the predictions are compared with, not the objects
    label[0, 45, 3] = 0.3
    body = f"num_class: {classes} num: {len(mask)} thresh: 0.3 iou_thresh: 0.4 label_smooth_eps: {smooth} {BIASES} "
    body += " ".join(f"mask: {number}" for number in mask) + " object_scale: 5 class_scale: 2 coord_scale: 3"
    body += f" use_logic_gradient: {'true' if slope else 'false'} use_focal_loss: {'true' if focal else 'false'}"
    layer = one_layer("Yolov3", f"yolov3_param {{ {body} }}", x.shape, label.shape).double()
    bottom = torch.from_numpy(x).requires_grad_()
    loss = layer(bottom, torch.from_numpy(label))
    (4 * loss).backward()
    top, diff = _Loop(classes, mask, bool(slope), bool(focal), smooth).run(x, label)
    assert loss.item() == pytest.approx(top, rel=1e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), 4 * diff, rtol=1e-5, atol=1e-9)


def test_without_the_slope_the_gradient_is_that_of_the_cross_entropy() -> None:
    """Objectness and classes: finite differences of sums of -log(p) and -log(1 - p), of one object on one cell."""
    body = f"num_class: 3 num: 1 mask: 5 label_smooth_eps: 0 thresh: 0.99 class_scale: 1 anchors_scale: 254 {BIASES}"
    layer = one_layer("Yolov3", f"yolov3_param {{ {body} }}", (1, 8, 1, 1), (1, 300, 5)).double()
    label = torch.zeros(1, 300, 5).double()
    label[0, 0] = torch.tensor([1, 0.5, 0.5, 0.9, 0.9])
    x = torch.linspace(-1, 1, 8).double().reshape(1, 8, 1, 1).requires_grad_()
    layer(x, label).backward()

    def entropy(values: torch.Tensor) -> torch.Tensor:
        p = values.flatten()[4:].sigmoid()
        return -(p[0].log() + (1 - p[1]).log() + p[2].log() + (1 - p[3]).log())

    for place in range(4, 8):
        step = torch.zeros(8).double()
        step[place] = 1e-6
        change = (entropy(x.detach().flatten() + step) - entropy(x.detach().flatten() - step)) / 2e-6
        assert x.grad is not None and x.grad.flatten()[place].item() == pytest.approx(change.item(), rel=1e-6)


def test_by_hand() -> None:
    """One cell of 32 pixels, one box of 254: the object is the box, so that only x, y, objectness and class learn."""
    body = f"num_class: 1 num: 1 mask: 5 label_smooth_eps: 0 coord_scale: 1 class_scale: 1 thresh: 1.5 {BIASES}"
    layer = one_layer("Yolov3", f"yolov3_param {{ anchors_scale: 254 {body} }}", (1, 6, 1, 1), (1, 300, 5))
    label = torch.zeros(1, 300, 5)
    label[0, 0] = torch.tensor([0, 0.25, 0.75, 1, 1])
    x = torch.zeros(1, 6, 1, 1, requires_grad=True)
    loss = layer(x, label)
    loss.backward()
    want = torch.tensor([0.25, -0.25, 0, 0, -0.5, -0.5])  # scale 2 - 1; sigmoid(0) is a half
    torch.testing.assert_close(x.grad.flatten(), want)
    assert loss.item() == pytest.approx(2 * 0.25**2 + 2 * 0.5**2)


@pytest.mark.parametrize(
    ("body", "shapes", "kind", "what"),
    [
        (f"{MASK} biases: 1 biases: 2", ((1, 21, 2, 2), (1, 1500)), LayerError, "of 6 or more boxes"),
        (f"num: 3 mask: 1 mask: 2 {BIASES}", ((1, 21, 2, 2), (1, 1500)), LayerError, "num 3 and 2 entries of mask"),
        (f"{MASK} {BIASES} anchors_scale: 0", ((1, 21, 2, 2), (1, 1500)), LayerError, "anchors_scale is 0"),
        (f"{MASK} {BIASES} iou_loss: GIOU", ((1, 21, 2, 2), (1, 1500)), LayerError, "iou_loss is GIOU"),
        (f"{MASK} {BIASES}", ((1, 20, 2, 2), (1, 1500)), ShapeError, "expected N x 21 x H x W"),
        (f"{MASK} {BIASES}", ((1, 21, 2, 2), (1, 1, 9, 8)), ShapeError, "expected 300 x 5 numbers"),
    ],
)
def test_refusals(body: str, shapes: tuple[tuple[int, ...], ...], kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{what}"):
        one_layer("Yolov3", f"yolov3_param {{ num_class: 2 {body} }}", *shapes)


def test_objects_outside_of_the_map_and_nan() -> None:
    layer = one_layer("Yolov3", f"yolov3_param {{ num_class: 2 {MASK} {BIASES} }}", (1, 21, 2, 2), (1, 1500))
    label = torch.zeros(1, 300, 5)
    label[0, 0] = torch.tensor([0, 1.0, 0.5, 0.2, 0.2])
    with pytest.raises(LayerError, match="under_test.*an object in bottom 'x1' is"):
        layer(torch.zeros(1, 21, 2, 2), label.reshape(1, 1500))
    label[0, 0, 3] = torch.nan
    with pytest.raises(LayerError, match="under_test.*expected finite"):
        layer(torch.zeros(1, 21, 2, 2), label.reshape(1, 1500))
