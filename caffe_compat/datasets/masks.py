"""Pixels of objects: COCO's polygons and run lengths, and pictures of labels.

Polygons become pixels as in COCO's own C code (``rleFrPoly`` of its maskApi): the outline is drawn on a grid five times
as fine, and a pixel is inside where the outline was crossed an odd number of times above it.  Run lengths go down the
columns, first those outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_compat.datasets.pictures import read_labels
from caffe_compat.errors import DataError

__all__ = ["Shape", "coco_masks", "decode_counts", "label_masks", "pack_segmentation", "polygon_mask"]

_FINER = 5
_HUNDREDTHS = 100
_FARTHEST = 8
"""Sides of the image that a corner may be away from it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """The pixels of one object, as small as they come.

    Args:
        polygons: int32 [2 N], x y in hundredths of a pixel (COCO's have two decimals), or float64 [2 N] in pixels.
        counts: run lengths: text as COCO packs them, or uint32 [N].
    """

    polygons: tuple[np.ndarray, ...] = ()
    counts: str | np.ndarray | None = None

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Bool [H, W].

        Raises:
            DataError: run lengths of another size.
        """
        if self.counts is not None:
            return decode_counts(self.counts, size)
        mask = np.zeros(size, bool)
        for points in self.polygons:
            mask |= polygon_mask(points / _HUNDREDTHS if points.dtype.kind == "i" else points, size)
        return mask


def coco_masks(shapes: Sequence[Shape], size: tuple[int, int], where: str) -> np.ndarray:
    """The pixels of the objects of a frame: bool [K, H, W].

    Args:
        shapes: of each object.
        size: height and width.
        where: begins messages.

    Raises:
        DataError: run lengths that do not fit the size; names the object, counted from 1.
    """
    masks = np.zeros((len(shapes), *size), bool)
    for k, shape in enumerate(shapes):
        try:
            masks[k] = shape.mask(size)
        except DataError as error:
            raise DataError(f"{where}: object {k + 1}: {error.message}") from error
    return masks


def label_masks(path: str, values: Sequence[tuple[int, ...]], size: tuple[int, int]) -> np.ndarray:
    """The pixels of the objects of a frame from a picture of labels: bool [K, H, W].

    Args:
        path: a picture of one channel of 8 or 16 bits.
        values: the labels of each object.
        size: height and width that it must have.

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
        if not masks[k].any():
            raise DataError(f"{path}: no pixel has a label of object {k + 1}, {list(wanted)}")
    return masks


def pack_segmentation(value: Any, size: tuple[int, int], where: str) -> Shape:
    """COCO's ``segmentation`` of an annotation, checked.

    Args:
        value: polygons, a list of lists x y x y ..., or run lengths, a dict of ``size`` and ``counts``.
        size: height and width of the frame.
        where: begins messages.

    Raises:
        DataError: neither.
    """
    if isinstance(value, dict):
        return _pack_counts(value, size, where)
    if not isinstance(value, list):
        raise DataError(f"{where}: segmentation is a {type(value).__name__}, expected polygons or run lengths")
    return Shape(tuple(_pack_polygon(points, size, where) for points in value))


def _pack_polygon(points: Any, size: tuple[int, int], where: str) -> np.ndarray:
    try:
        numbers = np.array(points)
    except ValueError:  # lists of different lengths
        numbers = np.zeros(0)
    if numbers.ndim != 1 or numbers.dtype.kind not in "if" or numbers.size < 6 or numbers.size % 2:
        raise DataError(f"{where}: segmentation has a polygon that is no list x y x y ... of 3 points or more")
    if not (np.abs(numbers) < _FARTHEST * max(size)).all():
        raise DataError(f"{where}: segmentation has a corner far out of its image")
    hundredths = np.rint(numbers * _HUNDREDTHS).astype(np.int32)
    return hundredths if (hundredths / _HUNDREDTHS == numbers).all() else numbers.astype(float)


def _pack_counts(value: dict[str, Any], size: tuple[int, int], where: str) -> Shape:
    counts = value.get("counts")
    if value.get("size") != list(size):
        raise DataError(f"{where}: run lengths of size {value.get('size')}, the image has height, width {list(size)}")
    if isinstance(counts, str):
        return Shape(counts=counts)
    whole = isinstance(counts, list) and all(type(count) is int and 0 <= count <= size[0] * size[1] for count in counts)
    if not isinstance(counts, list) or not whole:
        raise DataError(f"{where}: counts of segmentation are neither text nor a list of whole numbers")
    if sum(counts) != size[0] * size[1]:
        raise DataError(f"{where}: run lengths of {sum(counts)} pixels, the image has {size[0] * size[1]}")
    return Shape(counts=np.array(counts, np.uint32))


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
