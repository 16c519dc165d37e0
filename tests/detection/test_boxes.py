import math

import numpy as np
import pytest

from caffe_compat.detection.boxes import bbox_transform, bbox_transform_inv, clip_boxes, flip_boxes
from caffe_compat.evaluation.overlaps import box_overlaps

RANDOM = np.random.RandomState(0)


def some_boxes(count: int, width: int = 60, height: int = 40) -> np.ndarray:
    corners = RANDOM.randint(0, (width, height), (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)


def slow_overlap(a, b) -> float:
    """Pixels counted one by one."""
    first = {(x, y) for x in range(int(a[0]), int(a[2]) + 1) for y in range(int(a[1]), int(a[3]) + 1)}
    second = {(x, y) for x in range(int(b[0]), int(b[2]) + 1) for y in range(int(b[1]), int(b[3]) + 1)}
    return len(first & second) / len(first | second)


def test_overlaps_count_pixels():
    boxes, gt = some_boxes(12), some_boxes(7)
    expected = [[slow_overlap(box, other) for other in gt] for box in boxes]
    np.testing.assert_allclose(box_overlaps(boxes, gt), expected, rtol=1e-14)
    assert box_overlaps(boxes, gt[:0]).shape == (12, 0) and box_overlaps(boxes[:0], gt).shape == (0, 7)
    assert box_overlaps(boxes, boxes).diagonal().tolist() == [1.0] * 12


def test_targets_and_back():
    boxes = some_boxes(50)
    boxes[:, 2:] += 1
    gt = some_boxes(50)
    gt[:, 2:] += 1
    deltas = bbox_transform(boxes, gt)
    for box, other, row in zip(boxes.tolist(), gt.tolist(), deltas, strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        dx = ((other[0] + other[2]) / 2 - (box[0] + box[2]) / 2) / width
        dh = math.log((other[3] - other[1]) / height)
        assert row[0] == pytest.approx(dx, abs=1e-12) and row[3] == pytest.approx(dh, abs=1e-12)
    np.testing.assert_allclose(bbox_transform_inv(boxes, deltas), gt, atol=1e-9)
    both = bbox_transform_inv(boxes, np.concatenate([np.zeros_like(deltas), deltas], 1))
    np.testing.assert_allclose(both, np.concatenate([boxes, gt], 1), atol=1e-9)


def test_clip():
    boxes = np.array([[-5, -6, 200, 90], [120, 70, 130, 80]], np.float32)
    assert clip_boxes(boxes, (50, 100)).tolist() == [[0, 0, 99, 49], [99, 49, 99, 49]]
    assert clip_boxes(boxes, (50, 100), one_sided=True).tolist() == [[0, 0, 99, 49], [120, 70, 99, 49]]
    assert boxes[0, 0] == -5
    wide = np.tile(boxes, 3)
    assert clip_boxes(wide, (50, 100)).tolist() == np.tile(clip_boxes(boxes, (50, 100)), 3).tolist()


def test_flip_is_what_pixels_do():
    boxes = some_boxes(20)
    image = np.arange(60)
    for box, flipped in zip(boxes.astype(int), flip_boxes(boxes, 60).astype(int), strict=True):
        assert set(image[::-1][flipped[0] : flipped[2] + 1]) == set(image[box[0] : box[2] + 1])
    assert (flip_boxes(flip_boxes(boxes, 60), 60) == boxes).all()
