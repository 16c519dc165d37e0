"""predict, infer_onnx and detect with nets that find objects themselves: SSD's rows, Faster R-CNN, R-FCN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import conv, ip, layer, make_net, source
from program import Done, call
from small_detectors import picture

from caffe_compat.media import Preparation, Preprocessing, write_preparation
from caffe_compat.onnx import export_onnx

HIGH, WIDE = 40, 60
SSD = (
    source("data", 1, 3, 16, 16)
    + conv("c", "data", "c", 4, "kernel_size: 4 stride: 4 weight_filler { type: 'xavier' }")
    + "".join(
        conv(f"{kind}_conv", "c", f"{kind}_conv", size, "kernel_size: 1")
        + layer("Permute", f"{kind}_perm", f"{kind}_conv", f"{kind}_perm", PERMUTED)
        + layer("Flatten", f"{kind}_flat", f"{kind}_perm", f"{kind}_flat")
        for PERMUTED in ["permute_param { order: 0 order: 2 order: 3 order: 1 }"]
        for kind, size in (("loc", 8), ("conf", 6))
    )
    + layer(
        "PriorBox", "priors", "c data", "priors", "prior_box_param { min_size: 5 max_size: 9 flip: false "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }"
    )
    + layer("Reshape", "split", "conf_flat", "split", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }")
    + layer("Softmax", "soft", "split", "soft", "softmax_param { axis: 2 }")
    + layer("Flatten", "prob_flat", "soft", "prob_flat")
    + layer(
        "DetectionOutput", "found", "loc_flat prob_flat priors", "found", "detection_output_param { num_classes: 3 "
        "nms_param { nms_threshold: 0.45 } keep_top_k: 20 code_type: CENTER_SIZE confidence_threshold: 0.05 }"
    )
)  # fmt: skip


def faster(labels: int, boxes: int) -> str:
    """A Faster R-CNN of 3 classes, or an R-FCN where the boxes are two."""
    settings = "{feat_stride: 4, scales: [1], ratios: [1], base_size: 8, min_size: 2, post_nms_top_n: 12}"
    param = f'python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{settings}" }}'
    return (
        source("data", 1, 3, 24, 32)
        + source("im_info", 1, 3)
        + conv("c", "data", "c", 4, "kernel_size: 4 stride: 4")
        + conv("s", "c", "s", 2, "kernel_size: 1")
        + layer("Softmax", "p", "s", "p")
        + conv("d", "c", "d", 4, "kernel_size: 1")
        + layer("Python", "proposal", "p d im_info", "rois", param)
        + layer(
            "ROIPooling", "pool", "c rois", "pool", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.25 }"
        )
        + ip("cls_score", "pool", "cls_score", labels)
        + layer("Softmax", "cls_prob", "cls_score", "cls_prob")
        + ip("bbox_pred", "pool", "bbox_pred", 4 * boxes)
    )


FASTER = ("--set", "TEST.SCALES", "[24]", "TEST.MAX_SIZE", "64", "PIXEL_MEANS", "[90,100,110]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture and class names."""
    cv2.imwrite(str(tmp_path / "a.png"), picture(3, HIGH, WIDE))
    (tmp_path / "names.txt").write_text("__background__\ncup\nbox\n")
    return tmp_path


def write(folder: Path, text: str) -> Any:
    """The net and its files: n.prototxt, n.caffemodel."""
    net = make_net(text).eval()
    with torch.no_grad():
        net.layer("c").blobs[0].mul_(0.02)  # of numbers up to 255
    (folder / "n.prototxt").write_text(text)
    net.save(folder / "n.caffemodel")
    return net


def objects(folder: Path, *words: object, status: int = 0) -> list[tuple[str, float, list[float]]]:
    """What a command finds in the picture."""
    done = run(folder, *words, "--json", "o.json", "--overwrite", status=status)
    content = json.loads((folder / "o.json").read_text())
    assert done.status == 0
    found = content["pictures"][0]["objects"]
    return [(one["class"], one["score"], one["box"]) for one in found]


def run(folder: Path, *words: object, status: int = 0) -> Done:
    done = call(*words, folder=folder)
    assert done.status == status, done.stderr + done.stdout
    return done


PREDICT = ("predict", "--model", "n.prototxt", "--weights", "n.caffemodel", "a.png")
MEAN = ("--mean", "90,100,110")


