import dataclasses

import numpy as np
import pytest

from caffe_compat.config import load_config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.roidb import build_roidb, roi_image
from caffe_compat.errors import DataError
from caffe_compat.evaluation.overlaps import box_overlaps

CLASSES = ("cat", "dog", "cow")
RECORD = FrameRecord(
    "a", size=(40, 60), boxes=np.array([[0, 0, 9, 9], [20, 10, 39, 29]], np.float32), classes=("dog", "cat")
)
PROPOSALS = np.array([[0, 0, 9, 4], [20, 10, 39, 29], [50, 30, 59, 39], [5, 5, 5, 20]], np.float32)


def database(*records: FrameRecord, proposals=lambda record: PROPOSALS) -> ImageDatabase:
    return ImageDatabase("db", CLASSES, ("images",), records, proposals)


def test_regions_of_an_image():
    image = roi_image(RECORD, CLASSES, PROPOSALS)
    assert image.boxes.tolist() == [*RECORD.boxes.tolist(), *PROPOSALS[:3].tolist()]  # the last one has no width
    assert image.gt_classes.tolist() == [2, 1, 0, 0, 0]
    assert image.max_overlaps.tolist() == [1, 1, 0.5, 1, 0]
    assert image.max_classes.tolist() == [2, 1, 2, 1, 0]
    kept = roi_image(RECORD, CLASSES, PROPOSALS, parity=True)
    assert len(kept.boxes) == 6 and kept.max_overlaps[5] == np.float32(5 / 111)
    for values, kind in ((image.boxes, "f4"), (image.gt_classes, "i4"), (image.max_overlaps, "f4")):
        assert values.dtype == kind


def test_mirror_images_follow_and_are_made_when_asked_for():
    db = build_roidb(database(RECORD, dataclasses.replace(RECORD, name="b")), load_config())
    assert len(db) == 4 and [image.flipped for image in db] == [False, False, True, True]
    assert [image.record.name for image in db] == ["a", "b", "a", "b"]
    assert db[2].boxes[0].tolist() == [50, 0, 59, 9] and db[2].max_overlaps is db[0].max_overlaps
    assert db[-1].flipped and [image.flipped for image in db[1:3]] == [False, True]
    with pytest.raises(IndexError):
        db[4]
    assert len(build_roidb(database(RECORD), load_config(None, ["TRAIN.USE_FLIPPED", "False"]))) == 1


def test_memory_is_that_of_the_proposals():
    """A region takes 28 bytes, seen in a mirror or not; the mirror images hold nothing of their own."""
    many = np.tile(PROPOSALS[:2], (1000, 1))
    db = build_roidb(database(RECORD, dataclasses.replace(RECORD, name="b"), proposals=lambda r: many), load_config())
    arrays = [value for image in db.images for value in vars(image).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 28 * 2 * (2000 + 2)
    assert all(array.base is None for array in arrays), "each is its own, not a part of something larger"
    assert not [value for value in vars(db).values() if isinstance(value, list)] and len(db) == 4


def test_top_k():
    db = build_roidb(database(RECORD), load_config(None, ["TRAIN.PROPOSAL_TOP_K", "1"]))
    assert db[0].boxes.tolist() == [*RECORD.boxes.tolist(), PROPOSALS[0].tolist()]


def test_no_objects():
    record = dataclasses.replace(RECORD, boxes=np.zeros((0, 4), np.float32), classes=())
    image = roi_image(record, CLASSES, PROPOSALS)
    assert image.max_overlaps.tolist() == [0, 0, 0] and image.gt_classes.tolist() == [0, 0, 0]
    assert len(roi_image(record, CLASSES).boxes) == 0


def test_crowds_and_what_lies_in_them_are_nothing():
    record = dataclasses.replace(RECORD, crowd=np.array([False, True]))
    inside, half = [22, 12, 30, 20], [11, 10, 30, 29]
    image = roi_image(record, CLASSES, np.array([inside, half], np.float32))
    assert image.max_overlaps.tolist() == [1, -1, -1, 0] and image.max_classes.tolist() == [2, 0, 0, 0]
    assert image.gt_classes.tolist() == [2, 1, 0, 0]


def test_best_overlap_is_that_of_a_slow_search():
    random = np.random.RandomState(1)
    corners = random.randint(0, (60, 40), (80, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)
    record = FrameRecord("a", size=(41, 61), boxes=boxes[:9], classes=tuple(CLASSES[k % 3] for k in range(9)))
    image = roi_image(record, CLASSES, boxes[9:])
    for row, box in enumerate(boxes[9:], start=9):
        best, label = 0.0, 0
        for number, gt in enumerate(boxes[:9]):
            value = box_overlaps(box[None], gt[None])[0, 0]
            if value > best:
                best, label = value, number % 3 + 1
        assert image.max_overlaps[row] == np.float32(best) and image.max_classes[row] == label


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ("dog", "kat")}, "image a: object 2 is of the unknown class 'kat' (did you mean 'cat'?)"),
        ({"classes": ("dog",)}, "image a: has 2 boxes of objects and 1 classes"),
        ({"size": (40, 39)}, "object 2 is x1 y1 x2 y2 = [20.0, 10.0, 39.0, 29.0], expected a box within its 39 x 40"),
        ({"boxes": np.array([[0, 0, 9, 9], [5, 5, 4, 9]])}, "image a: object 2 is"),
        ({"boxes": np.array([[np.nan, 0, 9, 9], [5, 5, 6, 9]])}, "image a: object 1 is"),
        ({"boxes": np.zeros((2, 3))}, "objects have the shape (2, 3), expected N x 4"),
        ({"boxes": None, "classes": None}, "db: the objects of image a are not known"),
    ],
)
def test_bad_ground_truth(change, words):
    with pytest.raises(DataError) as caught:
        build_roidb(database(dataclasses.replace(RECORD, **change)), load_config())
    assert words in str(caught.value)


def test_bad_databases():
    with pytest.raises(DataError, match="db: has no images"):
        build_roidb(database(), load_config())
    with pytest.raises(DataError, match="db: has no proposals of its own"):
        build_roidb(database(RECORD, proposals=None), load_config())
    with pytest.raises(DataError, match="image a: proposal 1 is .* expected a box within its 60 x 40 pixels"):
        build_roidb(database(RECORD, proposals=lambda record: np.array([[0, 0, 60, 9]], np.float32)), load_config())
