"""COCO's json of images and objects: read whole, checked, and kept small.

A box is ``[x, y, width, height]``, x and y from 0.  Here it becomes x1 = max(0, x),
x2 = min(W - 1, x + max(0, width - 1)), as in Fast R-CNN's branch ``coco`` (rows alike): it may reach less than a pixel
out of its image, and is cut there.  Annotations with an area of 0 are left out, as there.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.masks import Shape, pack_segmentation
from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, nearest

__all__ = ["NO_OBJECTS", "CocoFile", "CocoObjects", "depth_files", "read_coco"]

_LARGEST = 1 << 20
"""Pixels that a side of an image may have."""


@dataclasses.dataclass(frozen=True, eq=False)
class CocoObjects:
    """The objects of an image.

    Args:
        boxes: float32 [K, 4], x1 y1 x2 y2 from 0, last pixel included.
        classes: name of each.
        areas: float32 [K], in pixels.
        crowd, difficult: bool [K].
        shapes: of each, where all have one.
        labels: of each, where all have such (``label_values``).
    """

    boxes: np.ndarray
    classes: tuple[str, ...]
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    shapes: tuple[Shape, ...] | None
    labels: tuple[tuple[int, ...], ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class CocoFile:
    """What a file holds.

    Args:
        path: the file.
        classes: names in the order of their ids.
        category_ids: of the classes.
        images: their entries in the file's order; ``id``, ``file_name``, ``width`` and ``height`` are checked.
        objects: by image id; an image that has none is not there.
        labelled: whether the file has annotations at all.
    """

    path: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: list[dict[str, Any]]
    objects: dict[int, CocoObjects]
    labelled: bool


def read_coco(path: str | os.PathLike[str], split: str | None = None, lenient: bool = False) -> CocoFile:
    """Read a file such as ``instances_val2014.json``, or one of images only such as ``image_info_test2015.json``.

    Args:
        path: the file.
        split: only images whose entry has this ``split``; None: all.
        lenient: boxes that reach a pixel or more out of their image are cut, empty and reversed ones and polygons of
            two points left out, instead of refused: COCO's own files may have some of each.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; an id, class, box or number that cannot be used.  Names image and annotation.
    """
    name, document = os.fspath(path), read_json(path, "COCO-style json")
    if not isinstance(document, dict):
        raise DataError(
            f"{name}: not COCO-style: a {type(document).__name__}, expected images, annotations, categories"
        )
    ids, classes = _categories(_entries(document, "categories", name), name)
    images = _images(_entries(document, "images", name), name)
    chosen = {number: image for number, image in images.items() if split is None or image.get("split") == split}
    if not chosen:
        splits = sorted({str(image["split"]) for image in images.values() if "split" in image})
        has = f"splits {', '.join(splits)}{nearest(split or '', splits)}" if splits else "images without 'split'"
        raise DataError(f"{name}: " + ("no images" if split is None else f"no image of split '{split}', it has {has}"))
    labelled = "annotations" in document
    grouped = _group(_entries(document, "annotations", name), images, name) if labelled else {}
    names = dict(zip(ids, classes, strict=True))
    objects = {
        key: _objects(grouped[key], image, names, name, lenient) for key, image in chosen.items() if key in grouped
    }
    return CocoFile(name, classes, ids, list(chosen.values()), objects, labelled)


def _group(
    annotations: list[dict[str, Any]], images: dict[int, dict[str, Any]], name: str
) -> dict[int, list[dict[str, Any]]]:
    """Annotations by image."""
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: set[int] = set()
    for annotation in annotations:
        image_id = _whole(annotation, "image_id", f"{name}: annotation {annotation.get('id')}")
        if image_id not in images:
            raise DataError(f"{name}: annotation {annotation.get('id')}: no image has the id {image_id}")
        if "id" in annotation:
            number = _whole(annotation, "id", f"{name}: annotation of image {image_id}")
            if number in seen:
                raise DataError(f"{name}: two annotations have the id {number}")
            seen.add(number)
        grouped[image_id].append(annotation)
    return grouped


def depth_files(path: str | os.PathLike[str]) -> list[Path]:
    """The depth files that the images of a COCO-style json name as their ``depth``, beside the json.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, or an image without one.
    """
    name, document = os.fspath(path), read_json(path, "COCO-style json")
    entries = _entries(document if isinstance(document, dict) else {}, "images", name)
    for entry in entries:
        depth = entry.get("depth")
        if not isinstance(depth, str) or not depth or "\0" in depth:
            raise DataError(
                f"{name}: image {entry.get('id')} ({entry.get('file_name')}): depth is {depth!r}, not a file"
            )
    if not entries:
        raise DataError(f"{name}: no images")
    return [Path(path).parent / entry["depth"] for entry in entries]


def _entries(document: dict[str, Any], field: str, name: str) -> list[dict[str, Any]]:
    entries = document.get(field)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        has = ", ".join(list(document)[:8]) or "nothing"
        raise DataError(f"{name}: not COCO-style: no list '{field}' of objects; it has {has}")
    return entries


def _categories(entries: list[dict[str, Any]], name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names: dict[int, str] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{name}: category {number}"
        key, text = _whole(entry, "id", where), entry.get("name")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where} (id {key}): its name is {text!r}, expected text")
        if key in names or text in names.values():
            raise DataError(f"{where}: another category has the id {key} or the name '{text}' too")
        names[key] = text
    if not names:
        raise DataError(f"{name}: no categories")
    ids = tuple(sorted(names))
    return ids, tuple(names[key] for key in ids)


def _images(entries: list[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(entries, start=1):
        file = entry.get("file_name")
        where = f"{name}: image {entry.get('id')} ({file})" if "id" in entry else f"{name}: entry {number} of images"
        key = _whole(entry, "id", where)
        if not isinstance(file, str) or "\0" in file or os.path.basename(file) in ("", ".", ".."):
            raise DataError(f"{where}: file_name is {file!r}, expected the name of a file")
        for side in ("width", "height"):
            if not 1 <= _whole(entry, side, where) <= _LARGEST:
                raise DataError(f"{where}: {side} is {entry[side]}, expected 1 to {_LARGEST} pixels")
        if key in images:
            raise DataError(f"{where}: image {images[key]['file_name']} has the id {key} too")
        images[key] = entry
    return images


def _objects(
    annotations: list[dict[str, Any]], image: dict[str, Any], names: dict[int, str], file: str, lenient: bool
) -> CocoObjects:
    size = (image["height"], image["width"])
    kept: list[tuple[Any, ...]] = []
    for annotation in annotations:
        where = f"{file}: image {image['id']} ({image['file_name']}), annotation {annotation.get('id')}"
        category = _whole(annotation, "category_id", where)
        if category not in names:
            raise DataError(f"{where}: no category has the id {category}")
        box = _box(annotation.get("bbox"), size, f"{where} ({names[category]})", lenient)
        area = _number(annotation.get("area", None if box is None else _area(annotation["bbox"])), "area", where)
        if box is None or area <= 0:
            continue
        crowd, difficult = (_flag(annotation, field, where) for field in ("iscrowd", "difficult"))
        kept.append((box, names[category], area, crowd, difficult, *_shape(annotation, size, where, lenient)))
    return _gather(kept)


def _gather(kept: list[tuple[Any, ...]]) -> CocoObjects:
    columns = list(zip(*kept, strict=True)) if kept else [()] * 7
    boxes, classes, areas, crowd, difficult, shapes, labels = columns
    return CocoObjects(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=tuple(classes),
        areas=np.array(areas, np.float32),
        crowd=np.array(crowd, bool),
        difficult=np.array(difficult, bool),
        shapes=None if None in shapes else tuple(shapes),
        labels=None if None in labels else tuple(labels),
    )


NO_OBJECTS = _gather([])
"""Of an image without any."""


def _area(box: list[float]) -> float:
    return box[2] * box[3]


def _shape(annotation: dict[str, Any], size: tuple[int, int], where: str, lenient: bool) -> tuple[Any, Any]:
    """Its segmentation and its labels, each None if not given."""
    segmentation, values = annotation.get("segmentation"), annotation.get("label_values")
    if lenient and isinstance(segmentation, list):
        segmentation = [points for points in segmentation if not isinstance(points, list) or len(points) >= 6]
    shape = pack_segmentation(segmentation, size, where) if segmentation else None
    if values is None:
        return shape, None
    if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
        raise DataError(f"{where}: label_values are {values!r}, expected a list of whole numbers")
    return shape, tuple(values)


def _box(value: Any, size: tuple[int, int], where: str, lenient: bool) -> tuple[float, ...] | None:
    """x1 y1 x2 y2; None for one that is left out."""
    if not isinstance(value, list) or len(value) != 4:
        raise DataError(f"{where}: bbox is {value!r}, expected [x, y, width, height]")
    x, y, width, height = (_number(part, "bbox", where) for part in value)
    right, bottom = size[1], size[0]
    if width <= 0 or height <= 0 or x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        if lenient:
            return None
        raise DataError(f"{where}: bbox [x, y, width, height] is {value}: empty, reversed or outside {_pixels(size)}")
    if not lenient and (x <= -1 or y <= -1 or x + width >= right + 1 or y + height >= bottom + 1):
        raise DataError(f"{where}: bbox [x, y, width, height] is {value}: a pixel or more beyond {_pixels(size)}")
    x2, y2 = min(right - 1.0, x + max(0.0, width - 1)), min(bottom - 1.0, y + max(0.0, height - 1))
    x2, y2 = max(0.0, x2), max(0.0, y2)
    return min(max(0.0, x), x2), min(max(0.0, y), y2), x2, y2


def _pixels(size: tuple[int, int]) -> str:
    return f"the {size[1]} x {size[0]} pixels of its image"


def _whole(entry: dict[str, Any], field: str, where: str) -> int:
    value = entry.get(field)
    if type(value) is not int:
        raise DataError(f"{where}: {field} is {value!r}, expected a whole number")
    return value


def _number(value: Any, field: str, where: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e12:
        raise DataError(f"{where}: {field} has {value!r}, expected a finite number")
    return float(value)


def _flag(annotation: dict[str, Any], field: str, where: str) -> bool:
    value = annotation.get(field, 0)
    if value not in (0, 1) or isinstance(value, float):
        raise DataError(f"{where}: {field} is {value!r}, expected 0 or 1")
    return bool(value)
