"""What a hypercolumn net is fed: in training, and about detections."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from one_layer import one_net

from caffe_compat.batches.slots import can_share
from caffe_compat.config import Config, SdsConfig
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.layers.data import HypercolumnSettings
from caffe_compat.segmentation.blobs import box_blobs, image_blob, usable_boxes
from caffe_compat.segmentation.sampling import BoxSampler, box_batches, pool_boxes

CONFIG = Config(sds=SdsConfig(max_size=100))
SETTINGS = HypercolumnSettings("drawn", 0.7, 5, 3, 60)
BOXES = np.array([[4, 6, 25, 30], [30, 10, 55, 40], [10, 35, 30, 39]], np.float32)


def database(folder, **changes) -> ImageDatabase:
    """Two images of one bed and two chairs; a lamp is nowhere."""
    rng = np.random.default_rng(2)
    records = []
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 255, (50, 70, 3), np.uint8))
        masks = np.zeros((3, 50, 70), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, BOXES.astype(int), strict=True):
            mask[y1 : (y1 + y2) // 2, x1 : x2 + 1] = True
        facts = {"boxes": BOXES, "classes": ("bed", "chair", "chair"), "masks": lambda masks=masks: masks, **changes}
        records.append(FrameRecord(name, {"images": str(folder / f"{name}.png")}, size=(50, 70), **facts))
    return ImageDatabase("drawn", ("bed", "chair", "lamp"), ("images",), records)


def proposals(record: FrameRecord) -> np.ndarray:
    near = np.repeat(BOXES, 4, 0) + np.random.default_rng(1).integers(-1, 2, (12, 4))
    return np.vstack((near, [[0, 0, 69, 49], [5, 5, 5, 9]])).astype(np.float32)


def test_batches_are_a_function_of_the_seed_and_skip_classes_without_boxes(tmp_path):
    batches = box_batches(database(tmp_path), SETTINGS, CONFIG, proposals)
    assert (batches.num_classes, batches.num_images) == (3, 1)
    drawn = [batches.sampler.batch(number) for number in range(200)]
    assert {draw.category for draw in drawn} == {0, 1} and {draw.image for draw in drawn} == {0, 1}
    again = box_batches(database(tmp_path), SETTINGS, CONFIG, proposals)
    for number in (7, 199, 3, 150):
        assert (again.sampler.batch(number).boxes == drawn[number].boxes).all()
    for draw in drawn:
        assert draw.boxes.shape == (5, 4) and set(draw.objects.tolist()) <= ({0} if draw.category == 0 else {1, 2})
    with pytest.raises(DataError, match="drawn: no box shows an object of classes 2"):
        box_batches(database(tmp_path), SETTINGS, Config(sds=CONFIG.sds, parity=True), proposals)


def test_blobs_of_a_batch(tmp_path):
    batches = box_batches(database(tmp_path), SETTINGS, CONFIG, proposals)
    draw = batches.sampler.batch(4)
    image, boxes, cells, classes, labels, weights = batches.read(4)
    assert image.shape == (1, 3, 60, 84) and all(blob.dtype == np.float32 for blob in batches.read(4))
    assert (classes == draw.category).all() and (boxes[:, 1, 0, 0] == draw.category).all()
    low, high = (draw.boxes[:, 0] - 0.5) / 69, (draw.boxes[:, 3] + 0.5) / 49
    np.testing.assert_allclose(boxes[:, 2, 0, 0], low, rtol=1e-6)
    np.testing.assert_allclose(boxes[:, 5, 0, 0], high, rtol=1e-6)
    np.testing.assert_allclose(cells[:, 1:, 0, 0], np.round(draw.boxes * 1.2 / 16))
    masks = batches.imdb.records[draw.image].masks()
    for k, (x1, y1, x2, y2) in enumerate(draw.boxes):
        for row, column in ((0, 0), (49, 49), (24, 10), (13, 40)):
            at = round(y1 + row / 49 * (y2 - y1)), round(x1 + column / 49 * (x2 - x1))
            assert labels[k, 0, row, column] == masks[draw.objects[k]][at]
    sides = draw.boxes[:, 2:] - draw.boxes[:, :2] + 1
    np.testing.assert_allclose(weights.ravel(), sides.prod(1) / 224**2, rtol=1e-6)


def test_crowds_teach_nothing_and_boxes_without_extent_are_not_drawn(tmp_path):
    flat = np.array([[5, 5, 5, 9], *BOXES[1:].tolist()], np.float32)
    crowd = np.array([False, False, True])
    batches = box_batches(database(tmp_path, boxes=flat, crowd=crowd), SETTINGS, CONFIG, proposals)
    drawn = [batches.sampler.batch(number) for number in range(100)]
    assert {draw.category for draw in drawn} == {1} and {int(k) for draw in drawn for k in draw.objects} == {1}


def test_masks_that_do_not_serve_are_named(tmp_path):
    for masks, words in (
        (None, "masks of 2 images cannot be used: image a: the pixels of its objects are not known.*image b"),
        (lambda: np.zeros((3, 50, 70), bool), r"image a: object 1 \(bed\) has no pixels"),
        (lambda: np.ones((2, 50, 70), bool), r"image a: masks are bool of shape \(2, 50, 70\), expected"),
    ):
        with pytest.raises(DataError, match=f"drawn: .*{words}"):
            box_batches(database(tmp_path, masks=masks), SETTINGS, CONFIG, proposals)
    with pytest.raises(DataError, match="none at all|no box shows an object of classes 0, 1, 2"):
        BoxSampler(pool_boxes([], 3, 0.7), 5, 3)


def test_detections_are_asked_about_as_they_are():
    boxes = np.array([[0, 3, 80, 20], [5.5, 6, 9, 49]])
    assert usable_boxes(boxes, (50, 70)).tolist() == [[0, 3, 69, 20], [5.5, 6, 9, 49]]
    assert usable_boxes(boxes, (50, 70), parity=True).tolist() == [[0, 2, 69, 19], [4.5, 5, 8, 48]]
    none = box_blobs(usable_boxes(np.zeros((0, 4)), (50, 70)), np.zeros(0), (50, 70), (60, 84), CONFIG)
    assert none.sppboxes.shape == (0, 5, 1, 1) and none.normalizedboxes.shape == (0, 6, 1, 1)
    one = box_blobs(boxes[:1], np.array([18]), (50, 70), (60, 84), CONFIG)
    assert one.categids.shape == (1, 1, 1, 1) and one.categids.item() == 18
    with pytest.raises(DataError, match="image of 1 x 5 pixels: expected 2 or more"):
        box_blobs(boxes, np.zeros(2), (5, 1), (60, 12), CONFIG)
    with pytest.raises(DataError, match="2 boxes with 1 classes"):
        box_blobs(boxes, np.zeros(1), (50, 70), (60, 84), CONFIG)


def test_the_mean_comes_off_after_scaling_and_the_long_side_wins():
    image = np.full((20, 40, 3), 200, np.uint8)
    blob = image_blob(image, CONFIG, 60)
    assert blob.shape == (1, 3, 50, 100)
    np.testing.assert_allclose(blob[0, :, 10, 10], 200 - np.array(CONFIG.pixel_means), rtol=1e-6)
    assert image_blob(image, CONFIG).shape == (1, 3, 50, 100) and Config().sds.target_size == 688


@pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")
def test_worker_processes_make_the_same_batches(tmp_path):
    """They decode and scale the pictures; boxes and masks come from the parent."""
    source = box_batches(database(tmp_path), SETTINGS, CONFIG, proposals)
    tops = ("image", "normalizedboxes", "sppboxes", "categids", "labels", "instance_wts")
    flags = "param_str: '--num_classes 3 --train_samples_per_img 5 --max_size 60'"
    body = f"python_param {{ module: 'lib.sds.hypercolumn_data_layer' layer: 'HypercolumnDataLayer' {flags} }}"
    layer = one_net("Python", body, [], tops, "TRAIN").layer("under_test")
    layer.feed(source, ahead=1)
    layer.workers = 1
    for number in range(3):
        assert all(np.array_equal(top, other) for top, other in zip(layer(), source.read(number), strict=True))
    assert layer.worker_pids
