"""One image at test time against loops that do what ``im_detect`` does, as it should and as the branch does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffe_compat import load_net
from caffe_compat.config import load_config
from caffe_compat.detection.inference import Detector, Question, ask, im_detect, input_names, load_detector_net
from caffe_compat.errors import NetError, UsageError, WeightsError

NET = """name: "head"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 48 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 1 dim: 5 } } }
layer { name: "pool" type: "ROIPooling" bottom: "data" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 } }
layer { name: "cls_score" type: "InnerProduct" bottom: "pool" top: "cls_score"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.02 } } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred"
  inner_product_param { num_output: 12 weight_filler { type: "gaussian" std: 0.005 } } }
layer { name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }
"""
LABELS = 3


class Table:
    """Answers with numbers that depend on the region, and notes what it was asked."""

    several = False

    def __call__(self, question: Question):
        self.question = question
        rois = question.blobs["rois"]
        seeds = (np.round(rois / 16) @ np.array([1.0, 3, 7, 11, 13])).astype(np.int64)
        rows = [np.random.default_rng(seed % 1000) for seed in seeds]
        scores = np.array([row.uniform(size=LABELS) for row in rows], np.float32).reshape(-1, LABELS)
        deltas = np.array([row.normal(0, 0.4, 4 * LABELS) for row in rows], np.float32).reshape(-1, 4 * LABELS)
        return scores, deltas


def some_image(height=60, width=90, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def some_boxes(count=60, height=60, width=90):
    rng = np.random.default_rng(5)
    corners = np.hstack((rng.integers(0, width - 20, (count, 1)), rng.integers(0, height - 20, (count, 1))))
    boxes = np.hstack((corners, corners + rng.integers(4, 19, (count, 2)))).astype(np.float32)
    return np.vstack((boxes, boxes[: count // 4] + 0.25)).clip(0, [width - 1, height - 1] * 2)


def slow_detect(boxes, scales, size, config, parity):
    """``im_detect`` box by box: which region stands for it, and where it moves."""
    table = {}
    rois = []
    for box in boxes.astype(np.float64):
        level, best = 0, math.inf
        for number, scale in enumerate(scales if len(scales) > 1 else ()):
            area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1) * scale * scale
            if abs(area - 224 * 224) < best:
                level, best = number, abs(area - 224 * 224)
        rois.append(np.array([level, *(box * scales[level])], np.float32))
        table.setdefault(tuple(np.round(rois[-1] * np.float32(1 / 16))), len(rois) - 1)
    firsts = sorted(table.items(), key=lambda item: sum(float(v) * 1000.0**k for k, v in enumerate(item[0])))
    place = {key: number for number, (key, _) in enumerate(firsts)}
    asked = np.array([rois[first] for _, first in firsts])
    scores, deltas = Table()(Question({"rois": asked}, boxes, np.arange(len(asked)), np.arange(0), size))
    found_scores, found_boxes = [], []
    for number, roi in enumerate(rois):
        key = tuple(np.round(roi * np.float32(1 / 16)))
        box = boxes[table[key] if parity else number].astype(np.float64)
        width, height = box[2] - box[0] + config.eps, box[3] - box[1] + config.eps
        row = []
        for dx, dy, dw, dh in deltas[place[key]].reshape(-1, 4):
            x, y = dx * width + box[0] + 0.5 * width, dy * height + box[1] + 0.5 * height
            half = 0.5 * np.exp(dw) * width, 0.5 * np.exp(dh) * height
            x1, y1, x2, y2 = x - half[0], y - half[1], x + half[0], y + half[1]
            x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, size[1] - 1), min(y2, size[0] - 1)
            if not parity:
                x1, y1, x2, y2 = min(x1, size[1] - 1), min(y1, size[0] - 1), max(x2, 0), max(y2, 0)
            row += [x1, y1, x2, y2]
        found_scores.append(scores[place[key]])
        found_boxes.append(row)
    return asked, np.array(found_scores), np.array(found_boxes)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("scales", [(60,), (120,), (60, 240, 900)])
def test_as_the_loops_do(parity, scales):
    config = load_config(pairs=["TEST.SCALES", repr(scales), "TEST.MAX_SIZE", "9999"], parity=parity)
    table, boxes, image = Table(), some_boxes(), some_image()
    scores, moved = im_detect(table, [image], boxes, config)
    asked, wanted_scores, wanted = slow_detect(boxes, [side / 60 for side in scales], (60, 90), config, parity)
    np.testing.assert_array_equal(table.question.blobs["rois"], asked)
    np.testing.assert_array_equal(scores, wanted_scores)
    np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-4)
    assert len(asked) < len(boxes)
    assert table.question.blobs["data"].shape[0] == len(scales)


def test_pictures_of_a_pyramid_share_one_blob():
    config = load_config(pairs=["TEST.SCALES", "(30, 60)"])
    blob = ask([some_image()], some_boxes(), config).blobs["data"]
    assert blob.shape == (2, 3, 60, 90)
    assert not blob[0, :, 30:].any()
    assert not blob[0, :, :, 45:].any()
    centred = some_image().transpose(2, 0, 1) - np.array(config.pixel_means)[:, None, None]
    np.testing.assert_allclose(blob[1], centred, atol=1e-4)


def test_every_modality_at_its_own_scale():
    pairs = ["TEST.MODALITY_SCALES", "((60,), (120,))"]
    images = [some_image(seed=1), some_image(seed=2)]
    question = ask(images, some_boxes(), load_config(pairs=pairs), several=True)
    assert list(question.blobs) == ["data", "data_1", "rois", "rois_1"]
    assert [question.blobs[name].shape[2] for name in ("data", "data_1")] == [60, 120]
    np.testing.assert_allclose(question.blobs["rois_1"], question.blobs["rois"] * [1, 2, 2, 2, 2], atol=1e-4)
    apart = len(ask(images, some_boxes(), load_config(pairs=["TEST.SCALES", "(120,)"])).first)
    assert len(question.first) >= apart  # boxes are seen once only if they fall together in all modalities
    with pytest.raises(UsageError, match="one input of regions"):
        ask(images, some_boxes(), load_config(pairs=pairs))
    with pytest.raises(UsageError, match="2 modalities, expected 1"):
        ask(images[:1], some_boxes(), load_config(pairs=pairs))


def test_every_modality_less_its_own_means():
    images, means = [some_image(seed=1), some_image(seed=2)], "((1, 2, 3), (128, 129, 130))"
    config = load_config(pairs=["MODALITY_MEANS", means, "TEST.SCALES", "(60,)"])
    question = ask(images, some_boxes(), config)
    for image, name, mean in zip(images, ("data", "data_1"), ((1, 2, 3), (128, 129, 130)), strict=True):
        np.testing.assert_allclose(question.blobs[name][0].transpose(1, 2, 0), image - np.float32(mean), atol=1e-4)
    with pytest.raises(UsageError, match="MODALITY_MEANS are of 2 modalities, expected 1"):
        ask(images[:1], some_boxes(), config)


def test_without_deduplication_and_without_regression():
    boxes = some_boxes()
    config = load_config(pairs=["DEDUP_BOXES", "0.0", "TEST.BBOX_REG", "False"])
    table = Table()
    scores, moved = im_detect(table, [some_image()], boxes, config)
    assert len(table.question.blobs["rois"]) == len(boxes) == len(scores)
    np.testing.assert_array_equal(moved, np.tile(boxes, (1, LABELS)))


def head(tmp_path, text=NET):
    (tmp_path / "head.prototxt").write_text(text)
    torch.manual_seed(1)
    return load_net(tmp_path / "head.prototxt")


def test_a_net_is_asked_once_for_each_region(tmp_path):
    net = head(tmp_path)
    config = load_config(pairs=["TEST.SCALES", "(60,)"])
    detector = Detector(net, 3, 1, config)
    scores, moved = im_detect(detector, [some_image()], some_boxes(), config)
    question = ask([some_image()], some_boxes(), config)
    raw = net(data=torch.from_numpy(question.blobs["data"]), rois=torch.from_numpy(question.blobs["rois"]))
    np.testing.assert_array_equal(scores, raw["cls_prob"].detach().numpy()[question.inverse])
    assert moved.shape == (len(some_boxes()), 12)
    svm = load_config(pairs=["TEST.SCALES", "(60,)", "TEST.SVM", "True", "TEST.BBOX_REG", "False"])
    raw_scores, same = im_detect(Detector(net, 3, 1, svm), [some_image()], some_boxes(), svm)
    np.testing.assert_allclose(torch.from_numpy(raw_scores).softmax(1), scores, rtol=1e-5)
    np.testing.assert_array_equal(same[:, :4], some_boxes())


def test_regions_of_every_modality_and_of_every_scale(tmp_path):
    """Two inputs of regions: the second net sees its picture twice as large, and pools the same pixels."""
    second = NET.replace('"data"', '"data_1"').replace('"rois"', '"rois_1"').split("layer {")[1:4]
    text = NET + "".join(f"layer {{{part}" for part in second).replace('"pool"', '"pool_1"')
    net = head(tmp_path, text)
    config = load_config(pairs=["TEST.MODALITY_SCALES", "((60,), (120,))", "TEST.MAX_SIZE", "9999"])
    flat = [np.full((60, 90, 3), 200, np.uint8)] * 2
    detector = Detector(net, 3, 2, config)
    question = ask(flat, some_boxes(), config, detector.several)
    inputs = {name: torch.from_numpy(blob) for name, blob in question.blobs.items()}
    found = net(blobs=["pool", "pool_1"], **inputs)
    np.testing.assert_allclose(found["pool"].numpy(), found["pool_1"].numpy(), atol=1e-4)
    assert detector(question)[0].shape == (len(question.first), 3)
    boxes = np.array([[0, 0, 89, 59], [5, 5, 15, 15]])
    large = load_config(pairs=["TEST.SCALES", "(180, 900)", "TEST.MAX_SIZE", "9999"])
    assert sorted(ask(flat[:1], boxes, large).blobs["rois"][:, 0].tolist()) == [0, 1]
    single = Detector(head(tmp_path), 3, 1, large)
    assert im_detect(single, flat[:1], boxes, large)[0].shape == (2, 3)


def test_no_boxes(tmp_path):
    config = load_config()
    scores, moved = im_detect(Detector(head(tmp_path), 3, 1, config), [some_image()], np.zeros((0, 4)), config)
    assert (scores.shape, moved.shape) == ((0, 3), (0, 12))


def test_nets_that_do_not_fit(tmp_path):
    net, config = head(tmp_path), load_config()
    with pytest.raises(NetError, match="blob 'cls_prob' has 3 numbers for a region, expected 5"):
        Detector(net, 5, 1, config)
    with pytest.raises(NetError, match="inputs data, rois; expected data, data_1, rois for images of 2 modalities"):
        Detector(net, 3, 2, config)
    with pytest.raises(NetError, match="no blob 'scores'"):
        Detector(net, 3, 1, config, blobs=("scores", None))
    with pytest.raises(NetError, match="'cls_score' has 3 numbers for a region, expected 12"):
        Detector(net, 3, 1, config, blobs=(None, "cls_score"))
    assert input_names(2, several=True) == ("data", "data_1", "rois", "rois_1")


def test_numbers_that_are_not_finite(tmp_path):
    net, config = head(tmp_path), load_config()
    with torch.no_grad():
        net.layer("bbox_pred").blobs[1][3] = math.nan
    with pytest.raises(NetError, match="in blob 'bbox_pred' are NaN"):
        im_detect(Detector(net, 3, 1, config), [some_image()], some_boxes(), config)


def test_weights_for_every_layer(tmp_path):
    net = head(tmp_path)
    net.save(tmp_path / "all.caffemodel")
    half = "".join(part for part in NET.split("layer {")[:1]) + "".join(
        f"layer {{{part}" for part in NET.split("layer {")[1:] if "bbox_pred" not in part
    )
    head(tmp_path, half).save(tmp_path / "half.caffemodel")
    (tmp_path / "head.prototxt").write_text(NET)
    load_detector_net(tmp_path / "head.prototxt", [tmp_path / "half.caffemodel", tmp_path / "all.caffemodel"])
    with pytest.raises(WeightsError, match="half.caffemodel: no weights for bbox_pred"):
        load_detector_net(tmp_path / "head.prototxt", [tmp_path / "half.caffemodel"])
