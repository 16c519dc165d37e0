"""Average precision of regions, AP^r, as the ``sds-distillation`` branch counts it.

Source: ``lib/sds/evaluation.py`` of the branch.  It is the rule of its detections, with the overlap of regions in the
place of that of boxes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.checks import check_threshold
from caffe_compat.evaluation.curves import average_precision
from caffe_compat.evaluation.result import Evaluation
from caffe_compat.evaluation.tables import absent_classes, percent

__all__ = ["THRESHOLDS", "RegionAverage", "region_table", "region_text"]

THRESHOLDS = (0.5, 0.7)
"""Overlaps at which the papers report."""


class RegionAverage:
    """AP^r: a region looks at the object of its class that it overlaps most.

    If the overlap reaches the threshold and no region of a higher score found that object, it is right, else wrong; the
    area under the whole curve.  Equal scores count in the order of images, then of regions.

    Args:
        classes: names, without the background.
        thresholds: of the overlap.
        parity: as the branch: difficult objects and crowds are like others, and a class without ground truth makes
            the mean NaN; else they are set aside as in :class:`~caffe_compat.evaluation.average.AveragePrecision`.

    Raises:
        UsageError: a threshold not above 0 and up to 1.
    """

    metric = "region"

    def __init__(
        self, classes: Sequence[str], thresholds: Sequence[float] = THRESHOLDS, *, parity: bool = False
    ) -> None:
        self.classes, self.parity = tuple(classes), parity
        self.thresholds = tuple(check_threshold(threshold) for threshold in thresholds)
        self._overlaps = np.zeros((0, 0))
        self._average = AveragePrecision(classes, overlap=self._given)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._average.reset()

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray], overlaps: np.ndarray) -> None:
        """Take one image.

        Args:
            record: with its objects.
            detections: of each class float32 [n, 5]: x1 y1 x2 y2 score; only scores are looked at.
            overlaps: [N, K], of the regions of all detections, class by class, with the objects in the record's order
                (:func:`~caffe_compat.segmentation.regions.region_overlaps`).

        Raises:
            DataError: as :meth:`AveragePrecision.process`; overlaps of another shape or not from 0 to 1.
        """
        overlaps = np.asarray(overlaps, np.float64)
        if not ((overlaps >= 0) & (overlaps <= 1)).all():
            raise DataError(f"image {record.name}: overlaps of regions are not from 0 to 1")
        self._overlaps = overlaps
        bare = dataclasses.replace(record, difficult=None, crowd=None) if self.parity else record
        self._average.process(bare, detections)

    def _given(self, detections: np.ndarray, record: FrameRecord) -> np.ndarray:
        return self._overlaps

    def evaluate(self) -> dict[float, Evaluation]:
        """What the images so far amount to, by threshold."""
        return {threshold: self._finished(self._average.evaluate(threshold)) for threshold in self.thresholds}

    def _finished(self, found: Evaluation) -> Evaluation:
        found = dataclasses.replace(found, metric=self.metric)
        if not self.parity:
            return found
        curves = zip(found.precision, found.recall, strict=True)
        ap = np.array([average_precision(precision, recall) for precision, recall in curves])
        return dataclasses.replace(found, ap=ap, mean=float(np.mean(ap)) if len(ap) else float("nan"))


def region_text(evaluations: Mapping[float, Evaluation]) -> str:
    """The branch's text: a line for each class, AP^r at each threshold in percent, and their means."""
    classes = next(iter(evaluations.values())).classes if evaluations else ()
    columns = [[*found.ap, found.mean] for found in evaluations.values()]
    rows = zip([*classes, "mean"], zip(*columns, strict=True), strict=True) if evaluations else ()
    return "".join(f"{name:>20s} : " + ", ".join(f"{100 * ap:10.6f}" for ap in values) + "\n" for name, values in rows)


def region_table(evaluations: Mapping[float, Evaluation]) -> str:
    """What a terminal shows: objects, regions and AP^r at each threshold of each class, in percent."""
    if not evaluations:
        return ""
    first = next(iter(evaluations.values()))
    width = max(len(name) for name in (*first.classes, "class", "mean"))
    heads = "".join(f"  {f'AP^r {threshold:g}':>8}" for threshold in evaluations)
    lines = [f"{'class':<{width}}  {'objects':>8}  {'regions':>8}{heads}"]
    for k, name in enumerate(first.classes):
        ap = "".join(f"  {percent(found.ap[k], 8)}" for found in evaluations.values())
        lines.append(f"{name:<{width}}  {first.ground_truth[k]:>8d}  {first.detections[k]:>8d}{ap}")
    means = "".join(f"  {percent(found.mean, 8)}" for found in evaluations.values())
    total = (int(first.ground_truth.sum()), int(first.detections.sum()))
    lines.append(f"{'mean':<{width}}  {total[0]:>8d}  {total[1]:>8d}{means}")
    lines.append(f"overlap of regions in pixels, {first.images} images")
    lines += absent_classes(first)
    return "\n".join(lines)
