"""Detections of a whole image database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.errors import DataError, nearest
from caffe_compat.evaluation.detections import Detections
from caffe_compat.evaluation.evaluator import Evaluator, make_evaluator
from caffe_compat.evaluation.result import Evaluation

__all__ = ["evaluate_database", "in_order_of"]


def in_order_of(imdb: ImageDatabase, detections: Detections) -> Detections:
    """The same detections, classes and images in the order of a database.

    Raises:
        DataError: they are of other images or classes; names these.
    """
    images = [record.name for record in imdb.records]
    for what, found, wanted in (
        ("images", detections.images, images),
        ("classes", detections.classes, list(imdb.classes)),
    ):
        known, held = set(wanted), set(found)
        strange = [name for name in found if name not in known]
        if strange:
            raise DataError(
                f"detections of {what} that {imdb.name} does not have: {_some(strange)}{nearest(strange[0], wanted)}"
            )
        absent = [name for name in wanted if name not in held]
        if absent:
            raise DataError(f"no detections of these {what} of {imdb.name}: {_some(absent)}")
    if detections.images == tuple(images) and detections.classes == tuple(imdb.classes):
        return detections
    places = {name: index for index, name in enumerate(detections.images)}
    columns = [places[name] for name in images]
    rows = [detections.boxes[detections.classes.index(name)] for name in imdb.classes]
    return Detections(tuple(imdb.classes), tuple(images), [[row[i] for i in columns] for row in rows])


def evaluate_database(
    imdb: ImageDatabase, detections: Detections, parity: bool = False, threshold: float | None = None
) -> Evaluation:
    """Evaluate detections by their database's rule.

    Args:
        imdb: whose images they are of.
        detections: after suppression of what overlaps.
        parity: as the branch; see :func:`make_evaluator`.
        threshold: of the overlap; None: the rule's own.

    Raises:
        DataError: detections of other images or classes, and what ``process`` refuses.
        UsageError: a threshold not above 0, up to 1.
    """
    judge = make_evaluator(imdb.metric, imdb.classes, parity, threshold)
    return judged(imdb, detections, judge)


def judged(imdb: ImageDatabase, detections: Detections, judge: Evaluator) -> Evaluation:
    """What an evaluator says of all images."""
    detections = in_order_of(imdb, detections)
    judge.reset()
    for index, record in enumerate(imdb.records):
        rows: Sequence[np.ndarray] = detections.of_image(index)
        judge.process(record, rows)
    return judge.evaluate()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
