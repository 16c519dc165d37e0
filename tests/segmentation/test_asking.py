"""Detections as a question, and from what a net would say best to AP^r."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.config import Config, SdsConfig
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.segmentation.asking import ask_masks, regions_of
from caffe_compat.segmentation.average import RegionAverage
from caffe_compat.segmentation.blobs import grid_labels
from caffe_compat.segmentation.regions import Superpixels, mask_counts, region_overlaps

SIZE = (60, 80)
CONFIG = Config(sds=SdsConfig(target_size=90, max_size=200))
NONE = np.zeros((0, 5), np.float32)


def test_the_true_masks_find_every_object_and_their_boxes_do_not():
    y, x = np.indices(SIZE)
    masks = np.stack([(x - 20) ** 2 + (y - 20) ** 2 < 200, abs(x - 55) + abs(y - 35) < 20])
    boxes = np.array([[6, 6, 34, 34], [36, 16, 74, 54]], np.float32)
    record = FrameRecord("a", size=SIZE, boxes=boxes, classes=("ball", "kite"), masks=lambda: masks)
    superpixels = Superpixels((y // 4) * 20 + x // 4 + 1)
    detections = [np.hstack((boxes[k : k + 1], [[0.9 - k]])).astype(np.float32) for k in range(2)]
    question = ask_masks([np.zeros((*SIZE, 3), np.uint8)] * 2, detections, CONFIG)
    assert len(question) == 2 and [image.shape for image in question.images] == [(1, 3, 90, 120)] * 2
    assert question.blobs.categids.ravel().tolist() == [0, 1] and (question.boxes == boxes).all()
    found = []
    for answer in (grid_labels(masks, np.arange(2), boxes, 50), np.ones((2, 1, 50, 50))):
        regions = regions_of(question, answer, superpixels)
        evaluator = RegionAverage(["ball", "kite"])
        evaluator.process(record, detections, region_overlaps(regions, mask_counts(masks, superpixels), superpixels))
        found.append([result.mean for result in evaluator.evaluate().values()])
    assert found[0] == [1, 1] and found[1][1] < 1


def test_parity_asks_one_pixel_up_and_left():
    image, row = np.zeros((*SIZE, 3), np.uint8), np.array([[0, 10, 30, 50, 1]], np.float32)
    ours, theirs = (ask_masks([image], [NONE, row], Config(sds=CONFIG.sds, parity=on)) for on in (False, True))
    shift = (ours.blobs.normalizedboxes - theirs.blobs.normalizedboxes).ravel()
    np.testing.assert_allclose(shift, [0, 0, 0, 1 / 59, 1 / 79, 1 / 59], atol=1e-6)
    assert (ours.boxes == theirs.boxes).all(), "pasted where it was detected"


def test_nothing_to_ask_and_what_cannot_be_asked():
    image = np.zeros((*SIZE, 3), np.uint8)
    question = ask_masks([image], [NONE, NONE], CONFIG)
    superpixels = Superpixels(np.ones(SIZE, int))
    assert len(question) == 0 and regions_of(question, np.zeros((0, 1, 50, 50)), superpixels).shape == (0, 1)
    with pytest.raises(DataError, match="expected one or more of one size"):
        ask_masks([image, image[1:]], [NONE], CONFIG)
    with pytest.raises(DataError, match="not finite"):
        ask_masks([image], [np.full((1, 5), np.nan, np.float32)], CONFIG)
    with pytest.raises(DataError, match="for 0 boxes"):
        regions_of(question, np.zeros((1, 1, 50, 50)), superpixels)
