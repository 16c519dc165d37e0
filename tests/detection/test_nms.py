"""Suppression against loops that do what the compiled version of fast-rcnn does."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.detection import nms as module
from caffe_compat.detection.nms import apply_nms, nms
from caffe_compat.evaluation.detections import Detections


def slow_nms(dets: np.ndarray, threshold: float) -> list[int]:
    """``cython_nms.pyx``, line by line, with a stable order."""
    one = np.float32(1)
    order = sorted(range(len(dets)), key=lambda row: -dets[row, 4])
    areas = [(x2 - x1 + one) * (y2 - y1 + one) for x1, y1, x2, y2, _ in dets]
    suppressed, keep = set(), []
    for place, i in enumerate(order):
        if i in suppressed:
            continue
        keep.append(i)
        for j in order[place + 1 :]:
            width = max(np.float32(0), min(dets[i, 2], dets[j, 2]) - max(dets[i, 0], dets[j, 0]) + one)
            height = max(np.float32(0), min(dets[i, 3], dets[j, 3]) - max(dets[i, 1], dets[j, 1]) + one)
            if float(width * height / (areas[i] + areas[j] - width * height)) >= threshold:
                suppressed.add(j)
    return keep


def some_boxes(rng: np.random.Generator, count: int, whole: bool) -> np.ndarray:
    corners = rng.uniform(0, 90, (count, 2))
    boxes = np.hstack((corners, corners + rng.uniform(0, 40, (count, 2))))
    scores = rng.uniform(size=(count, 1))
    if whole:
        boxes, scores = boxes.round(), scores.round(1)
    return np.hstack((boxes, scores)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("whole", [False, True])
def test_as_the_loops_do(whole, threshold, monkeypatch):
    rng = np.random.default_rng(7)
    for block in (3, 256):
        monkeypatch.setattr(module, "_BLOCK", block)
        for count in (0, 1, 2, 17, 80):
            dets = some_boxes(rng, count, whole)
            assert nms(dets, threshold).tolist() == slow_nms(dets, threshold)


@pytest.mark.parametrize("height", [3, 5, 7])
def test_the_threshold_itself_suppresses(height):
    """Overlaps of 3/10, 5/10 and 7/10, as float32 gives them: 0.7 is less in float32 than in float64."""
    dets = np.array([[0, 0, 0, 9, 0.9], [0, 0, 0, height - 1, 0.8]], np.float32)
    left = nms(dets, height / 10)
    assert left.tolist() == ([0] if float(np.float32(height) / np.float32(10)) >= height / 10 else [0, 1])


def test_equal_scores():
    dets = np.array([[0, 0, 9, 9, 0.5], [1, 0, 10, 9, 0.5], [50, 50, 60, 60, 0.5]], np.float32)
    assert nms(dets, 0.3).tolist() == [0, 2]
    assert nms(dets, 0.3, parity=True).tolist() == [2, 1]


def test_thousands_of_boxes():
    dets = some_boxes(np.random.default_rng(3), 3000, False)
    kept = nms(dets, 0.3)
    assert kept.tolist() == nms(dets[:, [1, 0, 3, 2, 4]], 0.3).tolist()
    assert (np.diff(dets[kept, 4]) <= 0).all()


def test_a_whole_set():
    rng = np.random.default_rng(0)
    boxes = [[some_boxes(rng, count, True) for count in (4, 0, 30)] for _ in range(2)]
    kept = apply_nms(Detections(("bed", "sofa"), ("a", "b", "c"), boxes), 0.3)
    assert (kept.classes, kept.images) == (("bed", "sofa"), ("a", "b", "c"))
    for row, left in zip(boxes, kept.boxes, strict=True):
        for found, less in zip(row, left, strict=True):
            np.testing.assert_array_equal(less, found[slow_nms(found, 0.3)])


def test_so_many_of_all_classes():
    rng = np.random.default_rng(0)
    boxes = [[some_boxes(rng, count, False) for count in (4, 0, 30)] for _ in range(2)]
    detections = Detections(("bed", "sofa"), ("a", "b", "c"), boxes)
    every, kept = apply_nms(detections, 0.9), apply_nms(detections, 0.9, most=5)
    for image in range(3):
        best = np.sort(np.concatenate([row[image][:, 4] for row in every.boxes]))[::-1]
        for whole, left in zip(every.boxes, kept.boxes, strict=True):
            expected = whole[image] if len(best) <= 5 else whole[image][whole[image][:, 4] >= best[4]]
            np.testing.assert_array_equal(left[image], expected)
    assert sum(len(row[2]) for row in kept.boxes) < sum(len(row[2]) for row in every.boxes)


@pytest.mark.parametrize(("side", "threshold"), [(1, 0.3), (5, 0.3), (8, 0.7), (8, 1e-6), (8, 0.0), (3, 0.1)])
def test_scattered_boxes_are_what_all_pairs_give(side, threshold):
    """Pairs that are picked by a grid give what all pairs give, wherever the boxes are and however large one is."""
    random = np.random.default_rng(side)
    start = random.uniform(-500, 800 * side, (1500, 2))
    scores = random.integers(0, 50, (1500, 1)) / 50
    boxes = np.concatenate([start, start + random.uniform(-1, 150, (1500, 2)), scores], 1)
    for large in (False, True):
        boxes[7, 2] += 4000 * large
        assert nms(boxes, threshold).tolist() == by_rows(boxes, threshold)


def by_rows(dets: np.ndarray, threshold: float) -> list[int]:
    values = dets.astype(np.float32)
    order, kept = np.argsort(-values[:, 4], kind="stable"), []
    corners, gone = values[:, :4], np.zeros(len(values), bool)
    areas = (corners[:, 2] - corners[:, 0] + 1) * (corners[:, 3] - corners[:, 1] + 1)
    for row in order:
        if gone[row]:
            continue
        kept.append(int(row))
        least, most = np.maximum(corners[row, :2], corners[:, :2]), np.minimum(corners[row, 2:], corners[:, 2:])
        width, height = np.maximum(most - least + 1, 0).T
        with np.errstate(divide="ignore", invalid="ignore"):
            gone |= width * height / (areas[row] + areas - width * height) >= np.float64(threshold)
    return kept


def test_the_pairs_that_are_looked_at_follow_the_boxes(monkeypatch):
    """Of boxes that are as close to each other however many they are."""
    looked = []
    original = module._overlap_of
    monkeypatch.setattr(
        module, "_overlap_of", lambda one, two, areas: looked.append(areas.size) or original(one, two, areas)
    )
    for count in (2000, 8000):
        looked.append(0)
        start = np.random.default_rng(0).uniform(0, 1, (count, 2)) * 100 * count**0.5
        boxes = np.concatenate([start, start + 60, np.random.default_rng(1).uniform(0, 1, (count, 1))], 1)
        nms(boxes, 0.3)
    ends = [index for index, size in enumerate(looked) if size == 0]
    few, many = sum(looked[: ends[1]]), sum(looked[ends[1] :])
    assert many < 4.5 * few


def test_boxes_that_are_no_numbers_are_compared_with_all():
    random = np.random.default_rng(0)
    start = random.uniform(0, 5000, (1200, 2))
    boxes = np.concatenate([start, start + 60, random.uniform(0, 1, (1200, 1))], 1)
    boxes[5, 0], boxes[9, 2] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        kept = nms(boxes, 0.3).tolist()
    assert {5, 9} & set(kept)
