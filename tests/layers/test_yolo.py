"""Reorg and YOLO's detections against loops written down from MobileNet-YOLO's sources."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from cases_yolo import V2, V3
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.onnx import export_onnx

Detection = tuple[float, int, float, float, float, float]


def _reorg(x: np.ndarray, stride: int, forward: bool) -> np.ndarray:
    """reorg_cpu, index by index over flat memory."""
    number, channels, height, width = x.shape
    flat, out = x.reshape(-1), np.zeros(x.size, x.dtype)
    fewer, wide, high = channels // stride**2, width * stride, height * stride
    for n, c, h, w in np.ndindex(x.shape):
        bottom = w + width * (h + height * (c + channels * n))
        c2, offset = c % fewer, c // fewer
        w2, h2 = w * stride + offset % stride, h * stride + offset // stride
        top = w2 + wide * (h2 + high * (c2 + fewer * n))
        if forward:
            out[top] = flat[bottom]
        else:
            out[bottom] = flat[top]
    return out


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("stride", "shape"), [(2, (2, 8, 4, 6)), (3, (1, 9, 3, 6)), (1, (2, 3, 2, 2)), (2, (1, 64, 26, 26))]
)
def test_reorg_number_by_number(stride: int, shape: tuple[int, ...], reverse: bool) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    layer = one_layer("Reorg", f"reorg_param {{ stride: {stride} reverse: {str(reverse).lower()} }}", shape)
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom)
    np.testing.assert_array_equal(top.detach().numpy().reshape(-1), _reorg(x, stride, reverse))
    top.sum().backward()
    assert not bottom.grad.any()  # the fork reads a diff that nobody writes


def test_reorg_refuses() -> None:
    for body, kind, what in (
        ("", LayerError, "stride is missing"),
        ("reorg_param { stride: 0 }", LayerError, "stride is missing or 0"),
        ("reorg_param { stride: 3 }", ShapeError, "expected a multiple of reorg_param.stride squared, 9"),
        ("reorg_param { stride: 2 }", ShapeError, "has 3 x 4 pixels, expected multiples"),
    ):
        with pytest.raises(kind, match=f"under_test.*{what}"):
            one_layer("Reorg", body, (1, 4, 3, 4))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _iou(a: Detection, b: Detection) -> float:
    wide, high = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (2, 3))
    if wide < 0 or high < 0:
        return 0.0
    areas = [(c[4] - c[2]) * (c[5] - c[3]) for c in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def _kept(found: list[Detection], threshold: float) -> np.ndarray:
    found.sort(key=lambda item: -item[0])
    kept: list[Detection] = []
    for item in found:
        if all(_iou(other, item) < threshold for other in kept):
            kept.append(item)
    return np.array([[0, label + 1, score, *box] for score, label, *box in kept], np.float64)


def _boxes(x: np.ndarray, anchors: list[tuple[float, float]]) -> list[tuple[list[float], float, np.ndarray]]:
    """Of every image, cell and box: corners, the object's score, and the values of the classes."""
    number, channels, height, width = x.shape
    each, result = channels // len(anchors), []
    for b, j, i, n in np.ndindex(number, height, width, len(anchors)):
        v = x[b, n * each : (n + 1) * each, j, i].astype(float)
        cx, cy = (i + _sigmoid(v[0])) / width, (j + _sigmoid(v[1])) / height
        w, h = math.exp(v[2]) * anchors[n][0] / width, math.exp(v[3]) * anchors[n][1] / height
        result.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], _sigmoid(v[4]), v[5:]))
    return result


