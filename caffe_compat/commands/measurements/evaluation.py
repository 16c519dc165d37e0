"""The benchmark of evaluation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.results import evaluate_run
from caffe_compat.evaluation.detections import Detections

__all__ = ["evaluation"]

IMAGES, CLASSES, BOXES = 654, 19, 100
"""NYUD2's test images and classes, and what TEST.MAX_PER_IMAGE leaves of each class in each image."""
LIMIT = 5.0
"""Seconds of one core, also where others use it too."""


def evaluation(rounds: int) -> Iterator[tuple[str, float, float, float, str]]:
    """Suppression and the branch's evaluation of NYUD2's test set; the peer is what it may take."""
    rng = np.random.default_rng(0)
    classes = tuple(f"class {k}" for k in range(CLASSES))
    records = []
    for number in range(IMAGES):
        count = int(rng.integers(0, 12))
        labels = tuple(classes[k] for k in rng.integers(0, CLASSES, count))
        records.append(FrameRecord(f"img_{number}", boxes=_boxes(rng, count)[:, :4], classes=labels))
    imdb = ImageDatabase("bench", classes, ("images",), records)
    found = Detections(
        classes, tuple(record.name for record in records), [[_boxes(rng, BOXES) for _ in records] for _ in classes]
    )
    times = []
    for _ in range(rounds):
        start = time.process_time()
        evaluate_run(imdb, found, Config())
        times.append(time.process_time() - start)
    mine = statistics.median(times)
    label = f"NMS and AP, {IMAGES} images x {CLASSES} classes x {BOXES} boxes"
    yield label, mine, LIMIT, mine / LIMIT, "<= 1 (peer: the limit)"


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 400, (count, 2))
    sides = rng.uniform(5, 150, (count, 2))
    return np.hstack([corners, corners + sides, rng.random((count, 1))]).astype(np.float32)
