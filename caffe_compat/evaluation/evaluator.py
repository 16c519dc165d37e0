"""Evaluators: ``reset``, ``process`` each image, ``evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.result import Evaluation

__all__ = ["Evaluation", "Evaluator", "make_evaluator"]


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


def make_evaluator(metric: str, classes: Sequence[str], parity: bool = False, threshold: float = 0.5) -> Evaluator:
    """The evaluator of a rule.

    Args:
        metric: ``nyud2``, ``voc07`` or ``voc``.
        classes: names, without the background.
        parity: as the branch, for ``nyud2`` and the VOC rules: see :class:`AveragePrecision`.
        threshold: of the overlap.

    Raises:
        UsageError: no such metric.
    """
    return AveragePrecision(classes, metric, parity=parity, threshold=threshold)