def _compare(kind: str, body: str, bottoms: list[np.ndarray], expected: np.ndarray) -> None:
    net = one_net(kind, body, [bottom.shape for bottom in bottoms])
    top = net.layer("under_test")(*map(torch.from_numpy, bottoms))
    np.testing.assert_allclose(top[0, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {f"x{index}": bottom for index, bottom in enumerate(bottoms)})
    np.testing.assert_allclose(exported[0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sides", [(5,), (3, 6)])
def test_yolo_2_takes_the_best_class_of_each_box(sides: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(sides))
    bottoms = [(random.normal(size=(2, 16, side, side)) * 1.5).astype(np.float32) for side in sides]
    found: list[Detection] = []
    for bottom in bottoms:
        for box, score, values in _boxes(bottom, [(1.1, 0.7), (2.5, 3)]):
            softmax = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
            if softmax.max() * score >= 0.2:
                found.append((softmax.max() * score, int(softmax.argmax()), *box))
    expected = _kept(found, 0.45)
    assert 5 < len(expected) < len(found)
    body = f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {V2} confidence_threshold: 0.2 }}"
    _compare("YoloDetectionOutput", body, bottoms, expected)


def test_yolo_3_takes_all_classes_above_the_threshold() -> None:
    random = np.random.default_rng(0)
    bottoms = [(random.normal(size=(1, 16, *side)) * 1.5).astype(np.float32) for side in ((3, 4), (6, 8))]
    biases = [(10, 13), (30, 23), (60, 90), (50, 20)]
    found: list[Detection] = []
    for bottom, mask, pixels in zip(bottoms, ((2, 3), (0, 1)), (32, 16), strict=True):
        anchors = [(biases[m][0] / pixels, biases[m][1] / pixels) for m in mask]
        for box, score, values in _boxes(bottom, anchors):
            found += [(_sigmoid(v) * score, label, *box) for label, v in enumerate(values) if _sigmoid(v) * score > 0.3]
    expected = _kept(found, 0.4)
    assert 5 < len(expected) < len(found) and len(set(expected[:, 1])) == 3
    body = f"""yolov3_detection_output_param {{ num_classes: 3 num_box: 2 {V3} mask: 2 mask: 3 mask: 0 mask: 1
        anchors_scale: 32 anchors_scale: 16 confidence_threshold: 0.3 nms_threshold: 0.4 }}"""
    _compare("Yolov3DetectionOutput", body, bottoms, expected)


def test_nothing_found_is_a_row_for_each_image() -> None:
    body = f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {V2} confidence_threshold: 1.5 }}"
    expected = np.array([[0, *[-1] * 6], [1, *[-1] * 6]], np.float64)
    _compare("YoloDetectionOutput", body, [np.zeros((2, 16, 3, 3), np.float32)], expected)


def test_equal_boxes_of_different_classes_suppress_each_other() -> None:
    body = f"""yolov3_detection_output_param {{ num_classes: 2 num_box: 1 {V3} mask: 0 mask_group_num: 1
        anchors_scale: 8 }}"""
    x = torch.tensor([0.0, 0, 0, 0, 3, 2, 1]).view(1, 7, 1, 1)
    top = one_layer("Yolov3DetectionOutput", body, x.shape)(x)
    assert top.shape == (1, 1, 1, 7) and top[0, 0, 0, 1] == 1


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        ("YoloDetectionOutput", "yolo_detection_output_param { num_box: 2 }", "num_classes is missing"),
        ("YoloDetectionOutput", "yolo_detection_output_param { num_classes: 3 num_box: 2 biases: 1 }", "has 1 biases"),
        ("YoloDetectionOutput", f"yolo_detection_output_param {{ num_classes: 4 num_box: 2 {V2} }}", "expected N x 18"),
        (
            "Yolov3DetectionOutput",
            f"yolov3_detection_output_param {{ num_classes: 3 num_box: 2 {V3} }}",
            "group_num is 2",
        ),
        (
            "Yolov3DetectionOutput",
            f"yolov3_detection_output_param {{ num_classes: 3 num_box: 2 {V3} mask: 0 mask: 4 mask_group_num: 1 "
            "anchors_scale: 8 }",
            "has 8 biases",
        ),
        (
            "Yolov3DetectionOutput",
            f"yolov3_detection_output_param {{ num_classes: 3 num_box: 2 {V3} mask: 0 mask_group_num: 1 "
            "anchors_scale: 8 }",
            "has 1 entries of mask",
        ),
    ],
)
def test_output_refusals(kind: str, body: str, what: str) -> None:
    with pytest.raises(LayerError, match=f"under_test.*{what}"):
        one_layer(kind, body, (1, 16, 4, 4))


def test_nan_is_refused() -> None:
    body = f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {V2} }}"
    with pytest.raises(LayerError, match="under_test.*bottom 'x0' holds NaN"):
        one_layer("YoloDetectionOutput", body, (1, 16, 2, 2))(torch.full((1, 16, 2, 2), torch.nan))
