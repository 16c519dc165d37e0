"""What every evaluation refuses, whatever its rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError, nearest

__all__ = ["check_detections", "check_threshold", "object_labels", "stack"]

_SORTED = "x1 <= x2 and y1 <= y2 (what was detected with PARITY needs it here too)"


def check_detections(
    record: FrameRecord, classes: Sequence[str], detections: Sequence[np.ndarray], inside_out: bool = False
) -> None:
    """Refuse detections that cannot be evaluated.

    Args:
        record: the image.
        classes: names, without the background.
        detections: of each class [n, 5]: x1 y1 x2 y2 score.
        inside_out: boxes with x2 < x1 or y2 < y1 are taken; the branch makes some, since it clips on one side only.

    Raises:
        DataError: names image, class and box (counted from 1).
    """
    _check_truth(record)
    if len(detections) != len(classes):
        raise DataError(f"image {record.name}: detections of {len(detections)} classes, expected {len(classes)}")
    for name, found in zip(classes, detections, strict=True):
        if found.shape[1:] != (5,) or found.ndim != 2 or found.dtype.kind != "f":
            raise DataError(
                f"image {record.name}: detections of class {name} are {found.dtype} of shape {found.shape}, expected "
                "n x 5 (x1 y1 x2 y2 score)"
            )
    rows, label, row = stack(detections)
    for wrong, expected in (
        (~np.isfinite(rows).all(1), "finite numbers"),
        ((rows[:, 2:4] < rows[:, :2]).any(1) & (not inside_out), _SORTED),
    ):
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"image {record.name}: detection {row[k] + 1} of class {classes[label[k]]} is {rows[k].tolist()} "
                f"(x1 y1 x2 y2 score), expected {expected}"
            )


def check_threshold(threshold: float) -> float:
    """An overlap from which on an object counts as found.

    Raises:
        UsageError: it is not above 0, up to 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold of the overlap {threshold}: expected a number above 0, up to 1")
    return float(threshold)


def object_labels(record: FrameRecord, classes: Sequence[str]) -> np.ndarray:
    """Position among the classes of each object of a record: int64 [K].

    Raises:
        DataError: an object of another class; names the image.
    """
    places = {name: index for index, name in enumerate(classes)}
    unknown = [name for name in record.classes or () if name not in places]
    if unknown:
        raise DataError(
            f"image {record.name}: an object of class '{unknown[0]}', which is none of the {len(places)} classes"
            + nearest(unknown[0], places)
        )
    return np.array([places[name] for name in record.classes or ()], np.int64)


def stack(detections: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All classes' detections of an image one after the other.

    Returns:
        float32 [N, 5]; int64 [N], the class of each; int64 [N], its row in the class's array.
    """
    counts = [len(found) for found in detections]
    rows = np.concatenate([np.zeros((0, 5), np.float32), *detections]).astype(np.float32, copy=False)
    row = np.arange(len(rows)) - np.repeat(np.cumsum([0, *counts])[:-1], counts)
    return rows, np.repeat(np.arange(len(counts)), counts), row


def _check_truth(record: FrameRecord) -> None:
    if record.boxes is None or record.classes is None:
        raise DataError(f"image {record.name}: its objects are not known, so nothing can be evaluated on it")
    count = len(record.classes)
    for what, value, shape in (
        ("boxes", record.boxes, (count, 4)),
        ("difficult", record.difficult, (count,)),
        ("crowd", record.crowd, (count,)),
    ):
        if value is not None and value.shape != shape:
            raise DataError(f"image {record.name}: {what} of shape {value.shape}, expected {shape}")
    wrong = ~(np.isfinite(record.boxes).all(1) & (record.boxes[:, 2:] >= record.boxes[:, :2]).all(1))
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"image {record.name}: object {k + 1} ({record.classes[k]}) has the box {record.boxes[k].tolist()}, "
            "expected x1 <= x2 and y1 <= y2"
        )
