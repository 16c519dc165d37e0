"""Precision against recall, and the average under it."""

from __future__ import annotations

import numpy as np

__all__ = ["average_precision", "descending", "eleven_points", "precision_recall"]

ELEVEN = np.arange(0.0, 1.1, 0.1)
"""Recalls at which VOC 2007 looks.  0.1 * 3 is a little more than 0.3, so a recall of exactly 3 in 10 lies below the
fourth; published numbers are computed so, and it is kept."""


def descending(scores: np.ndarray, parity: bool = False) -> np.ndarray:
    """Positions of scores from the highest to the lowest; equal ones stay in order.

    Args:
        scores: [n].
        parity: as the branch: numpy's unstable sort, reversed.
    """
    return np.argsort(scores)[::-1] if parity else np.argsort(-scores, kind="stable")


def precision_recall(true: np.ndarray, truths: int) -> tuple[np.ndarray, np.ndarray]:
    """The curve.

    Args:
        true: bool [n], whether each detection is right, from the highest score.
        truths: objects to be found.

    Returns:
        precision, recall: float64 [n]; recall is NaN if there is nothing to be found.
    """
    hits = np.cumsum(true, dtype=np.float64)
    recall = hits / truths if truths else np.full(len(hits), np.nan)
    return hits / np.arange(1, len(hits) + 1), recall


def average_precision(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under the curve after each precision was raised to the highest at its recall or a higher one.

    Without detections 0; with a recall of NaN, NaN.
    """
    steps = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    changed = np.flatnonzero(steps[1:] != steps[:-1])
    return float(np.sum((steps[changed + 1] - steps[changed]) * envelope[changed + 1]))


def eleven_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """VOC 2007's: the mean of the highest precision at a recall of at least 0, 0.1, ... 1."""
    if np.isnan(recall).any():
        return float("nan")
    best = [precision[recall >= point].max(initial=0.0) for point in ELEVEN]
    return float(np.sum(best) / len(ELEVEN))
