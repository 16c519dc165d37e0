"""Files of class names, a line each."""

from __future__ import annotations

import os

from caffe_compat.datasets import CLASSES, find_imdb
from caffe_compat.datasets.voc import VOC_CLASSES
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["NAMED", "detector_classes", "read_class_names"]

NAMED = {"nyud2": CLASSES, "voc": VOC_CLASSES}
"""Lists of classes that have a name."""


def read_class_names(path: str) -> tuple[str, ...]:
    """Names of classes, in the order of a net's output; blank lines are left out.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not text in UTF-8, or holds no name.
    """
    with open_existing(path, "class names") as stream:
        try:
            lines = stream.read().decode().splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not text in UTF-8, expected a class name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: holds no class name, expected one a line")
    return names


def detector_classes(text: str) -> tuple[str, ...]:
    """Classes that a detector tells apart, without the background.

    Args:
        text: ``nyud2``, ``voc``, ``coco:PATH.json,..``, or a file of names.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not text in UTF-8, holds no name, or one twice.
    """
    if text in NAMED and not os.path.exists(text):
        return tuple(NAMED[text])
    if text.startswith("coco:"):
        return tuple(find_imdb(text).classes)
    names = tuple(name for name in read_class_names(text) if name != BACKGROUND)
    if not names or len(set(names)) < len(names):
        raise DataError(f"{text}: has {len(names)} class names, {len(set(names))} different; expected one a line")
    return names
