"""Recall of proposals, against the branch's way of computing it, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.datasets import FrameRecord
from caffe_compat.evaluation.recall import AREAS, best_overlaps, measure_recall


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [float((box[2] - box[0] + 1) * (box[3] - box[1] + 1)) for box in (a, b)]
    return float(width * height) / (sum(areas) - float(width * height))


def slow(boxes: np.ndarray, objects: np.ndarray) -> list[float]:
    """The best pair of all, then the best of those that are left, and so on."""
    free, left, found = list(range(len(boxes))), list(range(len(objects))), [0.0] * len(objects)
    while free and left:
        value, box, k = max((overlap(boxes[box], objects[k]), box, k) for box in free for k in left)
        found[k] = value
        free.remove(box)
        left.remove(k)
    return found


def some_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.integers(0, 40, (count, 2))
    return np.hstack([corners, corners + rng.integers(0, 30, (count, 2))]).astype(np.float32)


@pytest.mark.parametrize(("boxes", "objects"), [(30, 6), (3, 6), (0, 4), (5, 0), (1, 1)])
def test_each_object_has_a_proposal_of_its_own(boxes: int, objects: int) -> None:
    rng = np.random.default_rng(boxes)
    for _ in range(5):
        found, truth = some_boxes(rng, boxes), some_boxes(rng, objects)
        np.testing.assert_allclose(sorted(best_overlaps(found, truth)), sorted(slow(found, truth)), rtol=1e-12)


def test_one_proposal_covers_one_object() -> None:
    box = np.array([[0, 0, 9, 9]], np.float32)
    assert best_overlaps(box, np.repeat(box, 2, 0)).tolist() == [1, 0]


def test_recall_of_a_set() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 39, 39], [0, 0, 99, 99], [5, 5, 6, 6]], np.float32)
    flags = np.array([False, False, False, True])
    record = FrameRecord("a", size=(100, 100), boxes=boxes, classes=("x",) * 4, difficult=flags)
    proposals = np.array([[0, 0, 9, 9], [0, 0, 39, 29], [0, 0, 99, 59]], np.float32)  # overlaps 1, 0.75, 0.6
    unknown = FrameRecord("b", size=(100, 100))
    nothing = FrameRecord("c", size=(100, 100), boxes=boxes[:1], classes=("x",))
    sources = {"a": proposals, "b": proposals[:1], "c": proposals[:0]}
    found = measure_recall([record, unknown, nothing], lambda wanted: sources[wanted.name])
    assert found.counts.tolist() == [3, 1, 0]
    assert {area: values.tolist() for area, values in found.overlaps.items()} == {
        "all": [1, 0.75, 0.6, 0],
        "small": [1, 0],
        "medium": [0.75],
        "large": [0.6],
    }
    assert found.at(0.5) == 0.75 and found.at(0.7) == 0.5 and found.at(0.5, "large") == 1
    assert found.average("small") == 0.5
    assert found.average("large") == pytest.approx(0.2)  # at 0.5 and 0.55; 0.6 is just above 0.6
    only = measure_recall([record], lambda wanted: sources[wanted.name], limit=1)
    assert only.at(0.5) == pytest.approx(1 / 3)
    none = measure_recall([unknown], lambda wanted: sources[wanted.name])
    assert all(np.isnan(none.average(area)) for area in AREAS)


def test_crowds_do_not_count() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    record = FrameRecord("a", size=(10, 10), boxes=boxes, classes=("x",) * 2, crowd=np.array([True, False]))
    assert measure_recall([record], lambda _: boxes[:1]).overlaps["all"].tolist() == [1]
