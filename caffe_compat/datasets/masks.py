"""Pixels of objects: COCO's polygons and run lengths, and pictures of labels.

Polygons become pixels as in COCO's own C code (``rleFrPoly`` of its maskApi): the outline is drawn on a grid five times
as fine, and a pixel is inside where the outline was crossed an odd number of times above it.  Run lengths go down the
columns, first those outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from caffe_compat.datasets.pictures import read_labels
from caffe_compat.errors import DataError, in_file

__all__ = ["Shapes", "coco_masks", "decode_counts", "label_masks", "pack_segmentations", "polygon_mask"]

_FINER = 5
_HUNDREDTHS = 100
_NO_RUNS: Mapping[int, str | np.ndarray] = MappingProxyType({})
_FARTHEST = 8
"""Sides of the image that a corner may be away from it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shapes:
    """The pixels of the objects of an image, as small as they come.

    Args:
        count: of objects.
        points: x y x y ... of all polygons one after another: int32 in hundredths of a pixel (COCO's have two
            decimals), or float64 in pixels.
        lengths: int32 [P], how many numbers of it each polygon has.
        owners: int32 [P], the object that it is part of.
        runs: by object, run lengths: text as COCO packs them, or uint32 [N].
    """

    count: int
    points: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray
    runs: Mapping[int, str | np.ndarray]

    def masks(self, size: tuple[int, int]) -> np.ndarray:
        """Bool [K, H, W].

        Raises:
            DataError: run lengths that do not fit the size; names the object, counted from 1.
        """
        masks = np.zeros((self.count, *size), bool)
        points = self.points / _HUNDREDTHS if self.points.dtype.kind == "i" else self.points
        polygons = np.split(points, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []
        for owner, polygon in zip(self.owners.tolist(), polygons, strict=True):
            masks[owner] |= polygon_mask(polygon, size)
        for owner, counts in self.runs.items():
            try:
                masks[owner] = decode_counts(counts, size)
            except DataError as error:
                raise DataError(f"object {owner + 1}: {error.message}") from error
        return masks


def coco_masks(shapes: Shapes, size: tuple[int, int], where: str) -> np.ndarray:
    """The pixels of the objects of a frame: bool [K, H, W].

    Args:
        shapes: of its objects.
        size: height and width.
        where: begins messages.

    Raises:
        DataError: run lengths that do not fit the size; names the object, counted from 1.
    """
    with in_file(where):
        return shapes.masks(size)


def label_masks(
    path: str, values: Sequence[tuple[int, ...]], size: tuple[int, int], hidden: bool = False
) -> np.ndarray:
    """The pixels of the objects of a frame from a picture of labels: bool [K, H, W].

    Args:
        path: a picture of one channel of 8 or 16 bits.
        values: the labels of each object.
        size: height and width that it must have.
        hidden: objects may have no pixels.

    Raises:
        MissingFileError: no such file.
        DataError: not such a picture, one of another size, or without a pixel of an object.
    """
    labels = read_labels(path)
    if labels.shape != size:
        raise DataError(f"{path}: has {labels.shape[1]} x {labels.shape[0]} pixels, its frame {size[1]} x {size[0]}")
    masks = np.zeros((len(values), *size), bool)
    for k, wanted in enumerate(values):
        masks[k] = np.isin(labels, wanted)
        if not (hidden or masks[k].any()):
            raise DataError(f"{path}: no pixel has a label of object {k + 1}, {list(wanted)}")
    return masks


def pack_segmentations(values: Sequence[Any], size: tuple[int, int], where: Callable[[int], str]) -> Shapes:
    """COCO's ``segmentation`` of the annotations of an image, checked.

    Args:
        values: of each annotation: polygons, a list of lists x y x y ..., or run lengths, a dict of ``size`` and
            ``counts``.
        size: height and width of the image.
        where: begins messages about an annotation.

    Raises:
        DataError: neither.
    """
    runs: dict[int, str | np.ndarray] = {}
    owners: list[int] = []
    polygons: list[Any] = []
    for k, value in enumerate(values):
        if isinstance(value, dict):
            runs[k] = _pack_counts(value, size, where(k))
        elif isinstance(value, list):
            polygons += value
            owners += [k] * len(value)
        else:
            raise DataError(f"{where(k)}: segmentation is a {type(value).__name__}, expected polygons or run lengths")
    points = _numbers([number for polygon in polygons if isinstance(polygon, list) for number in polygon])
    far = points is not None and points.size and not np.abs(points).max() < _FARTHEST * max(size)
    if points is None or far or any(not isinstance(part, list) or len(part) < 6 or len(part) % 2 for part in polygons):
        _refuse_polygons(polygons, owners, size, where)
    numbers = np.zeros(0) if points is None else points
    hundredths = np.rint(numbers * _HUNDREDTHS).astype(np.int32)
    return Shapes(
        count=len(values),
        points=hundredths if (hundredths / _HUNDREDTHS == numbers).all() else numbers.astype(float),
        lengths=np.array([len(polygon) for polygon in polygons], np.int32),
        owners=np.array(owners, np.int32),
        runs=runs or _NO_RUNS,
    )


def _numbers(values: list[Any]) -> np.ndarray | None:
    """A list as an array; None if it holds something else than finite numbers."""
    try:
        numbers = np.array(values)
    except (ValueError, OverflowError):  # lists of different lengths
        return None
    return numbers if numbers.ndim == 1 and numbers.dtype.kind in "if" and np.isfinite(numbers).all() else None


def _refuse_polygons(
    polygons: list[Any], owners: list[int], size: tuple[int, int], where: Callable[[int], str]
) -> NoReturn:
    """Raise DataError for the first polygon that is none."""
    for polygon, owner in zip(polygons, owners, strict=True):
        numbers = _numbers(polygon) if isinstance(polygon, list) else None
        if numbers is None or numbers.size < 6 or numbers.size % 2:
            raise DataError(
                f"{where(owner)}: segmentation has a polygon that is no list x y x y ... of 3 points or more"
            )
        if not np.abs(numbers).max() < _FARTHEST * max(size):
            raise DataError(f"{where(owner)}: segmentation has a corner far out of its image")
    raise DataError(f"{where(0)}: segmentation has polygons that are no lists of numbers")


def _pack_counts(value: dict[str, Any], size: tuple[int, int], where: str) -> str | np.ndarray:
    counts = value.get("counts")
    if value.get("size") != list(size):
        raise DataError(f"{where}: run lengths of size {value.get('size')}, the image has height, width {list(size)}")
    if isinstance(counts, str):
        return counts
    whole = isinstance(counts, list) and all(type(count) is int and 0 <= count <= size[0] * size[1] for count in counts)
    if not isinstance(counts, list) or not whole:
        raise DataError(f"{where}: counts of segmentation are neither text nor a list of whole numbers")
    if sum(counts) != size[0] * size[1]:
        raise DataError(f"{where}: run lengths of {sum(counts)} pixels, the image has {size[0] * size[1]}")
    return np.array(counts, np.uint32)


def decode_counts(counts: str | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Run lengths as bool [H, W].

    Raises:
        DataError: they are damaged, or of another number of pixels.
    """
    runs = _unpack(counts) if isinstance(counts, str) else counts.astype(np.int64)
    pixels = size[0] * size[1]
    if (runs < 0).any() or runs.sum() != pixels:
        raise DataError(f"run lengths of {int(runs.sum())} pixels or damaged ones, expected {pixels}")
    inside = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return np.ascontiguousarray(inside.reshape(size[1], size[0]).T)


def _unpack(text: str) -> np.ndarray:
    """COCO's text of run lengths: 5 bits a letter from "0" on, the 6th says that more follow; from the fourth run on
    they are differences to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 50:
            raise DataError("run lengths are no text as COCO packs them")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("run lengths end within a number")
    return np.array(runs, np.int64)


def polygon_mask(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels within a polygon as COCO's own code counts them: bool [H, W].

    Args:
        points: float64 [2 N], x y x y ... in pixels.
        size: height and width.
    """
    height, width = size
    u, v = _outline(np.trunc(_FINER * np.asarray(points, float).reshape(-1, 2) + 0.5).astype(np.int64))
    crossing = np.flatnonzero(u[1:] != u[:-1]) + 1
    x = (np.where(u[crossing] < u[crossing - 1], u[crossing], u[crossing] - 1) + 0.5) / _FINER - 0.5
    y = np.ceil(np.clip((np.minimum(v[crossing], v[crossing - 1]) + 0.5) / _FINER - 0.5, 0, height))
    kept = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    flips = np.bincount((x[kept] * height + y[kept]).astype(np.int64), minlength=height * width + 1)
    inside = np.cumsum(flips[:-1]) % 2 == 1
    return np.ascontiguousarray(inside.reshape(width, height).T)


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points along every edge of a polygon, one for each step of its longer direction: columns and rows."""
    starts, ends = corners, np.roll(corners, -1, axis=0)
    dx, dy = np.abs(ends - starts).T
    flat = dx >= dy
    turned = np.where(flat, starts[:, 0] > ends[:, 0], starts[:, 1] > ends[:, 1])
    low, high = (np.where(turned[:, None], a, b) for a, b in ((ends, starts), (starts, ends)))
    steps = np.maximum(dx, dy)
    rise = np.where(flat, high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]) / np.maximum(steps, 1)
    edge = np.repeat(np.arange(len(corners)), steps + 1)
    along = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    along = np.where(turned[edge], steps[edge] - along, along)
    base = np.where(flat, low[:, 1], low[:, 0])[edge]
    main = along + np.where(flat, low[:, 0], low[:, 1])[edge]
    other = np.trunc(base + rise[edge] * along + 0.5).astype(np.int64)
    return np.where(flat[edge], main, other), np.where(flat[edge], other, main)
