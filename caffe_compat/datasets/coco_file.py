"""COCO's json of images and objects, read whole and checked; objects in :mod:`~caffe_compat.datasets.coco_objects`."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caffe_compat.datasets.coco_objects import CocoObjects, coco_objects, whole
from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, nearest
from caffe_compat.media.sizes import check_size

__all__ = ["CocoFile", "depth_files", "image_files", "read_coco"]

_LARGEST = 1 << 20
"""Pixels that a side of an image may have."""


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
    with _no_collector():
        return _read(os.fspath(path), read_json(path, "COCO-style json"), split, lenient)


def _read(name: str, document: Any, split: str | None, lenient: bool) -> CocoFile:
    if not isinstance(document, dict):
        raise DataError(f"{name}: not COCO-style: a {type(document).__name__}, expected images and categories")
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
    taken = [key for key in chosen if key in grouped]
    objects = {key: coco_objects(grouped[key], chosen[key], names, name, lenient) for key in taken}
    return CocoFile(name, classes, ids, list(chosen.values()), objects, labelled)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector looks at all objects again and again while millions are made: two thirds of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _group(
    annotations: list[dict[str, Any]], images: dict[int, dict[str, Any]], name: str
) -> dict[int, list[dict[str, Any]]]:
    """Annotations by image."""
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: set[int] = set()
    for annotation in annotations:
        image_id = whole(annotation, "image_id", f"{name}: annotation {annotation.get('id')}")
        if image_id not in images:
            raise DataError(f"{name}: annotation {annotation.get('id')}: no image has the id {image_id}")
        if "id" in annotation:
            number = whole(annotation, "id", f"{name}: annotation of image {image_id}")
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


def image_files(path: str | os.PathLike[str], split: str | None = None) -> list[Path]:
    """The colour pictures of a COCO-style json, beside the json.

    Args:
        path: the file.
        split: only images whose entry has this ``split``; None: all.

    Raises:
        MissingFileError, DataError: as :func:`read_coco`.
    """
    return [Path(path).parent / entry["file_name"] for entry in read_coco(path, split, lenient=True).images]


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
        key, text = whole(entry, "id", where), entry.get("name")
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
        key = whole(entry, "id", where)
        if not isinstance(file, str) or "\0" in file or os.path.basename(file) in ("", ".", ".."):
            raise DataError(f"{where}: file_name is {file!r}, expected the name of a file")
        for side in ("width", "height"):
            if not 1 <= whole(entry, side, where) <= _LARGEST:
                raise DataError(f"{where}: {side} is {entry[side]}, expected 1 to {_LARGEST} pixels")
        check_size(entry["height"], entry["width"], where)
        if key in images:
            raise DataError(f"{where}: image {images[key]['file_name']} has the id {key} too")
        images[key] = entry
    return images
