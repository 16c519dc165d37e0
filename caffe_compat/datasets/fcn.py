"""Folders of the data sets that fully convolutional networks were trained on, one picture with its labels at a time.

What ``voc_layers.py``, ``nyud_layers.py``, ``siftflow_layers.py`` and ``pascalcontext_layers.py`` of
shelhamer/fcn.berkeleyvision.org read.  Labels become uint8, and 0 less 1 is 255, the number to ignore.
"""

from __future__ import annotations

import dataclasses
import os
import random
import threading
from collections.abc import Callable, Sequence

import numpy as np

from caffe_compat.batches.reader import New, Reader
from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.pictures import read_labels
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.files import open_existing
from caffe_compat.media import read_picture

__all__ = [
    "DrawnOrder",
    "FolderReader",
    "Part",
    "context_labels",
    "context_table",
    "depth_picture",
    "map_labels",
    "picture",
    "png_labels",
    "read_names",
    "sbdd_labels",
]


@dataclasses.dataclass(frozen=True)
class Part:
    """One blob of a sample.

    Args:
        pattern: path of its file, with ``{}`` for the name of the sample.
        read: makes the blob (channels, height, width) of a path; pickled for worker processes.
    """

    pattern: str
    read: Callable[[str], np.ndarray]

    def path(self, name: str) -> str:
        """The file of a sample."""
        return self.pattern.replace("{}", name)


@dataclasses.dataclass(frozen=True, eq=False)
class FolderReader(Reader[str]):
    """Blobs (1, channels, height, width) of the sample of a name, all of one height and width."""

    who: str
    parts: Sequence[Part]

    def read(self, job: str, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        blobs: list[np.ndarray] = []
        for part in self.parts:
            try:
                made = part.read(part.path(job))
            except CaffeCompatError as error:
                raise self.error(str(error)) from error
            if made.shape[1:] != (first := blobs[0].shape[2:] if blobs else made.shape[1:]):
                raise self.error(
                    f"{part.path(job)} has {list(made.shape[1:])} pixels, {self.parts[0].path(job)} {list(first)}"
                )
            blob = new((1, *made.shape))
            blob[0] = made
            blobs.append(blob)
        return tuple(blobs)

    def about(self, job: str) -> str:
        """As :meth:`Reader.about`."""
        return self.parts[0].path(job)


class DrawnOrder:
    """Which of ``count`` samples comes as the ``index``-th where each is drawn from all: with replacement.

    The numbers are those of Python 2's ``random.seed(seed)`` and ``random.randint(0, count - 1)``, which those layers
    ran under: the integer part of ``random() * count``.  (Python 3's ``randint`` draws others.)
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, random.Random(seed)
        self._drawn: list[int] = []
        self._lock = threading.Lock()

    def __getitem__(self, index: int) -> int:
        with self._lock:
            while len(self._drawn) <= index:
                self._drawn.append(int(self._random.random() * self._count))
            return self._drawn[index]


def read_names(path: str) -> list[str]:
    """The lines of a split's file.

    Raises:
        MissingFileError: no such file.
        DataError: it is empty, or a line is.
    """
    with open_existing(path) as stream:
        lines = os.fsdecode(stream.read()).splitlines()
    if not lines:
        raise DataError(f"{path}: the list is empty, expected names of pictures")
    if not all(lines):
        raise DataError(f"{path}, line {lines.index('') + 1}: is empty, expected the name of a picture")
    return lines


def picture(path: str, mean: np.ndarray, rgb: bool = False) -> np.ndarray:
    """A picture less the mean, float32 [3, H, W], in BGR or as the file has it.

    The difference is made in the type of the mean, and rounded to float32.
    """
    found = read_picture(path)
    values = np.subtract(found[..., ::-1] if rgb else found, mean)
    return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)


def depth_picture(path: str, mean: np.ndarray) -> np.ndarray:
    """The logarithm of depths, less its mean: float32 [1, H, W].

    Raises:
        DataError: a depth is not above 0.
    """
    depth = read_labels(path).astype(np.float32)
    if not (depth > 0).all():
        raise DataError(f"{path}: {int((depth <= 0).sum())} pixels have the depth 0, which has no logarithm")
    values: np.ndarray = np.log(depth) - mean
    return values[None]


def png_labels(path: str) -> np.ndarray:
    """The numbers of a palette's colours: uint8 [1, H, W]."""
    return read_labels(path).astype(np.uint8)[None]


def sbdd_labels(path: str) -> np.ndarray:
    """``GTcls.Segmentation`` of a .mat file: uint8 [1, H, W]."""
    classes = read_mat(path, ["GTcls"])["GTcls"]
    if not isinstance(classes, dict) or "Segmentation" not in classes:
        raise DataError(f"{path}: GTcls has no field 'Segmentation'")
    return _whole(path, "GTcls.Segmentation", classes["Segmentation"]).astype(np.uint8)[None]


def map_labels(path: str, variable: str, void: int = 0) -> np.ndarray:
    """A variable of a .mat file less 1, modulo 256: uint8 [1, H, W].

    Args:
        void: a number that stands for 0 as well.
    """
    values = _whole(path, variable, read_mat(path, [variable])[variable])
    return (np.where(values == void, 0, values) - 1).astype(np.uint8)[None]


def context_table(folder: str) -> np.ndarray:
    """Which of the 59 classes (from 1; 0: none) each of PASCAL-Context's labels (from 1) is: uint8.

    Source: ``labels.txt`` and ``59_labels.txt``, lines ``number: name``; three of the classes have other names there.

    Raises:
        MissingFileError: a file is not there.
        DataError: a class is not among the labels.
    """
    path = f"{folder}/labels.txt"
    labels = _named(path)
    names = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
    table = np.zeros(len(labels) + 1, np.uint8)
    classes = _named(f"{folder}/59_labels.txt")
    if len(classes) > 255:
        raise DataError(f"{folder}/59_labels.txt: has {len(classes)} classes, expected at most 255")
    for number, name in enumerate(classes, 1):
        name = names.get(name, name)
        if name not in labels:
            raise DataError(f"{folder}/59_labels.txt: '{name}' is none of the labels in {path}")
        table[labels.index(name) + 1] = number
    return table


def context_labels(path: str, table: np.ndarray) -> np.ndarray:
    """``LabelMap`` of a .mat file by the table: uint8 [1, H, W]; labels outside it are 0."""
    values = _whole(path, "LabelMap", read_mat(path, ["LabelMap"])["LabelMap"])
    known = (values >= 0) & (values < len(table))
    found: np.ndarray = table[np.where(known, values, 0)]
    return found[None]


def _named(path: str) -> list[str]:
    """The names, without blanks, of lines ``number: name``."""
    names = []
    for number, line in enumerate(read_names(path), 1):
        _, colon, name = line.partition(":")
        if not colon:
            raise DataError(f"{path}, line {number}: {line!r}, expected 'number: name'")
        names.append(name.replace(" ", ""))
    return names


def _whole(path: str, name: str, values: object) -> np.ndarray:
    """Whole numbers [H, W] out of a variable."""
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "buif":
        raise DataError(f"{path}: {name} is no array of numbers [height, width]")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise DataError(f"{path}: {name} holds numbers that are not whole")
    return values.astype(np.int64)
