"""AP^r against loops that follow the branch's, and what is done by default."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError
from caffe_compat.segmentation.average import RegionAverage, region_table, region_text

CLASSES = ("bed", "chair", "lamp")


def drawn(seed: int, images: int = 12) -> list[tuple[FrameRecord, list[np.ndarray], np.ndarray]]:
    """Images with objects of the first two classes, some with none, some without detections."""
    rng = np.random.default_rng(seed)
    result = []
    for number in range(images):
        objects = int(rng.integers(0, 5))
        names = tuple(CLASSES[k] for k in rng.integers(0, 2, objects))
        record = FrameRecord(f"i{number}", boxes=np.zeros((objects, 4), np.float32), classes=names)
        found = [np.zeros((int(rng.integers(0, 6)), 5), np.float32) for _ in CLASSES]
        for rows in found:
            rows[:, 4] = rng.permutation(1000)[: len(rows)] * 100 + number  # no two are equal
        overlaps = rng.random((sum(map(len, found)), objects))
        result.append((record, found, overlaps))
    return result


def slow_curve(images, category: int, threshold: float) -> tuple[list[bool], list[float], int]:
    """Labels and scores of one class's regions, image by image, each image's best first; and objects."""
    labels, scores, objects = [], [], 0
    for record, found, overlaps in images:
        start = sum(len(rows) for rows in found[:category])
        own = [k for k, name in enumerate(record.classes) if name == CLASSES[category]]
        objects += len(own)
        covered = set()
        for row in sorted(range(len(found[category])), key=lambda row: -found[category][row, 4]):
            best = max(own, key=lambda k: overlaps[start + row, k], default=None)
            right = best is not None and overlaps[start + row, best] >= threshold and best not in covered
            covered |= {best} if right else set()
            labels.append(right)
            scores.append(float(found[category][row, 4]))
    return labels, scores, objects


def slow_average(images, category: int, threshold: float) -> float:
    labels, scores, objects = slow_curve(images, category, threshold)
    labels = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
    points = [(sum(labels[: k + 1]) / objects, sum(labels[: k + 1]) / (k + 1)) for k in range(len(labels))]
    total = last = 0.0
    for k, (recall, _) in enumerate(points):
        total += (recall - last) * max(precision for _, precision in points[k:])
        last = recall
    return total


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_loops(seed):
    images = drawn(seed)
    evaluator = RegionAverage(CLASSES)
    for image in drawn(seed + 10):
        evaluator.process(*image)
    evaluator.reset()
    for image in images:
        evaluator.process(*image)
    results = evaluator.evaluate()
    assert list(results) == [0.5, 0.7]
    for threshold, found in results.items():
        wanted = [slow_average(images, category, threshold) for category in range(2)]
        np.testing.assert_allclose(found.ap[:2], wanted, rtol=1e-12)
        assert np.isnan(found.ap[2]) and found.mean == pytest.approx(np.mean(wanted)) and 0 < found.mean < 1
    assert results[0.5].mean > results[0.7].mean


def test_the_branch_has_no_difficult_objects_and_its_mean_fails_without_objects():
    images = drawn(1)
    record = images[0][0]
    images[0] = (FrameRecord("i0", boxes=record.boxes, classes=record.classes, difficult=np.ones(len(record.boxes), bool)), *images[0][1:])  # fmt: skip  # noqa: E501
    assert len(record.boxes)
    both = [RegionAverage(CLASSES, parity=parity) for parity in (True, False)]
    for evaluator in both:
        for image in images:
            evaluator.process(*image)
    theirs, ours = (evaluator.evaluate()[0.5] for evaluator in both)
    assert np.isnan(theirs.mean) and np.isnan(theirs.ap[2]) and not np.isnan(ours.mean)
    assert theirs.ground_truth.sum() - ours.ground_truth.sum() == len(record.boxes)
    np.testing.assert_allclose(theirs.ap[:2], [slow_average(images, k, 0.5) for k in range(2)], rtol=1e-12)


def test_texts():
    evaluator = RegionAverage(CLASSES)
    found = [np.array([[0, 0, 1, 1, 0.5]], np.float32), *[np.zeros((0, 5), np.float32)] * 2]
    record = FrameRecord("a", boxes=np.zeros((1, 4), np.float32), classes=("bed",))
    evaluator.process(record, found, np.array([[0.6]]))
    text = region_text(evaluator.evaluate())
    assert text.splitlines()[0] == "                 bed : 100.000000,   0.000000"
    assert text.splitlines()[-1] == "                mean : 100.000000,   0.000000"
    lines = region_table(evaluator.evaluate()).splitlines()
    assert lines[0].split() == ["class", "objects", "regions", "AP^r", "0.5", "AP^r", "0.7"]
    assert lines[1].split() == ["bed", "1", "1", "100.00", "0.00"]
    assert lines[-1] == "without an object, so not in the mean: chair, lamp"


def test_what_cannot_be_evaluated_is_refused():
    evaluator = RegionAverage(CLASSES)
    record, found, overlaps = next(image for image in drawn(2) if len(image[0].boxes) and image[2].size)
    for wrong, words in ((overlaps[1:], "overlaps of shape"), (overlaps * np.nan, "not from 0 to 1")):
        with pytest.raises(DataError, match=f"image {record.name}: .*{words}"):
            evaluator.process(record, found, wrong)
    evaluator.process(record, found, overlaps)
    with pytest.raises(DataError, match="was evaluated before"):
        evaluator.process(record, found, overlaps)
    with pytest.raises(UsageError, match="threshold of the overlap 0"):
        RegionAverage(CLASSES, [0.0])
