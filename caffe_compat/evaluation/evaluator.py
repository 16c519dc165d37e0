"""Evaluators: ``reset``, ``process`` each image, ``evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import UsageError, nearest
from caffe_compat.evaluation.action import ActionAverage
from caffe_compat.evaluation.average import RULES, AveragePrecision
from caffe_compat.evaluation.coco import CocoAverage
from caffe_compat.evaluation.result import Evaluation

__all__ = ["METRICS", "Evaluation", "Evaluator", "make_evaluator"]

METRICS = (*RULES, "coco", "action")


class Evaluator(Protocol):
    """What says how good detections are.

    ``process`` takes an image's record, which knows its objects, and its detections: of each class float32 [n, 5] (x1
    y1 x2 y2 score).
    """

    def reset(self) -> None:
        """Forget all images."""

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray]) -> None:
        """Take one image."""

    def evaluate(self) -> Evaluation:
        """What the images so far amount to."""


def make_evaluator(
    metric: str, classes: Sequence[str], parity: bool = False, threshold: float | None = None
) -> Evaluator:
    """The evaluator of a rule.

    Args:
        metric: ``nyud2``, ``voc07``, ``voc``, ``coco`` or ``action``.
        classes: names, without the background.
        parity: as the branch: see :class:`AveragePrecision`; COCO's rule is always the same.
        threshold: of the overlap; None: 0.5, and for ``coco`` the average over 0.5 to 0.95.  That of tubes, for
            ``action``, are always 0.1 to 0.6.

    Raises:
        UsageError: no such metric; a threshold not above 0 and up to 1.
    """
    if metric not in METRICS:
        raise UsageError(f"no metric '{metric}', expected one of {', '.join(METRICS)}{nearest(metric, METRICS)}")
    if metric == "coco":
        return CocoAverage(classes, threshold)
    overlap = 0.5 if threshold is None else threshold
    if metric == "action":
        return ActionAverage(classes, parity=parity, threshold=overlap)
    return AveragePrecision(classes, metric, parity=parity, threshold=overlap)