def test_rows_become_objects(folder: Path) -> None:
    net = write(folder, SSD)
    wanted = Preprocessing(mean=(90.0, 100.0, 110.0), resize=(16, 16))
    with torch.no_grad():
        rows = net(data=torch.from_numpy(wanted.blob(picture(3, HIGH, WIDE))[None]))["found"].numpy()[0, 0]
    conf = float(np.sort(rows[:, 2])[-8] - 1e-4)
    expected = []
    for _, label, score, *corners in rows[np.argsort(-rows[:, 2], kind="stable")].tolist():
        x1, x2 = (min(max(corner * WIDE, 0), WIDE - 1) for corner in corners[::2])
        y1, y2 = (min(max(corner * HIGH, 0), HIGH - 1) for corner in corners[1::2])
        if score >= conf and x2 > x1 and y2 > y1:
            expected.append((label, score, [x1, y1, x2, y2]))
    assert len(expected) > 3 and {1, 2} == {label for label, *_ in expected}
    found = objects(folder, *PREDICT, *MEAN, "--conf", conf, "--npz", "o.npz", "--draw", "drawn")
    check(found, [(str(int(label)), *rest) for label, *rest in expected])
    with np.load(folder / "o.npz", allow_pickle=True) as stored:
        assert {"boxes", "scores", "classes"} <= set(stored.files)
    drawn = cv2.imread(str(folder / "drawn" / "a.png"))
    assert drawn is not None and drawn.shape[1] >= WIDE
    names = {1: "cup", 2: "box"}
    check(
        objects(folder, *PREDICT, *MEAN, "--conf", conf, "--classes", "names.txt"),
        [(names[int(label)], *rest) for label, *rest in expected],
    )
    write_preparation(folder / "p.json", Preparation({"data": wanted}))
    export_onnx(net, folder / "n.onnx")
    onnx = ("infer_onnx", "n.onnx", "a.png", "--preprocessing", "p.json", "--classes", "names.txt", "--conf", conf)
    check(objects(folder, *onnx), [(names[int(label)], *rest) for label, *rest in expected])


def check(found: list[tuple[str, float, list[float]]], expected: list[Any]) -> None:
    assert [one[0] for one in found] == [one[0] for one in expected]
    np.testing.assert_allclose([one[1] for one in found], [one[1] for one in expected], atol=2e-6)
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-4, atol=1e-3)


def test_rows_of_centres(folder: Path) -> None:
    """caffe-yolov2's rows hold classes from 0, centres and sides."""
    body = "classes: 2 side: 4 num_box: 1 coords: 4 biases: 1.2 biases: 2 confidence_threshold: 0.1 nms_threshold: 0.9"
    yolo = source("data", 1, 3, 16, 16) + conv("c", "data", "c", 7, "kernel_size: 4 stride: 4")
    net = write(folder, yolo + layer("DetectionOutput", "found", "c", "found", f"detection_output_param {{ {body} }}"))
    wanted = Preprocessing(mean=(90.0, 100.0, 110.0), resize=(16, 16))
    with torch.no_grad():
        rows = net(data=torch.from_numpy(wanted.blob(picture(3, HIGH, WIDE))[None]))["found"].numpy()[0, 0]
    expected = []
    for _, label, score, x, y, w, h in rows[np.argsort(-rows[:, 2], kind="stable")].tolist():
        corners = (x - w / 2) * WIDE, (y - h / 2) * HIGH, (x + w / 2) * WIDE, (y + h / 2) * HIGH
        box = [min(max(side, 0), (HIGH if n % 2 else WIDE) - 1) for n, side in enumerate(corners)]
        expected.append(("cup" if label == 0 else "box", score, box))
    assert len(expected) > 4
    check(objects(folder, *PREDICT, *MEAN, "--conf", 0.05, "--classes", "names.txt"), expected)


def test_rows_that_fit_no_use_are_refused(folder: Path) -> None:
    write(folder, SSD)
    (folder / "one.txt").write_text("cup\n")
    np.savez(folder / "p.npz", a=np.zeros((1, 4)))
    done = run(folder, *PREDICT, *MEAN, "--conf", 0, "--classes", "one.txt", status=1)
    assert "the model gives label 2, there are 1 class names" in done.stdout + done.stderr
    done = run(folder, *PREDICT, *MEAN, "--resize", "20,20", "--crop", "16,16", status=2)
    assert "expected whole pictures" in done.stderr
    assert "--cfg and --set are for nets" in run(folder, *PREDICT, *MEAN, *FASTER, status=2).stderr
    assert "--proposals: the net finds" in run(folder, *PREDICT, *MEAN, "--proposals", "p.npz", status=2).stderr
    words = ("detect", "--def", "n.prototxt", "--net", "n.caffemodel", "--image", "a.png", "--classes", "names.txt")
    assert "run it with predict" in run(folder, *words, status=2).stderr


