import math

import numpy as np
import pytest

from caffe_compat.config import load_config
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.roidb import Roidb, RoiImage, roi_image
from caffe_compat.detection.targets import normalised, raw_targets, target_statistics
from caffe_compat.evaluation.overlaps import box_overlaps

CLASSES = ("cat", "dog", "cow")
CONFIG = load_config()


def some_images(count: int = 6, seed: int = 0) -> Roidb:
    """Random objects, and proposals near them."""
    random = np.random.RandomState(seed)
    images = []
    for number in range(count):
        corners = random.randint(0, (80, 60), (3, 2))
        gt = np.concatenate([corners, corners + random.randint(8, 19, (3, 2))], 1)
        near = (gt[random.randint(0, 3, 60)] + random.randint(-4, 5, (60, 4))).clip(0, [97, 77, 99, 79])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 2)
        record = FrameRecord(f"i{number}", size=(80, 100), boxes=gt.astype(np.float32), classes=("cat", "dog", "dog"))
        images.append(roi_image(record, CLASSES, near.astype(np.float32)))
    return Roidb(images, flips=True)


def slow_targets(image: RoiImage) -> tuple[list[int], list[list[float]]]:
    """One region at a time, in plain Python."""
    gts = [(box, label) for box, label in zip(image.boxes.tolist(), image.gt_classes.tolist(), strict=True) if label]
    labels, rows = [], []
    for x1, y1, x2, y2 in image.boxes.tolist():
        found = [box_overlaps(np.array([[x1, y1, x2, y2]]), np.array([gt]))[0, 0] for gt, _ in gts]
        best = max(range(len(found)), key=lambda k: found[k])  # the first of equals
        if np.float32(found[best]) < CONFIG.train.bbox_thresh:
            labels.append(0)
            rows.append([0.0] * 4)
            continue
        (a1, b1, a2, b2), label = gts[best]
        labels.append(label)
        dx = ((a1 + a2) / 2 - (x1 + x2) / 2) / (x2 - x1)
        dy = ((b1 + b2) / 2 - (y1 + y2) / 2) / (y2 - y1)
        rows.append([dx, dy, math.log((a2 - a1) / (x2 - x1)), math.log((b2 - b1) / (y2 - y1))])
    return labels, rows


def test_targets_are_those_of_a_slow_search():
    for image in some_images():
        labels, targets = raw_targets(image, CONFIG)
        slow_labels, slow_rows = slow_targets(image)
        assert labels.tolist() == slow_labels and targets.dtype == np.float32
        np.testing.assert_allclose(targets, slow_rows, rtol=1e-5, atol=1e-7)
        assert (labels > 0).sum() > 10 and (labels == 0).any()


def test_rows_that_are_asked_for():
    image = some_images()[7]
    rows = np.array([60, 3, 1, 17])
    for some, every in zip(raw_targets(image, CONFIG, rows), raw_targets(image, CONFIG), strict=True):
        assert (some == every[rows]).all()


def test_statistics_are_means_and_deviations():
    images = some_images()
    found = target_statistics(images, 4, CONFIG)
    rows: dict[int, list[list[float]]] = {1: [], 2: [], 3: []}
    for image in images:
        for label, row in zip(*slow_targets(image), strict=True):
            if label:
                rows[label].append(row)
    assert found.counts.tolist() == [0, len(rows[1]), len(rows[2]), 0]
    for label in (1, 2):
        np.testing.assert_allclose(found.means[label], np.mean(rows[label], 0), atol=1e-6)
        np.testing.assert_allclose(found.stds[label], np.std(rows[label], 0), rtol=1e-4)
    for label in (0, 3):
        assert found.means[label].tolist() == [0] * 4 and found.stds[label].tolist() == [1] * 4
    labels, targets = np.array([0, 2]), np.array([[0] * 4, [0.1, 0.2, 0.3, 0.4]], np.float32)
    expected = [[0.0] * 4, (targets[1] - found.means[2]) / found.stds[2]]
    np.testing.assert_allclose(normalised(labels, targets, found), expected, rtol=1e-5)


def test_a_class_whose_examples_agree_does_not_divide_by_nothing():
    record = FrameRecord("a", size=(80, 100), boxes=np.array([[10, 10, 40, 40]], np.float32), classes=("cow",))
    found = target_statistics([roi_image(record, CLASSES)], 4, CONFIG)
    assert found.counts.tolist() == [0, 0, 0, 1] and (found.stds[3] == 1e-6).all()
    assert np.isfinite(normalised(np.array([3]), np.zeros((1, 4), np.float32), found)).all()


def test_crowds_and_images_without_objects_teach_nothing():
    boxes, crowd = np.array([[10, 10, 40, 40]], np.float32), np.array([True])
    record = FrameRecord("a", size=(80, 100), boxes=boxes, classes=("cow",), crowd=crowd)
    labels, targets = raw_targets(roi_image(record, CLASSES, boxes + 1), CONFIG)
    assert not labels.any() and not targets.any()
    empty = FrameRecord("a", size=(80, 100), boxes=boxes[:0], classes=())
    assert not raw_targets(roi_image(empty, CLASSES, boxes), CONFIG)[0].any()


@pytest.mark.parametrize("parity", [False, True])
def test_boxes_without_extent(parity):
    boxes = np.array([[10, 10, 40, 40], [5, 5, 5, 9]], np.float32)
    record = FrameRecord("a", size=(80, 100), boxes=boxes, classes=("cow", "cat"))
    image = roi_image(record, CLASSES, np.array([[5, 5, 5, 8]], np.float32), parity)
    _, targets = raw_targets(image, CONFIG)
    assert len(image.boxes) == (3 if parity else 1) and np.isfinite(targets).all()
