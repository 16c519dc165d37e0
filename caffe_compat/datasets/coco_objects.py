"""The annotations of one image of a COCO-style json, checked and kept small.

A box is ``[x, y, width, height]``, x and y from 0.  Here it becomes x1 = max(0, x),
x2 = min(W - 1, x + max(0, width - 1)), as in Fast R-CNN's branch ``coco`` (rows alike): it may reach less than a pixel
out of its image, and is cut there.  Annotations with an area of 0 are left out, as there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from caffe_compat.datasets.masks import Shapes, pack_segmentations
from caffe_compat.errors import DataError

__all__ = ["NO_OBJECTS", "CocoObjects", "coco_objects", "whole"]

_LARGEST = 1e12
Where = Callable[[int], str]


@dataclasses.dataclass(frozen=True, eq=False)
class CocoObjects:
    """The objects of an image.

    Args:
        boxes: float32 [K, 4], x1 y1 x2 y2 from 0, last pixel included.
        classes: name of each.
        areas: float32 [K], in pixels.
        crowd, difficult: bool [K].
        shapes: their pixels, where all have a ``segmentation``.
        labels: of each, where all have ``label_values``.
    """

    boxes: np.ndarray
    classes: tuple[str, ...]
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    shapes: Shapes | None = None
    labels: tuple[tuple[int, ...], ...] | None = None


NO_OBJECTS = CocoObjects(
    np.zeros((0, 4), np.float32),
    (),
    np.zeros(0, np.float32),
    np.zeros(0, bool),
    np.zeros(0, bool),
    pack_segmentations([], (1, 1), str),
)
"""Of an image without any."""


def coco_objects(
    annotations: Sequence[Mapping[str, Any]],
    image: Mapping[str, Any],
    names: Mapping[int, str],
    file: str,
    lenient: bool,
) -> CocoObjects:
    """What the annotations of an image say.

    Args:
        annotations: of the image.
        image: its entry.
        names: of the categories, by id.
        file: begins messages.
        lenient: see :func:`~caffe_compat.datasets.coco_file.read_coco`.

    Raises:
        DataError: a class, box or number that cannot be used.
    """
    size = (image["height"], image["width"])

    def where(k: int) -> str:
        return f"{file}: image {image['id']} ({image['file_name']}), annotation {annotations[k].get('id')}"

    for k, annotation in enumerate(annotations):
        if whole(annotation, "category_id", where(k)) not in names:
            raise DataError(f"{where(k)}: no category has the id {annotation['category_id']}")

    def where_box(k: int) -> str:
        return f"{where(k)} ({names[annotations[k]['category_id']]})"

    corners = _corners([annotation.get("bbox") for annotation in annotations], where_box)
    boxes, kept = _boxes(corners, size, where_box, lenient)
    areas = np.array(
        [
            _number(annotation["area"], "area", where, k) if "area" in annotation else corners[k, 2] * corners[k, 3]
            for k, annotation in enumerate(annotations)
        ]
    )
    kept &= areas > 0
    flags = [
        [_flag(annotation, field, where, k) for k, annotation in enumerate(annotations)]
        for field in ("iscrowd", "difficult")
    ]
    chosen = np.flatnonzero(kept).tolist()
    return CocoObjects(
        boxes=boxes[kept].astype(np.float32),
        classes=tuple(names[annotations[k]["category_id"]] for k in chosen),
        areas=areas[kept].astype(np.float32),
        crowd=np.array(flags[0], bool)[kept],
        difficult=np.array(flags[1], bool)[kept],
        shapes=_shapes([annotations[k].get("segmentation") for k in chosen], size, lambda k: where(chosen[k]), lenient),
        labels=_labels([annotations[k].get("label_values") for k in chosen], lambda k: where(chosen[k])),
    )


def _corners(values: list[Any], where: Where) -> np.ndarray:
    """x y width height: float64 [K, 4]."""
    try:
        found = np.array(values)
    except (ValueError, OverflowError):  # of different lengths
        found = np.zeros(0)
    if found.shape == (len(values), 4) and found.dtype.kind in "if" and (np.abs(found) < _LARGEST).all():
        return found.astype(float)
    for k, value in enumerate(values):
        if not isinstance(value, list) or len(value) != 4:
            raise DataError(f"{where(k)}: bbox is {value!r}, expected [x, y, width, height]")
        for part in value:
            _number(part, "bbox", where, k)
    raise DataError(f"{where(0)}: bbox is {values[0]!r}, expected four numbers")


def _boxes(corners: np.ndarray, size: tuple[int, int], where: Where, lenient: bool) -> tuple[np.ndarray, np.ndarray]:
    """x1 y1 x2 y2 from 0, and which are boxes: float64 [K, 4], bool [K]."""
    low, extent, sides = corners[:, :2], corners[:, 2:], np.array(size[::-1], float)
    none = ((extent <= 0) | (low >= sides) | (low + extent <= 0)).any(1)
    beyond = ((low <= -1) | (low + extent >= sides + 1)).any(1)
    if not lenient and (none | beyond).any():
        k = int((none | beyond).argmax())
        why = "empty, reversed or outside" if none[k] else "a pixel or more beyond"
        box = ", ".join(f"{value:g}" for value in corners[k])
        raise DataError(
            f"{where(k)}: bbox [x, y, width, height] is [{box}]: {why} the {size[1]} x {size[0]} pixels of its image"
        )
    high = np.maximum(np.minimum(sides - 1, low + np.maximum(extent - 1, 0)), 0)
    return np.concatenate([np.minimum(np.maximum(low, 0), high), high], 1), ~none


def _shapes(values: list[Any], size: tuple[int, int], where: Where, lenient: bool) -> Shapes | None:
    if not all(values):
        return None
    if lenient:
        values = [
            [part for part in value if not isinstance(part, list) or len(part) >= 6]
            if isinstance(value, list)
            else value
            for value in values
        ]
    return pack_segmentations(values, size, where)


def _labels(values: list[Any], where: Where) -> tuple[tuple[int, ...], ...] | None:
    for k, value in enumerate(values):
        if value is not None and not (
            isinstance(value, list) and value and all(type(number) is int for number in value)
        ):
            raise DataError(f"{where(k)}: label_values are {value!r}, expected a list of whole numbers")
    return None if None in values else tuple(map(tuple, values))


def whole(entry: Mapping[str, Any], field: str, where: str) -> int:
    """A field that is a whole number.

    Raises:
        DataError: it is not, or not there.
    """
    value = entry.get(field)
    if type(value) is not int:
        raise DataError(f"{where}: {field} is {value!r}, expected a whole number")
    return value


def _number(value: Any, field: str, where: Where, k: int) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) >= _LARGEST:
        raise DataError(f"{where(k)}: {field} has {value!r}, expected a finite number")
    return float(value)


def _flag(annotation: Mapping[str, Any], field: str, where: Where, k: int) -> bool:
    value = annotation.get(field, 0)
    if value not in (0, 1) or isinstance(value, float):
        raise DataError(f"{where(k)}: {field} is {value!r}, expected 0 or 1")
    return bool(value)
