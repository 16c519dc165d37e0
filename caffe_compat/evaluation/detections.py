"""What a detector found in a data set, and the files that hold it.

``detections.npz`` holds plain arrays, nothing in it is executed:

===========  ==========================================================================
array        holds
===========  ==========================================================================
boxes        float32 [M, 5], x1 y1 x2 y2 score; pixels from 0, last pixel included
class_index  int32 [M], position of each in ``classes``
image_index  int32 [M], position of each in ``images``
classes      names, without the background
images       names
===========  ==========================================================================

``detections.mat`` is the distillation branch's: ``all_boxes``, a cell array of classes (the first is the background,
and empty) by images, with ``classes`` and ``images`` beside it, which the branch does not write (and it calls its file
``detections.pkl.mat``).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe_compat.datasets.mat import read_mat, write_mat
from caffe_compat.datasets.npz import read_npz
from caffe_compat.datasets.pickles import is_pickle, read_pickle
from caffe_compat.errors import DataError, in_file
from caffe_compat.files import atomic_write, open_existing

__all__ = [
    "Detections",
    "as_arrays",
    "from_arrays",
    "from_lists",
    "read_detections",
    "write_detections",
    "write_detections_mat",
]

PathLike = str | os.PathLike[str]

BACKGROUND = "__background__"
"""What the branch calls class 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Boxes and scores of every class in every image.

    Args:
        classes: names, without the background.
        images: names.
        boxes: ``boxes[c][i]`` float32 [n, 5]: x1 y1 x2 y2 score, of ``classes[c]`` in ``images[i]``; pixels from 0,
            last pixel included.

    Raises:
        DataError: names that are there twice, arrays of other counts or shapes, numbers that are not finite; names the
            class and the image.  (Boxes inside out are left to the evaluation: the branch makes some.)
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    boxes: list[list[np.ndarray]]

    def __post_init__(self) -> None:
        for what, names in (("class", self.classes), ("image", self.images)):
            often = [name for name, count in Counter(names).items() if count > 1]
            if often:
                raise DataError(f"detections: {what} {often[0]} is there more than once")
        if len(self.boxes) != len(self.classes) or any(len(row) != len(self.images) for row in self.boxes):
            shape = f"{len(self.boxes)} classes x {sorted({len(row) for row in self.boxes})} images"
            raise DataError(f"detections: arrays for {shape}, expected {len(self.classes)} x {len(self.images)}")
        for c, row in enumerate(self.boxes):
            for i, found in enumerate(row):
                if not isinstance(found, np.ndarray) or found.shape[1:] != (5,) or found.dtype != np.float32:
                    raise DataError(
                        f"{self._where(c, i)}: {getattr(found, 'dtype', type(found).__name__)} of shape "
                        f"{getattr(found, 'shape', '?')}, expected float32 n x 5 (x1 y1 x2 y2 score)"
                    )
            self._check_finite(c)

    def __len__(self) -> int:
        """Boxes of all classes and images."""
        return sum(len(found) for row in self.boxes for found in row)

    def of_image(self, index: int) -> list[np.ndarray]:
        """The boxes in one image, by class."""
        return [row[index] for row in self.boxes]

    def _where(self, c: int, i: int) -> str:
        return f"image {self.images[i]}: detections of class {self.classes[c]}"

    def _check_finite(self, c: int) -> None:
        row = self.boxes[c]
        if row and not np.isfinite(np.concatenate(row)).all():
            i = next(i for i, found in enumerate(row) if not np.isfinite(found).all())
            k = int(np.flatnonzero(~np.isfinite(row[i]).all(1))[0])
            raise DataError(f"{self._where(c, i)}: number {k + 1} is {row[i][k].tolist()}, expected finite numbers")


def write_detections(path: PathLike, detections: Detections) -> None:
    """Write ``detections.npz``, whole or not at all; the same detections give the same bytes.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path) as stream:
        np.savez(stream, **as_arrays(detections))  # type: ignore[arg-type]


def as_arrays(detections: Detections) -> dict[str, np.ndarray]:
    """The arrays of a ``detections.npz``."""
    flat = [found for row in detections.boxes for found in row]
    counts = np.array([len(found) for found in flat], np.int64)
    width = max(len(detections.images), 1)
    cells = np.repeat(np.arange(len(flat)), counts)
    return {
        "boxes": np.concatenate([np.zeros((0, 5), np.float32), *flat]),
        "class_index": (cells // width).astype(np.int32),
        "image_index": (cells % width).astype(np.int32),
        "classes": np.array(detections.classes, str),
        "images": np.array(detections.images, str),
    }


def write_detections_mat(path: PathLike, detections: Detections) -> None:
    """Write ``detections.mat``, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    cells = np.empty((len(detections.classes) + 1, len(detections.images)), object)
    for c, row in enumerate([[np.zeros((0, 0))] * len(detections.images), *detections.boxes]):
        for i, found in enumerate(row):
            cells[c, i] = found
    write_mat(
        path,
        {"all_boxes": cells, "classes": _cell((BACKGROUND, *detections.classes)), "images": _cell(detections.images)},
    )


