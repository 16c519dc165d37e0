"""Boxes of neighbouring frames linked to tubes, and how well tubes find actions, as ActionTubes' code has it.

Sources: ``train_svm/zero_jump_link.m`` and ``evaluate/get_ROC_curve_JHMDB.m`` of ActionTubes.  The scores of its 4,700
released tubes of UCF Sports come out the same here, their boxes link to the same three best of each class and clip, and
the areas under its released curves are those that it states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.evaluation.overlaps import paired_overlaps

__all__ = ["FALSE_RATE", "Tube", "link_boxes", "mean_roc", "roc", "tube_overlap"]

FALSE_RATE = 0.6
"""The share of the wrong tubes up to which the curves are looked at; so the area under one is 0.6 at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tube:
    """A box in every frame.

    Args:
        rows: int64 [T], which of the boxes of each frame.
        score: over all frames.
    """

    rows: np.ndarray
    score: float


def link_boxes(frames: Sequence[np.ndarray], most: int = 3) -> list[Tube]:
    """The best tubes through the boxes of a class, none of which shares a box with another.

    A link of boxes of neighbouring frames is worth their two scores and their overlap; a tube is worth its links,
    divided by the number of frames (so the scores within count twice, as in the source).  The best is found (Viterbi),
    its boxes are taken away, and so on, until a frame has no box left.  Where a frame has none from the start there is
    no tube (the source refuses such a clip).  A clip of one frame has no link: its tubes are worth their box's score
    (in the source 0).

    Args:
        frames: of each frame float32 [n, 5], x1 y1 x2 y2 score, after suppression of what overlaps.
        most: tubes that are wanted.

    Returns:
        By falling score; of equal ones that of the first boxes.
    """
    if not frames or not all(map(len, frames)):
        return []
    boxes, counts = _padded(frames)
    scores = np.where(np.arange(boxes.shape[1]) < counts[:, None], boxes[:, :, 4], -np.inf)  # [T, n]
    overlaps = paired_overlaps(boxes[:-1, :, None], boxes[1:, None])  # [T - 1, n, n]
    tubes: list[Tube] = []
    while len(tubes) < most and np.isfinite(scores).any(1).all():
        rows, score = _best(scores, overlaps)
        tubes.append(Tube(rows, score / len(frames)))
        scores[np.arange(len(frames)), rows] = -np.inf
    return tubes


def _padded(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """float64 [T, n, 5] and int64 [T], how many of each frame count."""
    counts = np.array([len(found) for found in frames])
    boxes = np.zeros((len(frames), int(counts.max()), 5))
    for row, found in zip(boxes, frames, strict=True):
        row[: len(found)] = found
    return boxes, counts


def _best(scores: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, float]:
    """The rows of the best tube, and what its links are worth."""
    count, width = scores.shape
    if count == 1:
        row = int(scores[0].argmax())
        return np.array([row]), float(scores[0, row])
    worth = np.zeros(width)
    following = np.empty((count - 1, width), np.int64)
    for t in range(count - 2, -1, -1):
        total = overlaps[t] + (scores[t + 1] + worth)
        following[t] = total.argmax(1)
        worth = total[np.arange(width), following[t]] + scores[t]
    rows = np.empty(count, np.int64)
    rows[0] = worth.argmax()
    for t in range(count - 1):
        rows[t + 1] = following[t, rows[t]]
    return rows, float(worth[rows[0]])


def tube_overlap(frames: Sequence[np.ndarray], tube: Tube, truth: np.ndarray) -> float:
    """The mean over the frames of the overlap of a tube's box with the one who acts.

    Args:
        frames: that it was linked in.
        tube: of them.
        truth: float [T, 4].
    """
    boxes = np.stack([found[row, :4] for found, row in zip(frames, tube.rows, strict=True)])
    return float(paired_overlaps(boxes, truth).mean())


def roc(scores: np.ndarray, right: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The share of the clips that are found against the share of the wrong tubes that are taken for right.

    Args:
        scores: float [n], of tubes.
        right: bool [n].
        wanted: clips to be found.

    Returns:
        false rate, true rate: float64 [m], the points up to :data:`FALSE_RATE`; and the area under them, of which the
        source counts a rectangle from each point to the last, as high as the right one.  Where there is nothing to be
        found, or tubes but no wrong one, there are no shares: no points, and an area of NaN.
    """
    order = np.argsort(-scores, kind="stable")
    wrong = int((~right).sum())
    if not wanted or (len(scores) and not wrong):
        return np.zeros(0), np.zeros(0), float("nan")
    true_rate = np.cumsum(right[order]) / wanted
    false_rate = np.cumsum(~right[order]) / max(wrong, 1)
    kept = false_rate <= FALSE_RATE
    return false_rate[kept], true_rate[kept], _area(false_rate[kept], true_rate[kept])


def _area(false_rate: np.ndarray, true_rate: np.ndarray) -> float:
    return float((np.diff(false_rate) * true_rate[1:]).sum())


def mean_roc(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of curves of classes, and the area under it: the figure that ActionTubes reports.

    At a false rate that a curve has, its true rate there is taken, of several the first, which is the lowest; elsewhere
    the higher of those at its nearest point (again the first) and at the next on the other side, if there is one.  A
    curve without points is 0 (the source cannot take it).

    Args:
        curves: false rate and true rate of each, as :func:`roc` gives them.

    Returns:
        false rate, true rate float64 [m]; the area.
    """
    every = np.unique(np.concatenate([np.zeros(0), *(false_rate for false_rate, _ in curves)]))
    total = np.zeros(len(every))
    for false_rate, true_rate in curves:
        if not len(false_rate):
            continue
        values, first = np.unique(false_rate, return_index=True)
        after = np.searchsorted(values, every).clip(max=len(values) - 1)
        before = (after - 1).clip(min=0)
        lower = np.abs(every - values[before]) <= np.abs(every - values[after])  # of two equally near ones the first
        near = first[np.where(lower, before, after)]
        step = np.where(false_rate[near] <= every, 1, -1)
        beside = near + step
        none = (beside < 0) | (beside >= len(true_rate)) | (false_rate[near] == every)
        total += np.maximum(true_rate[near], true_rate[np.where(none, near, beside)])
    mean = total / len(curves) if curves else total
    return every, mean, _area(every, mean) if curves else float("nan")
