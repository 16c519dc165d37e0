"""COCO's rule with overlaps of masks, and masks over pictures."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.media.drawing import class_color
from caffe_compat.segmentation.coco import CocoMaskAverage
from caffe_compat.segmentation.pictures import draw_masks

SIZE = (60, 80)


def block(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def box(mask: np.ndarray) -> list[int]:
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max(), y.max()]


def test_masks_count_and_not_boxes():
    """The mask of the surest bed has the object's box, but half of its pixels: right up to 0.5 only."""
    beds = np.stack([block(0, 0, 40, 40), block(50, 0, 70, 40)])
    record = FrameRecord(
        "a",
        size=SIZE,
        boxes=np.array([box(mask) for mask in beds], np.float32),
        classes=("bed", "bed"),
        masks=lambda: beds,
    )
    half = beds[0] & (np.indices(SIZE).sum(0) % 2 == 0)
    masks = np.stack([beds[1], half, block(0, 50, 10, 60)])  # the last is a chair
    scores = [0.4, 0.9, 0.7]
    rows = np.array([[*box(mask), score] for mask, score in zip(masks, scores, strict=True)], np.float32)
    evaluator = CocoMaskAverage(["bed", "chair"])
    evaluator.process(record, [rows[:2], rows[2:]], masks)
    found = evaluator.evaluate()
    # at 0.5 both are right; at the nine others the surest is wrong: half of the recall at half of the precision
    assert found.ap[0] == pytest.approx((1 + 9 * 0.5 * 51 / 101) / 10, abs=2e-3) and np.isnan(found.ap[1])
    assert found.ground_truth.tolist() == [2, 0] and found.detections.tolist() == [2, 1]
    with pytest.raises(DataError, match="image b: masks of detections are none, expected bool 1 x H x W"):
        evaluator.process(FrameRecord("b", boxes=record.boxes, classes=record.classes, masks=record.masks), [rows[:1], rows[:0]])  # fmt: skip  # noqa: E501
    with pytest.raises(DataError, match=r"bool of shape \(2, 60, 80\), expected bool 1 x H x W"):
        evaluator.process(record, [rows[:1], rows[:0]], masks[:2])


def test_an_image_without_objects_or_without_detections():
    evaluator = CocoMaskAverage(["bed"], 0.5)
    none, nothing = np.zeros((0, 5), np.float32), np.zeros((0, *SIZE), bool)
    bed = block(0, 0, 40, 40)[None]
    facts = {"size": SIZE, "boxes": np.array([box(bed[0])], np.float32), "classes": ("bed",)}
    row = np.array([[*box(bed[0]), 0.3]], np.float32)
    evaluator.process(FrameRecord("a", masks=lambda: bed, **facts), [none], nothing)
    evaluator.process(FrameRecord("b", masks=lambda: bed, **facts), [row], bed)
    empty = FrameRecord("c", size=SIZE, boxes=np.zeros((0, 4), np.float32), classes=(), masks=lambda: nothing)
    evaluator.process(empty, [none], nothing)
    assert evaluator.evaluate().ap[0] == pytest.approx(51 / 101)


def test_pictures_of_masks():
    picture = np.full((*SIZE, 3), 100, np.uint8)
    masks = np.stack([block(10, 10, 30, 30), block(20, 20, 50, 50)])
    drawn = draw_masks(picture, masks, ["bed", "chair"], [0.9, 0.2])
    bed, chair = (np.array(class_color(name)) for name in ("bed", "chair"))
    assert (picture == 100).all() and (drawn[~masks.any(0)] == 100).all()
    assert np.abs(drawn[15, 15] - (100 + bed) / 2).max() <= 1 and np.abs(drawn[40, 40] - (100 + chair) / 2).max() <= 1
    assert (drawn[10, 15] == bed).all() and (drawn[49, 40] == chair).all()
    assert (drawn[29, 25] == bed).all(), "the surest is drawn over the others"
    boxes = np.array([[10, 10, 29, 29], [20, 20, 49, 49]])
    assert draw_masks(picture, masks, ["bed", "chair"], [0.9, 0.2], boxes).shape == (360, 480, 3)
    assert (draw_masks(picture, masks[:0], []) == picture).all()
    with pytest.raises(DataError, match="for 1 labels"):
        draw_masks(picture, masks, ["bed"])
