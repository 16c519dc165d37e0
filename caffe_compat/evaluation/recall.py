"""How well proposals cover objects: recall by overlap, and COCO's average recall (AR)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from caffe_compat.datasets.imdb import ProposalSource
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.evaluation.overlaps import box_overlaps

__all__ = ["AREAS", "Recall", "best_overlaps", "measure_recall"]

AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Pixels of the boxes of objects, both ends included, as in Fast R-CNN's branch ``coco``."""
_THRESHOLDS = np.arange(0.5, 0.95 + 1e-5, 0.05)


@dataclasses.dataclass(frozen=True, eq=False)
class Recall:
    """The coverage of a set of images.

    Args:
        overlaps: float64 by name of area: of each object of that size, the overlap with the proposal that is its own.
        counts: int64 [images], proposals of each.
    """

    overlaps: Mapping[str, np.ndarray]
    counts: np.ndarray

    def at(self, overlap: float, area: str = "all") -> float:
        """The part of the objects that are covered so well; NaN where there are none."""
        found = self.overlaps[area]
        return float((found >= overlap).mean()) if found.size else float("nan")

    def average(self, area: str = "all") -> float:
        """Mean of the recalls at 0.5, 0.55, ..., 0.95: AR."""
        return float(np.mean([self.at(threshold, area) for threshold in _THRESHOLDS]))


def measure_recall(records: Iterable[FrameRecord], proposals: ProposalSource, limit: int = 0) -> Recall:
    """Hold proposals against the objects of images.

    Crowds and difficult objects do not count.  An image without proposals has found nothing (in the branch it does not
    count).

    Args:
        records: those without boxes count for their proposals only.
        proposals: of each image, best first.
        limit: only so many of an image; 0 = all.
    """
    overlaps: dict[str, list[np.ndarray]] = {area: [] for area in AREAS}
    counts = []
    for record in records:
        boxes = proposals(record)[: limit or None]
        counts.append(len(boxes))
        objects = _objects(record)
        sizes = (objects[:, 2] - objects[:, 0] + 1.0) * (objects[:, 3] - objects[:, 1] + 1.0)
        for area, (least, most) in AREAS.items():
            overlaps[area].append(best_overlaps(boxes, objects[(sizes >= least) & (sizes <= most)]))
    joined = {area: np.concatenate([np.zeros(0), *parts]) for area, parts in overlaps.items()}
    return Recall(joined, np.array(counts, np.int64))


def best_overlaps(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The overlap of each object with a proposal of its own, best pairs first.

    Args:
        boxes: [N, 4].
        objects: [K, 4].

    Returns:
        float64 [K], in the order of the objects; 0 where no proposal is left.
    """
    found = np.zeros(len(objects))
    if not len(boxes) or not len(objects):
        return found
    overlaps = box_overlaps(boxes, objects)
    for _ in range(min(overlaps.shape)):
        box, k = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        found[k] = max(overlaps[box, k], 0.0)
        overlaps[box, :] = -1
        overlaps[:, k] = -1
    return found


def _objects(record: FrameRecord) -> np.ndarray:
    if record.boxes is None:
        return np.zeros((0, 4), np.float32)
    left = np.zeros(len(record.boxes), bool)
    for flags in (record.crowd, record.difficult):
        if flags is not None:
            left |= flags
    return record.boxes[~left]
