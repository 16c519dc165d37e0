"""Image databases of COCO-style json: COCO's own, and one's own pictures of one or several modalities."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.coco_file import CocoFile, read_coco
from caffe_compat.datasets.coco_objects import NO_OBJECTS, CocoObjects
from caffe_compat.datasets.imdb import FileProposals, ImageDatabase, register_imdb
from caffe_compat.datasets.masks import coco_masks, label_masks
from caffe_compat.datasets.pictures import Pictures, check_names
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError, nearest

__all__ = ["coco", "coco_json"]

METRICS = ("nyud2", "voc07", "voc", "coco")
PROPOSALS = "selective_search"
_OPTIONS = ("split", "metric", "classes")


@register_imdb(
    r"coco_(?:(?P<year>2014)_(?P<split>train|val|minival)|(?P<test_year>2015)_(?P<test>test|test-dev))",
    [
        *(f"coco_2014_{split}" for split in ("train", "val", "minival")),
        *(f"coco_2015_{split}" for split in ("test", "test-dev")),
    ],
)
def coco(root: Path, year: str | None, split: str | None, test_year: str | None, test: str | None) -> ImageDatabase:
    """COCO in ``data/coco``, laid out as Fast R-CNN's branch ``coco`` has it.

    ``annotations/instances_SPLIT2014.json`` (tests: ``image_info_SPLIT2015.json``, images without boxes),
    ``images/{train2014,val2014,test2015}``, proposals ``proposals/selective_search/mat`` (the first 2,000 of an image).

    Raises:
        MissingFileError, DataError: files are missing (named) or cannot be used.
    """
    name = f"{split or test}{year or test_year}"
    folder = {"minival2014": "val2014", "test-dev2015": "test2015"}.get(name, name)
    base = root / "data" / "coco"
    found = read_coco(base / "annotations" / f"{'instances' if split else 'image_info'}_{name}.json", lenient=True)
    pictures = Pictures(base / "images" / folder, "COCO")
    records = _records(found, {"images": pictures}, labelled=split is not None)
    proposals = FileProposals(base / "proposals" / PROPOSALS / "mat", [record.name for record in records])
    title = f"coco_{year or test_year}_{split or test}"
    return ImageDatabase(title, found.classes, ("images",), records, proposals, "coco", found.category_ids)


@register_imdb(
    r"coco:(?P<path>.+?\.json)(?P<options>(?:,[^,]+)*)",
    ["coco:PATH.json", "coco:PATH.json,split=NAME,images=FOLDER,hha=FOLDER"],
)
def coco_json(root: Path, path: str, options: str) -> ImageDatabase:
    """Pictures of one's own with a COCO-style json.

    Options after the path, separated by commas: ``split=NAME`` (images whose entry has it as ``split``),
    ``metric=RULE`` (``coco`` if not given), ``classes=NAME+NAME`` (only these, and only images all of whose objects are
    of them), and modalities in the order in which a net takes them: ``hha=FOLDER``, or
    ``hha`` where the images' entries name files beside the json.  Without any, there is one, ``images``.  All paths are
    as a shell has them.

    The picture of a modality is, in its folder, the file that the image's entry names under the modality's name (for
    ``images`` also ``file_name``).  Where there is none, and a folder was given, it is the one with the stem of
    ``file_name``, with or without its folders, or with the stem of the entry's ``depth``, after which ``make_hha``
    calls what it makes.

    Masks come from ``segmentation``, or from ``label_values`` of annotations and a picture ``label`` of the image.

    Args:
        root: not looked at.
        path, options: from the name.

    Raises:
        UsageError: options that cannot be understood.
        MissingFileError, DataError: the json or pictures (named) are missing or cannot be used.
    """
    path = os.path.expanduser(path)
    chosen, folders = _options(options, path)
    found = read_coco(path, chosen.get("split"))
    if "classes" in chosen:
        found = _only(found, tuple(chosen["classes"].split("+")))
    here = Path(path).parent
    pictures = {
        kind: Pictures(folder or here, f"{path}: modality {kind}", only_named=not folder and kind != "images")
        for kind, folder in folders.items()
    }
    records = _records(found, pictures, found.labelled)
    check_names(records, path)
    parts = (here.resolve().name, Path(path).stem, "+".join(folders), chosen.get("classes"), chosen.get("split"))
    name = re.sub(r"[^\w.+-]+", "_", "_".join(part for part in parts if part))
    metric = chosen.get("metric", "coco")
    return ImageDatabase(name, found.classes, tuple(folders), records, None, metric, found.category_ids)


def _options(text: str, path: str) -> tuple[dict[str, str], dict[str, str]]:
    """Options, and folders of modalities (empty for the json's own)."""
    chosen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for part in text.split(",")[1:]:
        key, equals, value = part.partition("=")
        target = chosen if key in _OPTIONS else folders
        if not re.fullmatch(r"[\w.-]+", key) or (not value and (equals or key in _OPTIONS)):
            known = "split=NAME, metric=RULE, classes=NAME+NAME, MODALITY=FOLDER or MODALITY"
            raise UsageError(f"coco:{path}: '{part}', expected {known}")
        if key in target:
            raise UsageError(f"coco:{path}: {key} is given twice")
        target[key] = os.path.expanduser(value)
    metric = chosen.get("metric", METRICS[0])
    if metric not in METRICS:
        raise UsageError(f"coco:{path}: metric '{metric}'{nearest(metric, METRICS)}, expected {', '.join(METRICS)}")
    return chosen, folders or {"images": ""}


def _only(found: CocoFile, classes: tuple[str, ...]) -> CocoFile:
    """The images all of whose objects are of some classes, with these only, in the order given."""
    numbers = dict(zip(found.classes, found.category_ids, strict=True))
    for name in classes:
        if name not in numbers:
            raise DataError(f"{found.path}: no class '{name}'{nearest(name, numbers)}; it has {', '.join(numbers)}")
    if len(set(classes)) < len(classes):
        raise UsageError(f"coco:{found.path}: classes={'+'.join(classes)}: a class is given twice")
    others = {key for key, objects in found.objects.items() if set(objects.classes) - set(classes)}
    images = [entry for entry in found.images if entry["id"] not in others]
    if not images:
        raise DataError(f"{found.path}: no image has only objects of {', '.join(classes)}")
    ids = tuple(numbers[name] for name in classes)
    return dataclasses.replace(found, classes=classes, category_ids=ids, images=images)


def _records(found: CocoFile, pictures: Mapping[str, Pictures], labelled: bool) -> list[FrameRecord]:
    records = []
    for entry in found.images:
        name = _plain(entry["file_name"])
        paths = {kind: _path(entry, kind, folder, found.path) for kind, folder in pictures.items()}
        if len({*paths.values()} - {""}) < len([path for path in paths.values() if path]):
            raise DataError(f"{found.path}: image {entry['id']}: one file for several modalities: {paths}")
        size = (entry["height"], entry["width"])
        objects = found.objects.get(entry["id"], NO_OBJECTS) if labelled else None
        if objects is None:
            records.append(FrameRecord(name=name, paths=paths, size=size, id=entry["id"]))
            continue
        records.append(
            FrameRecord(
                name=name,
                paths=paths,
                size=size,
                boxes=objects.boxes,
                classes=objects.classes,
                difficult=objects.difficult,
                crowd=objects.crowd,
                masks=_masks(entry, objects, size, found.path),
                areas=objects.areas,
                id=entry["id"],
            )
        )
    for kind, folder in pictures.items():
        folder.check()
        owners: dict[str, str] = {}
        for record in records:
            other = owners.setdefault(record.paths[kind], record.name)
            if other != record.name:
                raise DataError(f"{found.path}: {record.paths[kind]} would be {kind} of {other} and of {record.name}")
    return records


def _path(entry: dict[str, Any], kind: str, pictures: Pictures, path: str) -> str:
    """The picture of a modality; an empty string, and noted, if there is none."""
    name = entry.get(kind, entry["file_name"] if kind == "images" else None)
    if name is not None and not isinstance(name, str):
        raise DataError(f"{path}: image {entry['id']} ({entry['file_name']}): {kind} is {name!r}, expected a file")
    if name is None and pictures.only_named:
        raise DataError(
            f"{path}: image {entry['id']} ({entry['file_name']}): no '{kind}'; say where they are: {kind}=FOLDER"
        )
    others = [entry["file_name"], entry["depth"]] if isinstance(entry.get("depth"), str) else [entry["file_name"]]
    stems = [os.path.splitext(other)[0] for other in others]
    tried = [stem for pair in stems for stem in (pair, os.path.basename(pair))]
    return pictures.find(name, list(dict.fromkeys(tried)))


def _masks(
    entry: dict[str, Any], objects: CocoObjects, size: tuple[int, int], path: str
) -> Callable[[], np.ndarray] | None:
    if objects.shapes is not None:
        return partial(coco_masks, objects.shapes, size, f"{path}: image {entry['id']} ({entry['file_name']})")
    if objects.labels is not None and isinstance(entry.get("label"), str):
        return partial(label_masks, os.path.join(os.path.dirname(path), entry["label"]), objects.labels, size)
    return None


def _plain(file_name: str) -> str:
    """A name that is a path below any folder: without ending, root and ``..``."""
    return "/".join(part for part in os.path.splitext(file_name)[0].split("/") if part not in ("", ".", ".."))
