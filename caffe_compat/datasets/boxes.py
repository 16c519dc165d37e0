"""Boxes of objects: from label maps, and in .mat files as NYUD2's are published.

Files count pixels from 1; everything returned here counts from 0.  A box holds its last row and column, so a single
pixel has x1 = x2.  Coordinates are float32 (the published code's uint16 wraps when 1 is taken from a 0).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from caffe_compat.datasets.mat import read_mat, write_mat
from caffe_compat.errors import DataError

__all__ = [
    "GroundTruth",
    "boxes_from_labels",
    "boxes_from_segmentation",
    "number_instances",
    "read_ground_truth",
    "write_ground_truth",
]

_LARGEST = 1 << 20
"""Pixels that a side of a frame may have."""
_FIELDS = ("class", "bbox", "difficult", "truncated", "instanceId")


@dataclasses.dataclass(frozen=True, eq=False)
class GroundTruth:
    """The objects of a frame.

    Args:
        boxes: float32 [K, 4], x1 y1 x2 y2 in pixels from 0, last pixel included.
        names: class of each.
        instance_ids: int64 [K], each object's number in the frame's segmentation; 0 = not known.
        difficult, truncated: bool [K].
        size: height and width of the frame.
    """

    boxes: np.ndarray
    names: list[str]
    instance_ids: np.ndarray
    difficult: np.ndarray
    truncated: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)


def read_ground_truth(path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> GroundTruth:
    """Read ``gt_box_cache_dir/img_NNNN.mat``.

    The file holds ``rec.imgsize`` [h w] and ``rec.objects(k)`` with ``class``, ``bbox`` [x1 y1 x2 y2] from 1, and,
    if it has them, ``difficult`` and ``truncated`` (else false) and ``instanceId`` (else 0).

    Args:
        path: the file.
        classes: objects of other classes are left out, unchecked; None keeps all.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; a box that is not four numbers, lies outside the frame or is turned inside out.
            Names the file and the object, counted from 1.
    """
    rec = read_mat(path, ["rec"])["rec"]
    size = np.ravel(_field(rec, "imgsize", f"{os.fspath(path)}: rec"))
    if size.shape != (2,) or size.dtype.kind not in "uif" or not ((size >= 1) & (size <= _LARGEST)).all():
        raise DataError(f"{os.fspath(path)}: rec.imgsize is {size.tolist()}, expected height and width")
    height, width = (int(value) for value in size)
    kept, boxes = [], []
    for number, record in enumerate(_structs(_field(rec, "objects", f"{os.fspath(path)}: rec"), path), start=1):
        where = f"{os.fspath(path)}: object {number}"
        name = _field(record, "class", where)
        if not isinstance(name, str):
            raise DataError(f"{where}: its class is {name!r}, expected text")
        if classes is None or name in classes:
            kept.append(record)
            boxes.append(_check_box(_field(record, "bbox", where), height, width, f"{where} ({name})"))
    return GroundTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=[record["class"] for record in kept],
        instance_ids=np.array([_scalar(record, "instanceId", path) for record in kept], np.int64),
        difficult=np.array([_scalar(record, "difficult", path) for record in kept], bool),
        truncated=np.array([_scalar(record, "truncated", path) for record in kept], bool),
        size=(height, width),
    )


def write_ground_truth(path: str | os.PathLike[str], ground_truth: GroundTruth) -> None:
    """Write a file that :func:`read_ground_truth` and the published Python and Matlab code read; whole or not at all.

    Raises:
        DataError: a box outside the frame or inside out, or arrays of different lengths.
    """
    found, count = ground_truth, len(ground_truth)
    shapes = (found.boxes.shape, found.instance_ids.shape, found.difficult.shape, found.truncated.shape)
    if shapes != ((count, 4), (count,), (count,), (count,)):
        raise DataError(f"{os.fspath(path)}: {count} names for boxes, ids, difficult, truncated of shapes {shapes}")
    objects = np.empty((1, count), [(field, object) for field in _FIELDS])
    for k, name in enumerate(found.names):
        box = np.asarray(found.boxes[k], float) + 1
        _check_box(box, *found.size, f"{os.fspath(path)}: object {k + 1} ({name})")
        flags = (np.array([[bool(found.difficult[k])]]), np.array([[bool(found.truncated[k])]]))
        objects[0, k] = (name, box[None], *flags, float(found.instance_ids[k]))
    write_mat(path, {"rec": {"imgsize": np.array([found.size], float), "objects": objects}})


def boxes_from_labels(
    labels: np.ndarray, instances: np.ndarray, names: Sequence[str], classes: Sequence[str] | None = None
) -> GroundTruth:
    """Boxes from a labelled frame, of the frame as given (so crop first).

    An object is every pair of a label and an instance, neither 0, numbered by :func:`number_instances`.  Its class is
    the label's name with spaces as hyphens: synonyms that the authors' own list maps to a class are not found.

    Args:
        labels: integers [H, W]: position in ``names`` from 1, 0 = not labelled.
        instances: integers [H, W]: number among the things of one label, 0 = none.
        names: of the labels.
        classes: objects of other classes are left out; None keeps all.

    Raises:
        DataError: maps of different shapes, not integers, or with labels beyond ``names``.
    """
    return boxes_from_segmentation(number_instances(labels, instances), labels, names, classes)


def number_instances(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """One map of instances from a label map and a map that counts anew for each label.

    Args:
        labels, instances: integers [H, W], 0 = none.

    Returns:
        int64 [H, W]: number of each pixel's pair of label and instance, from 1 in the order of label, then instance;
        0 where either is 0.

    Raises:
        DataError: maps of different shapes, or not integers.
    """
    _check_maps(labels, instances)
    pairs = labels.astype(np.int64) * (int(instances.max()) + 1) + instances
    pairs[(labels == 0) | (instances == 0)] = 0
    known = np.unique(pairs[pairs > 0])
    return np.where(pairs > 0, np.searchsorted(known, pairs) + 1, 0)


def boxes_from_segmentation(
    segmentation: np.ndarray,
    segmentation_class: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str] | None = None,
) -> GroundTruth:
    """Boxes from a map of instances and a map of classes, such as ``groundTruth{1}`` holds.

    An instance gets the class that most of its labelled pixels carry, if at least half of all its pixels do (the lower
    class if two have half each); an instance without one is left out.  Its box is its tight extent.

    Args:
        segmentation: integers [H, W]: instance of each pixel, 0 = none.
        segmentation_class: integers [H, W]: class of each pixel, position in ``names`` from 1, 0 = not labelled.
        names: of the classes; spaces become hyphens.
        classes: instances of other classes are left out; None keeps all.

    Raises:
        DataError: as :func:`boxes_from_labels`.
    """
    _check_maps(segmentation_class, segmentation)
    if segmentation_class.max() > len(names):
        raise DataError(f"label {int(segmentation_class.max())}: there are names for {len(names)} labels only")
    numbers = segmentation.astype(np.int64)
    pixels = np.bincount(numbers.ravel())
    span = len(names) + 1
    votes, count = np.unique(numbers * span + segmentation_class, return_counts=True)
    best: dict[int, tuple[int, int]] = {}  # of an instance: pixels, and minus the class
    for vote, share in zip(votes.tolist(), count.tolist(), strict=True):
        number, label = divmod(vote, span)
        if number and label:
            best[number] = max(best.get(number, (0, 0)), (share, -label))
    boxes, kept, ids = [], [], []
    extents = find_objects(numbers)
    for number, (share, minus_label) in sorted(best.items()):
        name = names[-minus_label - 1].replace(" ", "-")
        if 2 * share >= pixels[number] and (classes is None or name in classes):
            rows, columns = extents[number - 1]
            boxes.append((columns.start, rows.start, columns.stop - 1, rows.stop - 1))
            kept.append(name)
            ids.append(number)
    return GroundTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=kept,
        instance_ids=np.array(ids, np.int64),
        difficult=np.zeros(len(kept), bool),
        truncated=np.zeros(len(kept), bool),
        size=(segmentation.shape[0], segmentation.shape[1]),
    )


def _field(record: Any, name: str, where: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        has = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise DataError(f"{where}: no field '{name}', it is {has}")
    return record[name]


def _structs(value: Any, path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, np.ndarray) and (value.size == 0 or value.dtype == object):
        return list(value.ravel())
    raise DataError(f"{os.fspath(path)}: rec.objects is a {type(value).__name__}, expected a struct array")


def _scalar(record: dict[str, Any], name: str, path: str | os.PathLike[str]) -> float:
    value = record.get(name, 0.0)
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "buif" or not abs(float(number.item())) < 2**53:
        raise DataError(f"{os.fspath(path)}: {name} of an object of class {record['class']}: expected one whole number")
    return float(number.item())


def _check_box(box: Any, height: int, width: int, where: str) -> np.ndarray:
    """The box less 1."""
    values = np.ravel(box)
    if values.shape != (4,) or values.dtype.kind not in "uif":
        raise DataError(f"{where}: its box is {values.tolist()}, expected x1 y1 x2 y2")
    x1, y1, x2, y2 = (float(value) for value in values)
    if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):
        raise DataError(
            f"{where}: its box x1 y1 x2 y2 = {[x1, y1, x2, y2]} (from 1) is inside out or not within "
            f"{width} columns and {height} rows"
        )
    return values.astype(np.float64) - 1


def _check_maps(labels: np.ndarray, instances: np.ndarray) -> None:
    for what, values in (("labels", labels), ("instances", instances)):
        if values.ndim != 2 or values.dtype.kind not in "ui" or not values.size or values.min() < 0:
            raise DataError(f"{what} are {values.dtype} of shape {values.shape}, expected integers from 0, H x W")
    if labels.shape != instances.shape:
        raise DataError(f"labels have the shape {labels.shape}, instances {instances.shape}")
