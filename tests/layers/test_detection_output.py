"""DetectionOutput against loops that follow weiliu89/caffe's source line by line; ONNX Runtime against the layer."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer
from caffe_compat.net import BlobNet
from caffe_compat.onnx import export_onnx

f32 = np.float32
Box = list[np.float32]


def _decode(prior: np.ndarray, variance: np.ndarray, kind: str, in_target: bool, code: np.ndarray) -> Box:
    """DecodeBBox."""
    scale = [f32(1)] * 4 if in_target else list(variance)
    if kind == "CORNER":
        return [prior[i] + scale[i] * code[i] for i in range(4)]
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if kind == "CORNER_SIZE":
        return [prior[i] + scale[i] * code[i] * (w, h)[i % 2] for i in range(4)]
    x, y = f32((prior[0] + prior[2]) / 2.0), f32((prior[1] + prior[3]) / 2.0)
    cx, cy = scale[0] * code[0] * w + x, scale[1] * code[1] * h + y
    dw = f32(math.exp(float(scale[2] * code[2])) * float(w))
    dh = f32(math.exp(float(scale[3] * code[3])) * float(h))
    return [
        f32(float(cx) - float(dw) / 2),
        f32(float(cy) - float(dh) / 2),
        f32(float(cx) + float(dw) / 2),
        f32(float(cy) + float(dh) / 2),
    ]


def _size(box: Box) -> np.float32:
    """BBoxSize."""
    return f32(0) if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def jaccard(a: Box, b: Box) -> np.float32:
    """IntersectBBox and JaccardOverlap."""
    if b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]:
        common: Box = [f32(0)] * 4
    else:
        common = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    w, h = common[2] - common[0], common[3] - common[1]
    return w * h / (_size(a) + _size(b) - w * h) if w > 0 and h > 0 else f32(0)


def _fast_nms(boxes: list[Box], scores: np.ndarray, threshold: float, nms: float, eta: float, top_k: int) -> list[int]:
    """GetMaxScoreIndex and ApplyNMSFast."""
    order = sorted((i for i in range(len(scores)) if scores[i] > threshold), key=lambda i: -scores[i])  # stable
    if -1 < top_k < len(order):
        order = order[:top_k]
    adaptive, kept = f32(nms), []
    for index in order:
        keep = True
        for other in kept:
            keep = bool(jaccard(boxes[index], boxes[other]) <= adaptive)
            if not keep:
                break
        if keep:
            kept.append(index)
            if eta < 1 and adaptive > 0.5:
                adaptive *= f32(eta)
    return kept


def detections(loc: np.ndarray, conf: np.ndarray, priors: np.ndarray, **given: Any) -> np.ndarray:
    """Forward_cpu; with a stable order where std::sort leaves it open."""
    classes, share = given["classes"], given.get("share", True)
    background = given.get("background", 0)
    boxes, variances = priors.reshape(2, -1, 4)
    rows: list[list[float]] = []
    for i in range(len(loc)):
        codes = loc[i].reshape(len(boxes), -1, 4)
        scores = conf[i].reshape(len(boxes), classes)
        decoded = [
            [
                _decode(boxes[p], variances[p], given.get("kind", "CORNER"), given.get("in_target", False), codes[p, c])
                for p in range(len(boxes))
            ]
            for c in range(1 if share else classes)
        ]
        found: dict[int, list[int]] = {}
        for c in range(classes):
            if c != background:
                found[c] = given.get("suppress", _fast_nms)(
                    decoded[0 if share else c],
                    scores[:, c],
                    given.get("threshold", -np.inf),
                    given.get("nms", 0.3),
                    given.get("eta", 1.0),
                    given.get("top_k", -1),
                )
        keep = given.get("keep", -1)
        if -1 < keep < sum(map(len, found.values())):
            pairs = [(scores[index, c], c, index) for c, kept in found.items() for index in kept]
            pairs.sort(key=lambda pair: -pair[0])
            found = {c: [] for c in found}
            for _, c, index in pairs[:keep]:
                found[c].append(index)
        rows += [
            [i, c, scores[index, c], *decoded[0 if share else c][index]] for c in sorted(found) for index in found[c]
        ]
    if not rows:
        rows = [[i, *[-1] * 6] for i in range(len(loc))]
    return np.array(rows, np.float32)[None, None]


def _text(**given: Any) -> str:
    nms = f"nms_threshold: {given.get('nms', 0.3)} eta: {given.get('eta', 1.0)}"
    nms += f" top_k: {given['top_k']}" if "top_k" in given else ""
    threshold = f"confidence_threshold: {given['threshold']}" if "threshold" in given else ""
    return (
        f"detection_output_param {{ num_classes: {given['classes']} code_type: {given.get('kind', 'CORNER')} "
        f"share_location: {str(given.get('share', True)).lower()} keep_top_k: {given.get('keep', -1)} {threshold} "
        f"background_label_id: {given.get('background', 0)} nms_param {{ {nms} }} "
        f"variance_encoded_in_target: {str(given.get('in_target', False)).lower()} }}"
    )


def _values(images: int, priors: int, seed: int, ties: bool, **given: Any) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    corners = np.sort(random.random((priors, 2, 2)), 1).reshape(priors, 4)
    corners[:, 2:] += 0.05
    known = np.stack([corners, random.uniform(0.05, 0.3, (priors, 4))]).reshape(1, 2, -1)
    each = 1 if given.get("share", True) else given["classes"]
    loc = random.normal(0, 1, (images, priors, each, 4))
    conf = random.random((images, priors, given["classes"]))
    if ties:  # few scores, and the same boxes again and again
        conf, loc = np.round(conf * 4) / 4, np.round(loc)
        known[0, 0] = np.tile(known[0, 0, :8], priors)[: priors * 4]
        known[0, 1] = 0.125
    return [array.astype(np.float32) for array in (loc.reshape(images, -1), conf.reshape(images, -1), known)]


CONFIGURATIONS = [
    {"classes": 4, "kind": "CENTER_SIZE", "threshold": 0.25, "nms": 0.45, "top_k": 10, "keep": 12},
    {"classes": 3, "kind": "CENTER_SIZE", "in_target": True, "nms": 0.6, "background": 2},
    {"classes": 3, "kind": "CORNER_SIZE", "share": False, "background": 1, "keep": 7, "top_k": 8},
    {"classes": 2, "background": -1, "threshold": 0.5, "nms": 0.9, "keep": 3},
    {"classes": 3, "in_target": True, "share": False, "nms": 0.0},
    {"classes": 3, "kind": "CENTER_SIZE", "threshold": 2, "keep": 3},  # nothing is found
    {"classes": 3, "kind": "CENTER_SIZE", "keep": 0},
    {"classes": 3, "kind": "CENTER_SIZE", "top_k": 0},
    {"classes": 1},
]


def _layer(arrays: list[np.ndarray], **given: Any) -> Layer:
    return one_layer("DetectionOutput", _text(**given), *[array.shape for array in arrays])


def _run(arrays: list[np.ndarray], **given: Any) -> np.ndarray:
    top: torch.Tensor = _layer(arrays, **given)(*map(torch.from_numpy, arrays))
    return top.numpy()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("given", CONFIGURATIONS)
def test_against_the_loop(given: dict[str, Any], ties: bool) -> None:
    for seed in range(3):
        arrays = _values(2, 24, seed, ties, **given)
        got, want = _run(arrays, **given), detections(*arrays, **given)
        assert np.array_equal(got[..., :3], want[..., :3])
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("eta", [0.9, 0.5])
def test_a_threshold_that_shrinks(eta: float) -> None:
    given = {"classes": 2, "kind": "CENTER_SIZE", "nms": 0.9, "eta": eta}
    lengths = set()
    for seed in range(4):
        arrays = _values(1, 60, seed, False, **given)
        got = _run(arrays, **given)
        assert np.array_equal(got[..., :3], detections(*arrays, **given)[..., :3])
        lengths.add(len(got[0, 0]) < len(_run(arrays, **{**given, "eta": 1.0})[0, 0]))
    assert True in lengths


def test_boxes_without_size_swapped_and_without_end() -> None:
    """Points and swapped corners overlap nothing; an endless box is dropped by its own kind only."""
    boxes = [[0.3, 0.3, 0.3, 0.3]] * 2 + [[0.6, 0.1, 0.2, 0.9]] * 2 + [[0, 0, 1, 1]]
    known = np.stack([np.zeros((7, 4)), np.ones((7, 4))]).astype(np.float32).reshape(1, 2, -1)
    loc = np.array([*boxes, [-np.inf, 0, np.inf, 1], [-np.inf, 0, np.inf, 1]], np.float32).reshape(1, -1)
    conf = np.array([[0, 0.9 - 0.1 * row] for row in range(7)], np.float32).reshape(1, -1)
    given = {"classes": 2, "nms": 0.1}
    want = detections(loc, conf, known, **given)
    assert len(want[0, 0]) == 6
    assert np.array_equal(_run([loc, conf, known], **given), want)


def test_top_k_is_taken_before_suppression() -> None:
    """The two best are one box, so that of top_k 2 one is left, though a third is apart."""
    known = np.zeros((1, 2, 12), np.float32)
    known[0, 0] = [0, 0, 0.5, 0.5] * 2 + [0.6, 0.6, 1, 1]
    conf = np.array([[0, 0.9, 0, 0.8, 0, 0.7]], np.float32)
    loc = np.zeros((1, 12), np.float32)
    assert len(_run([loc, conf, known], classes=2, top_k=2)[0, 0]) == 1
    assert len(_run([loc, conf, known], classes=2)[0, 0]) == 2


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("given", CONFIGURATIONS[:-3])
def test_onnx_runtime_finds_the_same(given: dict[str, Any], ties: bool) -> None:
    arrays = _values(2, 24, 5, ties, **given)
    net = one_net("DetectionOutput", _text(**given), [array.shape for array in arrays])
    buffer = io.BytesIO(export_onnx(net, dynamic=()).SerializeToString())
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    assert not isinstance(session.get_outputs()[0].shape[2], int)
    for seed in range(3):
        arrays = _values(2, 24, seed, ties, **given)
        want = _run(arrays, **given)
        (got,) = session.run(None, {f"x{index}": array for index, array in enumerate(arrays)})
        assert np.array_equal(got[..., :3], want[..., :3])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_blobs_have_caffes_shapes() -> None:
    arrays = _values(2, 24, 0, False, classes=3)
    net = BlobNet(one_net("DetectionOutput", _text(classes=3, keep=5), [array.shape for array in arrays]))
    net.reshape()
    assert tuple(net.blob("y").shape) == (1, 1, 1, 7)
    for index, array in enumerate(arrays):
        net.blob(f"x{index}").tensor.copy_(torch.from_numpy(array))
    net.forward()
    assert tuple(net.blob("y").shape) == (1, 1, 10, 7)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 20), (2, 15), (1, 2, 24)], r"location predictions .*\[2, 20\], expected 24 .* 6 priors x 1 x 4"),
        ([(2, 20), (2, 16), (1, 2, 20)], r"confidence predictions .*expected 15 for each image: 5 priors x 3"),
        ([(2, 20), (1, 15), (1, 2, 20)], "as many images"),
        ([(2, 20), (2, 15), (1, 1, 20)], "expected 1 x 2 x"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_match(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ShapeError, match=f"layer 'under_test' .DetectionOutput.: .*{message}"):
        one_net("DetectionOutput", _text(classes=3), shapes)


@pytest.mark.parametrize("bottom", [0, 1, 2])
def test_nan_is_refused(bottom: int) -> None:
    arrays = _values(1, 4, 0, False, classes=2)
    arrays[bottom].reshape(-1)[3] = np.nan
    with pytest.raises(LayerError, match=f"bottom {bottom} 'x{bottom}' is NaN at"):
        _run(arrays, classes=2)


def test_refusals() -> None:
    shapes = [(1, 4), (1, 2), (1, 2, 4)]
    for text, message in (
        ("", "num_classes is 0, expected 1 or more"),
        ("num_classes: 2 nms_param { nms_threshold: -1 }", "nms_threshold is -1"),
        ("num_classes: 2 nms_param { eta: 0 }", "eta is 0"),
        ("num_classes: 2 nms_param { eta: 1.5 }", "eta is 1.5"),
    ):
        with pytest.raises(LayerError, match=message):
            one_net("DetectionOutput", f"detection_output_param {{ {text} }}", shapes)
    flat = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(LayerError, match=r"prior 0 in 'x2' is \[0.0, 0.0, 0.0, 0.0\], expected x1 < x2"):
        _run(flat, classes=2, kind="CENTER_SIZE")


def test_what_is_not_done_is_told(caplog: pytest.LogCaptureFixture) -> None:
    text = 'num_classes: 2 visualize: true save_output_param { output_directory: "x" name_size_file: "none.txt" }'
    one_net("DetectionOutput", f"detection_output_param {{ {text} }}", [(1, 4), (1, 2), (1, 2, 4)])
    said = "layer 'under_test': save_output_param writes no files here, name_size_file 'none.txt' is not read"
    assert caplog.text.count(said) == 1 and "shows no windows here" in caplog.text
