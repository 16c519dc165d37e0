"""The benchmarks of segmenting detections: masks onto superpixels with their overlaps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from caffe_compat.compare import difference
from caffe_compat.segmentation.regions import (
    Superpixels,
    choose_regions,
    mask_counts,
    region_masks,
    region_overlaps,
    superpixel_values,
)
from caffe_compat.segmentation.superpixels import make_superpixels

__all__ = ["sds"]

Row = tuple[str, float, float, float, str]

IMAGES, DETECTIONS, OBJECTS, HEIGHT, WIDTH, SIDE = 654, 100, 12, 425, 560, 50
"""NYUD2's test images, detections and objects in each, its pictures' size, and the side of a mask."""
LIMIT = 60.0
"""Seconds for all of them, here of one core's time."""
DRAWN = 6
"""Different images, used over and over."""


@dataclass(frozen=True, eq=False)
class _Image:
    """An image with what a net says of its detections."""

    labels: np.ndarray
    output: np.ndarray
    boxes: np.ndarray
    objects: np.ndarray


def sds(rounds: int) -> Iterator[Row]:
    """Masks of NYUD2's test set, against what they may take and the branch's way."""
    rng = np.random.default_rng(0)
    images = [_image(rng) for _ in range(DRAWN)]
    label = f"{IMAGES} images x {DETECTIONS} detections"
    times = [
        _seconds(lambda: [_ours(images[number % DRAWN]) for number in range(IMAGES)]) for _ in range(min(rounds, 3))
    ]
    mine = statistics.median(times)
    yield f"masks pasted, and overlaps, {label}", mine, LIMIT, mine / LIMIT, "<= 1 (peer: the limit)"
    found = max(difference(*pair).absolute for pair in zip(_ours(images[0]), _branch(images[0]), strict=True))
    fast = min(_seconds(lambda: _ours(images[0])) for _ in range(rounds))
    slow = min(_seconds(lambda: _branch(images[0])) for _ in range(min(rounds, 3)))
    yield f"of one image, by the branch's way (max difference {found:.1g})", fast, slow, fast / slow, "<= 0.20"
    times = [_seconds(lambda: [_pixels(images[number]) for number in range(DRAWN)]) for _ in range(min(rounds, 3))]
    mine = statistics.median(times) * IMAGES / DRAWN
    yield f"regions as pixels, {label}", mine, LIMIT, mine / LIMIT, "<= 1 (peer: the limit)"


def _seconds(function: Callable[[], object]) -> float:
    """Of the processor: others on the machine do not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


def _image(rng: np.random.Generator) -> _Image:
    """Superpixels of a drawn picture, and boxes of all sizes."""
    small = rng.integers(0, 256, (27, 36, 3), np.uint8)
    picture = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)
    low = rng.uniform(0, (WIDTH - 40, HEIGHT - 40), (DETECTIONS, 2))
    boxes = np.hstack((low, np.minimum(low + rng.uniform(20, 300, low.shape), (WIDTH - 1, HEIGHT - 1))))
    objects = np.zeros((OBJECTS, HEIGHT, WIDTH), bool)
    for mask, (y, x) in zip(objects, rng.integers(0, (HEIGHT - 100, WIDTH - 100), (OBJECTS, 2)).tolist(), strict=True):
        mask[y : y + 100, x : x + 100] = True
    coarse = rng.random((DETECTIONS, 5, 5)).astype(np.float32)
    output = np.stack([cv2.resize(one, (SIDE, SIDE)) for one in coarse])[:, None]
    return _Image(make_superpixels(noisy).labels, output, boxes.astype(np.float32), objects)


def _ours(image: _Image) -> tuple[np.ndarray, np.ndarray]:
    """Values of superpixels, and overlaps of regions with objects."""
    superpixels = Superpixels(image.labels)
    values = superpixel_values(image.output, image.boxes, superpixels, parity=True)
    regions = choose_regions(values)
    return values, region_overlaps(regions, mask_counts(image.objects, superpixels), superpixels)


def _pixels(image: _Image) -> np.ndarray:
    superpixels = Superpixels(image.labels)
    return region_masks(choose_regions(superpixel_values(image.output, image.boxes, superpixels)), superpixels)


def _branch(image: _Image) -> tuple[np.ndarray, np.ndarray]:
    """The same as ``test_hypercolumns.py`` and ``evaluation.py`` of the branch go about it: pixel by pixel."""
    labels, count = image.labels - 1, int(image.labels.max())
    values = np.zeros((DETECTIONS, count))
    corners = np.clip(np.ceil(image.boxes), 0, (WIDTH - 1, HEIGHT - 1, WIDTH - 1, HEIGHT - 1)).astype(int)
    for value, mask, (x1, y1, x2, y2) in zip(values, image.output[:, 0], corners.tolist(), strict=True):
        columns, rows = (np.arange(size) * SIDE // size for size in (x2 - x1 + 1, y2 - y1 + 1))
        np.add.at(value, labels[y1 : y2 + 1, x1 : x2 + 1], mask[np.ix_(rows, columns)])
    areas = np.zeros(count)
    np.add.at(areas, labels.ravel(), 1)
    values /= areas
    chosen = (values >= 0.4).astype(np.float32)
    shared = np.zeros((OBJECTS, count))
    for counts, mask in zip(shared, image.objects, strict=True):
        np.add.at(counts, labels[mask], 1)
    inside = chosen @ shared.T
    whole = (chosen @ areas)[:, None] + shared.sum(1)[None] - inside
    return values, inside / np.maximum(whole, 1)
