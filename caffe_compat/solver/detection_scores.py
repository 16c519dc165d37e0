"""Average precision of SSD's test nets: what ``eval_type: "detection"`` makes of DetectionEvaluate's rows.

Source: weiliu89/caffe, Solver::TestDetection and bbox_util.cpp (ComputeAP).
"""

from __future__ import annotations

import numpy as np

from caffe_compat.errors import SolverError

__all__ = ["VERSIONS", "average_precision", "class_precisions", "mean_precision"]

VERSIONS = ("Integral", "11point", "MaxIntegral")
"""The values of ``ap_version``, the default first."""

_EPS = 1e-6


def mean_precision(rows: np.ndarray, version: str) -> float:
    """Mean over all classes of the average precision; see :func:`class_precisions`."""
    found = class_precisions(rows, version)
    return sum(value or 0.0 for value in found.values()) / max(len(found), 1)


def class_precisions(rows: np.ndarray, version: str) -> dict[int, float | None]:
    """The average precision of every class that DetectionEvaluate counts; None: no detection of it was judged.

    Args:
        rows: float32 [K, 5] of all batches, as DetectionEvaluate makes them.
        version: one of :data:`VERSIONS`.

    Raises:
        SolverError: rows of another width: the net's output is not DetectionEvaluate's.
    """
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise SolverError(f"eval_type is detection, but an output has rows of {rows.shape[-1:]}, expected 5 numbers")
    counts = rows[:, 0] == -1
    labels = np.unique(rows[counts, 1])
    judged = rows[~counts & (rows[:, 3] + rows[:, 4] > 0)]  # others met a difficult box
    found: dict[int, float | None] = {}
    for label in labels:
        positives = int(rows[counts & (rows[:, 1] == label), 2].sum())
        own = judged[judged[:, 1] == label]
        found[int(label)] = average_precision(own[:, 2], own[:, 3], positives, version) if len(own) else None
    return found


def average_precision(scores: np.ndarray, true: np.ndarray, positives: int, version: str) -> float:
    """Of one class: detections with their scores, and which are true; 0 without any or without ground truth."""
    if not len(scores) or not positives:
        return 0.0
    hits = np.cumsum(true[np.argsort(-scores, kind="stable")])
    precision = (hits / np.arange(1, len(hits) + 1)).astype(np.float32)
    recall = (hits / positives).astype(np.float32)
    if version == "11point":
        best = [precision[recall.astype(np.float64) >= point / 10] for point in range(11)]
        return float(sum(found.max() if len(found) else 0.0 for found in best) / 11)
    if version == "MaxIntegral":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        precision = np.concatenate([precision[:1], precision[:-1]])  # of the place before too, as there
    steps = np.diff(recall, prepend=np.float32(0))
    steps[np.abs(steps) <= _EPS] = 0
    return float((precision * steps).sum())
