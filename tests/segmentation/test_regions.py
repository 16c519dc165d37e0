"""Masks onto superpixels, and overlaps of regions, against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffe_compat.errors import DataError
from caffe_compat.segmentation.regions import (
    Superpixels,
    choose_regions,
    map_counts,
    mask_counts,
    paste_masks,
    region_masks,
    region_overlaps,
    superpixel_values,
)
from caffe_compat.segmentation.truth import instance_map

SIZE = (37, 53)


def labels_of(rng: np.random.Generator) -> np.ndarray:
    """Blocks with ragged edges, ids from 1, one of which is missing."""
    blocks = np.kron(rng.integers(1, 30, (10, 9)), np.ones((4, 6), int))[: SIZE[0], : SIZE[1]]
    noise = rng.random(SIZE) < 0.1
    return np.where(noise, 31, np.where(blocks == 7, 8, blocks))


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(-3, [SIZE[1] * 0.8, SIZE[0] * 0.8], (count, 2))
    return np.hstack((low, low + rng.uniform(0, 40, (count, 2))))


def slow_values(output: np.ndarray, boxes: np.ndarray, labels: np.ndarray, parity: bool) -> np.ndarray:
    """The branch's loops."""
    height, width = labels.shape
    side = output.shape[-1]
    sums = np.zeros((len(boxes), labels.max()))
    for k, box in enumerate(boxes):
        x1, y1, x2, y2 = (math.ceil(v) if parity else math.floor(v + 0.5) for v in box)
        x1, x2 = (min(max(v, 0), width - 1) for v in (x1, x2))
        y1, y2 = (min(max(v, 0), height - 1) for v in (y1, y2))
        for y in range(y1, y2 + 1):
            for x in range(x1, x2 + 1):
                row = min(math.floor((y - y1) * side / (y2 - y1 + 1)), side - 1)
                column = min(math.floor((x - x1) * side / (x2 - x1 + 1)), side - 1)
                sums[k, labels[y, x] - 1] += output[k, 0, row, column]
    areas = [max(1, int((labels == label + 1).sum())) for label in range(labels.max())]
    return sums / areas


@pytest.mark.parametrize("parity", [False, True])
def test_values_are_those_of_loops(parity):
    rng = np.random.default_rng(3)
    labels, boxes = labels_of(rng), boxes_of(rng, 12)
    boxes[0], boxes[1] = (4, 5, 4, 5), (0, 0, SIZE[1] - 1, SIZE[0] - 1)  # one pixel, all
    output = rng.random((12, 1, 50, 50)).astype(np.float32)
    superpixels = Superpixels(labels.astype(np.uint16))
    values = superpixel_values(output, boxes, superpixels, parity)
    np.testing.assert_allclose(values, slow_values(output, boxes, labels, parity), rtol=1e-12, atol=1e-15)
    assert superpixels.areas[6] == 0 and not values[:, 6].any()  # the missing id
    other = superpixel_values(output, boxes, superpixels, not parity)
    assert not np.allclose(values, other)
    one = superpixel_values(output[3:4], boxes[3:4], superpixels, parity)
    assert one.shape == (1, 31) and (one == values[3:4]).all()
    assert superpixel_values(output[:0], boxes[:0], superpixels).shape == (0, 31)


@pytest.mark.parametrize("parity", [False, True])
def test_pasted_pixels_are_those_of_loops(parity):
    """Every pixel a superpixel of its own."""
    rng = np.random.default_rng(5)
    boxes = boxes_of(rng, 9)
    boxes[0], boxes[1] = (4, 5, 4, 5), (0, 0, SIZE[1] - 1, SIZE[0] - 1)
    output = rng.random((9, 1, 12, 12)).astype(np.float32)
    labels = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) + 1
    wanted = slow_values(output, boxes, labels, parity).reshape(9, *SIZE) >= 0.5
    masks = paste_masks(output, boxes, SIZE, 0.5, parity)
    assert masks.dtype == bool and (masks == wanted).all() and 0 < masks.sum() < masks.size
    assert paste_masks(output[:0], boxes[:0], SIZE).shape == (0, *SIZE)
    with pytest.raises(DataError, match="expected 8 x 1 x S x S"):
        paste_masks(output, boxes[:8], SIZE)


def test_overlaps_are_those_of_pixels():
    rng = np.random.default_rng(4)
    superpixels = Superpixels(labels_of(rng))
    regions = choose_regions(rng.random((6, superpixels.count)), 0.6)
    regions[2] = False
    masks = rng.random((4, *SIZE)) < np.array([0.5, 0.1, 0.9, 0.3])[:, None, None]
    masks[3] = region_masks(regions, superpixels)[4]
    found = region_overlaps(regions, mask_counts(masks, superpixels), superpixels)
    pixels = region_masks(regions, superpixels)
    slow = [[(a & b).sum() / (a | b).sum() for b in masks] for a in pixels]
    np.testing.assert_allclose(found, slow, rtol=1e-12)
    assert found[4, 3] == 1 and not found[2].any()
    numbers = instance_map(masks)
    apart = np.stack([numbers == k for k in range(1, 5)])
    assert (map_counts(numbers, superpixels) == mask_counts(apart, superpixels)).all()
    assert region_overlaps(regions, mask_counts(masks[:0], superpixels), superpixels).shape == (6, 0)
    assert region_overlaps(regions[:0], mask_counts(masks, superpixels), superpixels).shape == (0, 4)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((3, 4), np.uint16), "here: ids start at 0, expected 1"),
        (np.ones((3, 4, 3), np.uint8), r"here: uint8 of shape \(3, 4, 3\), expected whole numbers"),
        (np.ones((3, 4)), "here: float64 of shape"),
        (np.full((3, 4), 1 << 30), "here: the largest id is 1073741824"),
    ],
)
def test_what_is_no_map_is_refused(labels, words):
    with pytest.raises(DataError, match=words):
        Superpixels(labels, "here")


def test_what_does_not_belong_together_is_refused():
    superpixels = Superpixels(np.ones(SIZE, int), "here")
    box = np.array([[0, 0, 5, 5]])
    with pytest.raises(DataError, match="for 1 boxes, expected 1 x 1 x S x S"):
        superpixel_values(np.zeros((2, 1, 50, 50)), box, superpixels)
    with pytest.raises(DataError, match="not finite"):
        superpixel_values(np.full((1, 1, 50, 50), np.nan), box, superpixels)
    with pytest.raises(DataError, match=r"has ids up to 1, regions of shape \(1, 2\) are of others"):
        region_overlaps(np.ones((1, 2), bool), np.ones((1, 1)), superpixels)
    with pytest.raises(DataError, match="53 x 37 pixels, masks of shape"):
        mask_counts(np.ones((1, 4, 4), bool), superpixels)
    with pytest.raises(DataError, match="instances start at -1"):
        map_counts(np.full(SIZE, -1), superpixels)
