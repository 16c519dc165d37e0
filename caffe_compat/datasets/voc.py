"""PASCAL VOC 2007 and 2012, laid out as Fast R-CNN expects them.

::

    data/VOCdevkit2007/VOC2007/ImageSets/Main/SPLIT.txt     names, one a line
    data/VOCdevkit2007/VOC2007/JPEGImages/NAME.jpg
    data/VOCdevkit2007/VOC2007/Annotations/NAME.xml         boxes from 1; VOC 2012 has none for its test images
    data/VOCdevkit2007/VOC2007/SegmentationObject/NAME.png  of some images: number of the object at each pixel
    data/selective_search_data/voc_2007_SPLIT.mat           proposals ("fast" mode)
    data/selective_search_IJCV_data/voc_2007/NAME.mat       the same for names that end in _top_K ("quality" mode)
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from caffe_compat.datasets.imdb import FileProposals, ImageDatabase, register_imdb
from caffe_compat.datasets.masks import label_masks
from caffe_compat.datasets.pictures import Pictures, check_names, picture_size
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, nearest, one_line
from caffe_compat.files import open_existing

__all__ = ["VOC_CLASSES", "read_voc_xml", "voc"]

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_SPLITS = ("train", "val", "trainval", "test")
_LARGEST = 1 << 20


@register_imdb(
    r"voc_(?P<year>2007|2012)_(?P<split>train|val|trainval|test)(?:_top_(?P<top>[1-9]000|10000))?",
    [
        *(f"voc_{year}_{split}" for year in (2007, 2012) for split in _SPLITS),
        "voc_2007_trainval_top_2000",
    ],
)
def voc(root: Path, year: str, split: str, top: str | None) -> ImageDatabase:
    """VOC 2007 and 2012 in ``data/VOCdevkit2007`` and ``data/VOCdevkit2012``, evaluated at 11 points and at all.

    Args:
        root: the folder that holds ``data/``.
        year, split: from the name.
        top: so many of the proposals of selective search's "quality" mode; None: all of its "fast" mode.

    Raises:
        MissingFileError, DataError: files are missing (named) or cannot be used.
    """
    name = f"voc_{year}_{split}"
    base = root / "data" / f"VOCdevkit{year}" / f"VOC{year}"
    names = _names(base / "ImageSets" / "Main" / f"{split}.txt")
    pictures = Pictures(base / "JPEGImages", name)
    paths = {image: pictures.find(f"{image}.jpg", ()) for image in names}
    pictures.check()
    hidden = year == "2012" and split == "test" and not (base / "Annotations" / f"{names[0]}.xml").exists()
    if hidden:
        records = [
            FrameRecord(name=image, paths={"images": path}, size=picture_size(path)) for image, path in paths.items()
        ]
    else:
        records = [read_voc_xml(base / "Annotations" / f"{image}.xml", path) for image, path in paths.items()]
        folder = base / "SegmentationObject"
        segmented = set(os.listdir(folder)) if folder.is_dir() else set()
        records = [_with_masks(one, folder) if f"{one.name}.png" in segmented else one for one in records]
    data = root / "data"
    if top is None:
        proposals = FileProposals(data / "selective_search_data" / f"{name}.mat", names)
    else:
        proposals = FileProposals(data / "selective_search_IJCV_data" / f"voc_{year}", names, int(top))
    title = name if top is None else f"{name}_top_{top}"
    metric = "voc07" if year == "2007" else "voc"
    return ImageDatabase(title, VOC_CLASSES, ("images",), records, proposals, metric)


def _with_masks(record: FrameRecord, folder: Path) -> FrameRecord:
    """Its objects have the numbers 1, 2, ... in the order of the annotation; one that is hidden has no pixels."""
    values = [(k + 1,) for k in range(len(record.classes or ()))]
    path, size = str(folder / f"{record.name}.png"), record.size or (0, 0)
    return dataclasses.replace(record, masks=partial(label_masks, path, values, size, True))


def _names(path: Path) -> list[str]:
    with open_existing(path, "names of images") as stream:
        names = stream.read().decode("utf-8", "replace").split("\n")
    names = [name.strip() for name in names if name.strip()]
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise DataError(f"{path}: '{name}', expected the name of an image on each line")
    if not names:
        raise DataError(f"{path}: names no images")
    check_names([FrameRecord(name) for name in names], str(path))
    return names


def read_voc_xml(path: str | os.PathLike[str], picture: str, classes: tuple[str, ...] = VOC_CLASSES) -> FrameRecord:
    """A frame from its annotation.

    A box that reaches a pixel out of its image is cut (0 counts as 1: some tools write boxes from 0); further out is an
    error.

    Args:
        path: of the xml.
        picture: of the image.
        classes: those that there are.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; a class, box or number that cannot be used.  Names the object, counted from 1.
    """
    name = os.fspath(path)
    with open_existing(path, "annotation of an image") as stream:
        content = stream.read()
    if b"<!ENTITY" in content:
        raise DataError(f"{name}: defines entities, which an annotation has no use for")
    try:
        tree = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name}: not XML: {one_line(error)}") from error
    size = (_whole(tree, "size/height", name, 1, _LARGEST), _whole(tree, "size/width", name, 1, _LARGEST))
    boxes, found, difficult = [], [], []
    for number, item in enumerate(tree.findall("object"), start=1):
        label = (item.findtext("name") or "").lower().strip()
        where = f"{name}: object {number} ({label})"
        if label not in classes:
            raise DataError(f"{where}: no such class{nearest(label, classes)}")
        boxes.append(_box(item, size, where))
        found.append(label)
        difficult.append(bool(_whole(item, "difficult", where, 0, 1)) if item.find("difficult") is not None else False)
    return FrameRecord(
        name=Path(path).stem,
        paths={"images": picture},
        size=size,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=tuple(found),
        difficult=np.array(difficult, bool),
    )


def _box(item: ElementTree.Element, size: tuple[int, int], where: str) -> list[float]:
    """x1 y1 x2 y2 from 0."""
    x1, y1, x2, y2 = (_number(item, f"bndbox/{side}", where) - 1 for side in ("xmin", "ymin", "xmax", "ymax"))
    height, width = size
    inside = -1 <= x1 <= x2 <= width and -1 <= y1 <= y2 <= height
    if not inside or x1 > width - 1 or y1 > height - 1 or x2 < 0 or y2 < 0:
        raise DataError(
            f"{where}: its box xmin ymin xmax ymax = {[x1 + 1, y1 + 1, x2 + 1, y2 + 1]} is inside out or not within "
            f"{width} columns and {height} rows (from 1)"
        )
    return [max(0.0, x1), max(0.0, y1), min(width - 1.0, x2), min(height - 1.0, y2)]


def _number(item: ElementTree.Element, field: str, where: str) -> float:
    text = item.findtext(field)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise DataError(f"{where}: {field} is {text!r}, expected a number")
    return value


def _whole(item: ElementTree.Element, field: str, where: str, least: int, most: int) -> int:
    value = _number(item, field, where)
    if value != int(value) or not least <= value <= most:
        raise DataError(f"{where}: {field} is {item.findtext(field)!r}, expected a whole number {least} to {most}")
    return int(value)
