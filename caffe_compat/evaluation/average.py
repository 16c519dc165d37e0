"""Average precision as NYUD2's detection branch and PASCAL VOC count it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError, nearest
from caffe_compat.evaluation.checks import check_detections, check_threshold, object_labels, stack
from caffe_compat.evaluation.curves import average_precision, descending, eleven_points, precision_recall
from caffe_compat.evaluation.overlaps import Overlap, record_overlaps
from caffe_compat.evaluation.result import FALSE, IGNORED, TRUE, Evaluation, Matches

__all__ = ["RULES", "AveragePrecision"]

RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "nyud2": average_precision,
    "voc": average_precision,
    "voc07": eleven_points,
}
"""From precision and recall to the average, by metric."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Image:
    """The detections of an image, class by class, and its objects."""

    label: np.ndarray  # int64 [N]
    row: np.ndarray  # int64 [N]
    score: np.ndarray  # float32 [N]
    overlap: np.ndarray  # float64 [N], the largest with an object of the class
    truth: np.ndarray  # int64 [N], that object
    in_crowd: np.ndarray  # float64 [N], the largest part in a crowd of the class
    objects: np.ndarray  # int64 [K], classes
    aside: np.ndarray  # bool [K], difficult or a crowd


class AveragePrecision:
    """The branch's rule, and VOC's: a detection looks at the object of its class that it overlaps most.

    If the overlap reaches the threshold and no detection of a higher score found that object, it is right; everything
    else is wrong, also if a second object is overlapped enough.  Equal scores count in the order of images, then of
    boxes.  A detection by a difficult object is neither; nor is one that finds no object but lies in a crowd (the part
    of it that does reaches the threshold).

    Args:
        classes: names, without the background.
        metric: ``nyud2`` and ``voc``: the area under the whole curve; ``voc07``: eleven points of it.
        parity: as the branch: numpy's unstable sort, difficult objects are like others (for ``nyud2``), boxes inside
            out are taken, and a class without ground truth makes the mean NaN (quirk 17).
        threshold: of the overlap.
        overlap: of what; masks, for instance, instead of boxes.

    Raises:
        UsageError: no such metric; a threshold not above 0 and up to 1.
    """

    def __init__(
        self,
        classes: Sequence[str],
        metric: str = "nyud2",
        *,
        parity: bool = False,
        threshold: float = 0.5,
        overlap: Overlap = record_overlaps,
    ) -> None:
        if metric not in RULES:
            raise UsageError(f"no metric '{metric}', expected one of {', '.join(RULES)}{nearest(metric, RULES)}")
        self.classes, self.metric, self.parity = tuple(classes), metric, parity
        self.threshold = check_threshold(threshold)
        self._overlap = overlap
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images: list[_Image] = []
        self._names: set[str] = set()

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray]) -> None:
        """Take one image.

        Args:
            record: with its objects.
            detections: of each class float32 [n, 5]: x1 y1 x2 y2 score.

        Raises:
            DataError: an image that came before or whose objects are not known; an object of an unknown class; arrays
                of other counts or shapes; numbers that are not finite; boxes inside out.  Names image, class and box.
        """
        if record.name in self._names:
            raise DataError(f"image {record.name}: was evaluated before, expected each image once")
        check_detections(record, self.classes, detections, inside_out=self.parity)
        objects = object_labels(record, self.classes)
        difficult = _flags(record.difficult, objects)
        if self.parity and self.metric == "nyud2":
            difficult = np.zeros_like(difficult)
        crowd = _flags(record.crowd, objects)
        stacked, label, row = stack(detections)
        overlaps = self._overlap(stacked, record)
        if overlaps.shape != (len(stacked), len(objects)):
            raise DataError(
                f"image {record.name}: overlaps of shape {overlaps.shape}, expected {len(stacked)} x {len(objects)}"
            )
        if self.parity:  # the branch sorts each image's detections, then all
            order = np.concatenate(
                [np.flatnonzero(label == c)[descending(found[:, 4], True)] for c, found in enumerate(detections)]
                or [np.zeros(0, np.int64)]
            )
            stacked, label, row, overlaps = stacked[order], label[order], row[order], overlaps[order]
        same = label[:, None] == objects[None, :]
        overlap, truth = _largest(overlaps, same & ~crowd)
        in_crowd, _ = _largest(overlaps, same & crowd)
        self._names.add(record.name)
        aside = difficult | crowd
        self._images.append(_Image(label, row, stacked[:, 4], overlap, truth, in_crowd, objects, aside))

    def evaluate(self, threshold: float | None = None) -> Evaluation:
        """What the images so far amount to.

        Args:
            threshold: of the overlap, if another than the evaluator's.
        """
        threshold = self.threshold if threshold is None else check_threshold(threshold)
        seen = self._images
        counts = [len(image.score) for image in seen]
        matches = Matches(
            image=np.repeat(np.arange(len(seen)), counts),
            label=_joined([image.label for image in seen], np.int64),
            row=_joined([image.row for image in seen], np.int64),
            score=_joined([image.score for image in seen], np.float32),
            overlap=_joined([image.overlap for image in seen], np.float64),
            truth=_joined([image.truth for image in seen], np.int64),
            verdict=np.zeros(sum(counts), np.int8),
        )
        in_crowd = _joined([image.in_crowd for image in seen], np.float64)
        aside = _joined([image.aside for image in seen], bool)
        objects = _joined([image.objects for image in seen], np.int64)
        starts = np.cumsum([0, *(len(image.objects) for image in seen)])[:-1]
        number = np.where(matches.truth >= 0, np.repeat(starts, counts) + matches.truth, -1)  # of the object, in all
        wanted = np.bincount(objects[~aside], minlength=len(self.classes))
        found = np.bincount(matches.label, minlength=len(self.classes))
        curves = []
        by_class = np.split(np.argsort(matches.label, kind="stable"), np.cumsum(found)[:-1]) if self.classes else []
        for members, truths in zip(by_class, wanted, strict=True):
            order = descending(matches.score[members], self.parity)
            hit = matches.overlap[members] >= threshold
            first = _first(np.where(hit, number[members], -1), None if self.parity else order)
            beside = np.zeros(len(members), bool)
            beside[hit] = aside[number[members][hit]]
            beside |= ~hit & (in_crowd[members] >= threshold)
            verdict = np.where(beside, IGNORED, np.where(hit & first, TRUE, FALSE))
            matches.verdict[members] = verdict
            counted = order[verdict[order] != IGNORED]
            precision, recall = precision_recall(verdict[counted] == TRUE, int(truths))
            curves.append((precision, recall, matches.score[members][counted].astype(np.float64)))
        return self._result(curves, wanted, found, threshold, matches)

    def _result(
        self,
        curves: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
        wanted: np.ndarray,
        found: np.ndarray,
        threshold: float,
        matches: Matches,
    ) -> Evaluation:
        rule = RULES[self.metric]
        ap = np.array([rule(precision, recall) for precision, recall, _ in curves], np.float64)
        if not self.parity:  # there it is 0 without detections
            ap[wanted == 0] = np.nan
        counted = ap if self.parity else ap[wanted > 0]
        return Evaluation(
            metric=self.metric,
            classes=self.classes,
            ap=ap,
            precision=tuple(curve[0] for curve in curves),
            recall=tuple(curve[1] for curve in curves),
            scores=tuple(curve[2] for curve in curves),
            ground_truth=wanted,
            detections=found,
            mean=float(np.mean(counted)) if len(counted) else float("nan"),
            images=len(self._images),
            threshold=threshold,
            matches=matches,
        )


def _flags(given: np.ndarray | None, objects: np.ndarray) -> np.ndarray:
    return np.zeros(len(objects), bool) if given is None else np.asarray(given, bool)


def _largest(overlaps: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the largest overlap among some columns, 0 if there are none, and its column, -1 if there are none."""
    if not among.any():
        return np.zeros(len(overlaps)), np.full(len(overlaps), -1)
    chosen = np.where(among, overlaps, -1.0)
    column = chosen.argmax(1)
    value = chosen[np.arange(len(chosen)), column]
    return np.maximum(value, 0.0), np.where(value >= 0, column, -1)


def _first(numbers: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Which entries are the first of their number, in an order (None: as they stand)."""
    first = np.zeros(len(numbers), bool)
    _, places = np.unique(numbers if order is None else numbers[order], return_index=True)
    first[places if order is None else order[places]] = True
    return first


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)