def read_detections(
    path: PathLike, classes: Sequence[str] | None = None, images: Sequence[str] | None = None
) -> Detections:
    """Read ``detections.npz``, a ``.mat`` file or the branch's ``detections.pkl``, told apart by content.

    Of the branch's pickles only plain data are read, and nothing in them is executed
    (:func:`~caffe_compat.datasets.pickles.read_pickle`).

    Args:
        path: the file.
        classes, images: names for a file that has none in it, such as the branch wrote.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; indices beyond the names; what :class:`Detections` refuses.  Names the file.
    """
    with open_existing(path, "detections") as stream:
        head = stream.read(4)
    if is_pickle(head) or os.fspath(path).endswith(".pkl"):
        held = read_pickle(path, "detections")
        with in_file(path):
            return from_lists(held, classes, images)
    with in_file(path):
        if head == b"PK\x03\x04":
            return from_arrays(read_npz(path, "detections"))
        return _from_cells(read_mat(path), classes, images)


def _cell(names: Sequence[str]) -> np.ndarray:
    cell = np.empty((len(names), 1), object)
    cell[:, 0] = list(names)
    return cell


def from_arrays(held: Mapping[str, np.ndarray]) -> Detections:
    """The detections in the arrays of a ``detections.npz``.

    Raises:
        DataError: arrays that are missing or do not belong together.
    """
    wanted = ("boxes", "class_index", "image_index", "classes", "images")
    absent = [name for name in wanted if name not in held]
    if absent:
        raise DataError(f"no array '{absent[0]}', it has {', '.join(sorted(held)) or 'none'}; expected detections")
    boxes = held["boxes"]
    if boxes.ndim != 2 or boxes.shape[1] != 5 or boxes.dtype.kind != "f":
        raise DataError(f"boxes are {boxes.dtype} of shape {boxes.shape}, expected M x 5 (x1 y1 x2 y2 score)")
    names, indices = {}, {}
    for kind, kinds in (("class", "classes"), ("image", "images")):
        known, index = held[kinds], held[f"{kind}_index"]
        if known.ndim != 1 or known.dtype.kind != "U":
            raise DataError(f"{kinds} are {known.dtype} of shape {known.shape}, expected a list of names")
        if index.shape != (len(boxes),) or index.dtype.kind not in "ui":
            raise DataError(
                f"{kind}_index is {index.dtype} of shape {index.shape}, expected {len(boxes)} whole numbers"
            )
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(known)):
            raise DataError(
                f"{kind}_index goes from {index.min()} to {index.max()}, but there are {len(known)} {kinds}"
            )
        names[kind], indices[kind] = tuple(str(name) for name in known), index.astype(np.int64)
    count = len(names["class"]) * len(names["image"])
    cells = indices["class"] * len(names["image"]) + indices["image"]
    order = np.argsort(cells, kind="stable")
    ends = np.cumsum(np.bincount(cells, minlength=count))[:-1] if count else np.zeros(0, np.int64)
    rows = np.split(boxes[order].astype(np.float32), ends) if count else []
    step = len(names["image"])
    return Detections(
        names["class"], names["image"], [rows[c * step : (c + 1) * step] for c in range(len(names["class"]))]
    )


def _from_cells(held: dict[str, Any], classes: Sequence[str] | None, images: Sequence[str] | None) -> Detections:
    cells = held.get("all_boxes")
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.ndim != 2 or not len(cells):
        raise DataError("no cell array 'all_boxes' of classes (and background) x images; expected detections")
    classes = _names(held, "classes")[1:] if "classes" in held else classes
    images = _names(held, "images") if "images" in held else images
    if classes is None or images is None:
        raise DataError("it does not name its classes and images, and none were given")
    if cells.shape != (len(classes) + 1, len(images)):
        raise DataError(
            f"all_boxes is {cells.shape[0]} x {cells.shape[1]}, expected {len(classes)} classes and background x "
            f"{len(images)} images"
        )
    boxes = [[_rows(cells[c + 1, i]) for i in range(len(images))] for c in range(len(classes))]
    return Detections(tuple(classes), tuple(images), boxes)


def from_lists(held: Any, classes: Sequence[str] | None, images: Sequence[str] | None) -> Detections:
    """The detections of a pickle of the branch: ``all_boxes`` by class (the first is the background) and image.

    ``nms_boxes``, as its masks are stored with, has no background.

    Raises:
        DataError: something else, or of other numbers of classes and images than the names.
    """
    names = ("all_boxes", "nms_boxes")
    key = next((name for name in names if isinstance(held, dict) and name in held), None)
    if key is None:
        raise DataError("holds no dictionary with all_boxes, by class and image; expected detections")
    if classes is None or images is None:
        raise DataError("it does not name its classes and images, and none were given")
    rows = held[key][1:] if key == "all_boxes" and isinstance(held[key], list) else held[key]
    lists = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    counts = sorted({len(row) for row in rows}) if lists else []
    if not lists or len(rows) != len(classes) or counts != [len(images)]:
        shape = f"{len(rows)} classes x {counts} images" if lists else "no lists"
        raise DataError(f"{key} has {shape}, expected {len(classes)} classes without background x {len(images)} images")
    boxes = [[_rows(np.zeros((0, 5)) if isinstance(cell, list) and not cell else cell) for cell in row] for row in rows]
    return Detections(tuple(classes), tuple(images), boxes)


def _rows(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif":
        return value
    return value.reshape(-1, 5).astype(np.float32) if value.size == 0 else value.astype(np.float32)


def _names(held: dict[str, Any], what: str) -> list[str]:
    cell = held[what]
    if not isinstance(cell, np.ndarray) or cell.dtype != object or not all(isinstance(n, str) for n in cell.ravel()):
        raise DataError(f"{what} is no cell array of names")
    return [str(name) for name in cell.ravel()]