@pytest.mark.parametrize("boxes", [3, 2])
def test_a_net_finds_its_regions_itself(folder: Path, boxes: int) -> None:
    net = write(folder, faster(3, boxes))
    blob = cv2.resize(picture(3, HIGH, WIDE).astype(np.float32) - np.float32([90, 100, 110]), None, fx=0.6, fy=0.6)
    data = torch.from_numpy(np.ascontiguousarray(blob.transpose(2, 0, 1)[None]))
    assert data.shape == (1, 3, 24, 36)
    info = torch.tensor([[24.0, 36.0, 0.6]])
    with torch.no_grad():
        tops = net(data=data, im_info=info, blobs=["rois", "cls_prob", "bbox_pred"])
    expected = _moved(*(tops[name].numpy() for name in ("rois", "cls_prob", "bbox_pred")))
    words = ("--classes", "names.txt", "--conf", 0.2, *FASTER)
    found = objects(folder, *PREDICT, *words)
    assert len(expected) > 2
    check(found, expected)
    if boxes == 2:
        return
    (folder / "n.prototxt").write_text(faster(3, boxes).replace("min_size: 2", "min_size: 99"))
    assert "nothing with a score of 0.2 or more" in run(folder, *PREDICT, *words).stdout
    (folder / "n.prototxt").write_text(faster(3, boxes))
    still = _moved(tops["rois"].numpy(), tops["cls_prob"].numpy(), None)
    check(objects(folder, *PREDICT, *words, "TEST.BBOX_REG", "False"), still)
    detect = ("detect", "--def", "n.prototxt", "--net", "n.caffemodel", "--image", "a.png", "--json", "d.json", *words)
    run(folder, *detect)
    objects_there = json.loads((folder / "d.json").read_text())["objects"]
    check([(one["class"], one["score"], one["box"]) for one in objects_there], expected)
    prepared = Preprocessing(mean=(90.0, 100.0, 110.0), short_side=24, longest_side=64)
    write_preparation(folder / "p.json", Preparation({"data": prepared}))
    export_onnx(net, folder / "n.onnx", outputs=["rois", "cls_prob", "bbox_pred"], dynamic=True)
    onnx = ("infer_onnx", "n.onnx", "a.png", "--preprocessing", "p.json", "--classes", "names.txt", "--conf", 0.2)
    check(objects(folder, *onnx), expected)
    export_onnx(net, folder / "n.onnx", dynamic=True)
    assert "export_onnx --outputs rois" in run(folder, *onnx, status=2).stderr


def _moved(rois: np.ndarray, scores: np.ndarray, deltas: np.ndarray | None) -> list[tuple[str, float, list[float]]]:
    """py-faster-rcnn's im_detect and suppression, one box after the other."""
    found = []
    for label, name in ((1, "cup"), (2, "box")):
        kept: list[tuple[float, list[float]]] = []
        for at in np.argsort(-scores[:, label], kind="stable"):
            x1, y1, x2, y2 = (float(value) / 0.6 for value in rois[at, 1:])
            if deltas is None:
                if all(_iou([x1, y1, x2, y2], other) <= 0.3 for _, other in kept):
                    kept.append((float(scores[at, label]), [x1, y1, x2, y2]))
                continue
            column = 4 if deltas.shape[1] == 8 else 4 * label
            dx, dy, dw, dh = map(float, deltas[at, column : column + 4])
            w, h = x2 - x1 + 1, y2 - y1 + 1
            x, y = dx * w + x1 + 0.5 * w, dy * h + y1 + 0.5 * h
            w, h = np.exp(dw) * w, np.exp(dh) * h
            box = [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h]
            box = [min(max(value, 0), (HIGH if n % 2 else WIDE) - 1) for n, value in enumerate(box)]
            if all(_iou(box, other) <= 0.3 for _, other in kept):
                kept.append((float(scores[at, label]), box))
        found += [(name, score, box) for score, box in kept if score >= 0.2]
    return sorted(found, key=lambda one: -one[1])


def _iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return 0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return wide * high / (areas[0] + areas[1] - wide * high)
