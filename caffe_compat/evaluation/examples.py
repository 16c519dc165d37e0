"""Which detections are worth looking at: the surest right ones, the surest wrong ones, and what was not found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.database import in_order_of, judged
from caffe_compat.evaluation.detections import Detections
from caffe_compat.evaluation.overlaps import box_overlaps
from caffe_compat.evaluation.result import FALSE, TRUE, Matches

__all__ = ["Example", "choose_examples"]


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A detection, or an object that was not found.

    Args:
        image: position in the database.
        label: position in its classes.
        kind: ``right``, ``wrong``, ``again`` (wrong, since the object was found before) or ``missed``.
        box: float32 [4], of the detection, or of the object.
        score: of the detection; 0 for an object.
        overlap: with the object of its class that it overlaps most.
        truth: float32 [4], that object's box; None: the image has none.
        other: class of an object that a wrong detection does find, with an overlap that would do; "": none.
    """

    image: int
    label: int
    kind: str
    box: np.ndarray
    score: float = 0.0
    overlap: float = 0.0
    truth: np.ndarray | None = None
    other: str = ""


def choose_examples(
    imdb: ImageDatabase, detections: Detections, count: int = 6, threshold: float = 0.5, parity: bool = False
) -> list[list[Example]]:
    """The best and the worst of each class.

    Whatever the database's metric, right is what VOC calls so.

    Args:
        imdb: whose images they are of.
        detections: after suppression of what overlaps.
        count: how many of each kind.
        threshold: of the overlap.
        parity: take boxes inside out, as the branch makes.

    Returns:
        Of each class, up to ``count`` right ones from the highest score, as many wrong ones from the highest score, and
        as many missed objects from the largest.

    Raises:
        DataError: as :func:`evaluate_database`.
    """
    detections = in_order_of(imdb, detections)
    judge = AveragePrecision(imdb.classes, "voc", threshold=threshold, parity=parity)
    matches = judged(imdb, detections, judge).matches
    if matches is None:
        return [[] for _ in imdb.classes]
    found = set(zip(matches.image[matches.verdict == TRUE], matches.truth[matches.verdict == TRUE], strict=True))
    chosen = []
    for label in range(len(imdb.classes)):
        examples: list[Example] = []
        for verdict in (TRUE, FALSE):
            members = np.flatnonzero((matches.label == label) & (matches.verdict == verdict))
            best = members[np.argsort(-matches.score[members], kind="stable")[:count]]
            examples += [_example(imdb, detections, matches, int(k), threshold) for k in best]
        chosen.append(examples + _missed(imdb, label, found)[:count])
    return chosen


def _example(imdb: ImageDatabase, detections: Detections, matches: Matches, k: int, threshold: float) -> Example:
    image, label, truth = int(matches.image[k]), int(matches.label[k]), int(matches.truth[k])
    overlap = float(matches.overlap[k])
    boxes = imdb.records[image].boxes
    box = detections.boxes[label][image][matches.row[k], :4]
    kind = "right" if matches.verdict[k] == TRUE else "again" if overlap >= threshold else "wrong"
    return Example(
        image=image,
        label=label,
        kind=kind,
        box=box,
        score=float(matches.score[k]),
        overlap=overlap,
        truth=boxes[truth] if truth >= 0 and overlap > 0 and boxes is not None else None,
        other=_other(imdb, image, label, box, threshold) if kind == "wrong" else "",
    )


def _other(imdb: ImageDatabase, image: int, label: int, box: np.ndarray, threshold: float) -> str:
    """The class of the object of any other class that a box overlaps most, if that would do."""
    record = imdb.records[image]
    if record.boxes is None or not record.classes:
        return ""
    overlaps = box_overlaps(box[None], record.boxes, record.crowd)[0]
    overlaps[[name == imdb.classes[label] for name in record.classes]] = 0
    best = int(overlaps.argmax())
    return record.classes[best] if overlaps[best] >= threshold else ""


def _missed(imdb: ImageDatabase, label: int, found: set[tuple[int, int]]) -> list[Example]:
    """Objects of a class that no detection found, the largest first."""
    name = imdb.classes[label]
    missed = []
    for image, record in enumerate(imdb.records):
        for k, box in enumerate(record.boxes if record.boxes is not None else ()):
            aside = any(flags is not None and bool(flags[k]) for flags in (record.difficult, record.crowd))
            if record.classes and record.classes[k] == name and not aside and (image, k) not in found:
                missed.append(Example(image, label, "missed", box, truth=box))
    return sorted(missed, key=lambda one: -_area(one.box))


def _area(box: Sequence[float] | np.ndarray) -> float:
    return float((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
