"""Batches of pictures with boxes out of a list, and maps of what each cell has to learn.

Source: zhaoweicai/mscnn, ``image_gt_data_layer.cpp``; zhaoweicai/cascade-rcnn, ``detection_data_layer.cpp`` and
``eval_data_layer.cpp``.  The draws are those of the originals in kind and order; the numbers are this package's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from caffe_compat.batches.augmenting import distorted
from caffe_compat.batches.box_cells import Cells
from caffe_compat.batches.box_sizes import MULTIPLE, Octaves, Scales, Template
from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.media import decode, fill_blob, planes, read_picture, resize_caffe
from caffe_compat.media.box_lists import BoxPicture
from caffe_compat.media.pixel_boxes import round_half_away

__all__ = ["BoxItem", "BoxJob", "BoxReader", "EvalReader", "Setting"]

_f32 = np.float32
_ENLARGED = 1.5  #: by more than that a picture is cut before it is enlarged
_NOISE = 10  #: pixels by which a crop is moved at most


@dataclasses.dataclass(frozen=True)
class BoxItem:
    """A picture of a batch; ``content``: of its file, where that is kept in memory."""

    picture: BoxPicture
    content: bytes | None = None


@dataclasses.dataclass(frozen=True)
class BoxJob:
    """The pictures of a batch, and the seed of what is random in it."""

    seed: Seed
    items: Sequence[BoxItem]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What becomes of pixels: ``(pixel - mean) * scale``; ``source``: the list, for errors."""

    source: str
    mean: np.ndarray
    scale: np.float32
    mirror: bool = False
    distort: Any = None


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A picture on its way into a batch, with its boxes and what is not of interest (float32 x1 y1 x2 y2)."""

    pixels: np.ndarray
    boxes: np.ndarray
    outside: np.ndarray

    def moved(self, pixels: np.ndarray, factor: Sequence[float], shift: Sequence[float] = (0, 0)) -> _Placed:
        """Boxes times factors of x and y, then shifted."""
        by, to = np.array([*factor] * 2, np.float32), np.array([*shift] * 2, np.float32)
        return _Placed(pixels, self.boxes * by + to, self.outside * by + to)


@dataclasses.dataclass(frozen=True, eq=False)
class BoxReader(Reader[BoxJob]):
    """Pictures (batch, 3, height, width) in BGR, a map (batch, 6, h, w) for each field, and rows of boxes.

    A map has for each cell class, x and y of the centre, width and height of a box, and its overlap with the field (1
    where nothing can be learned).  Rows are [G, 7, 1, 1] (item, x1, y1, x2, y2, class, ignored) or, for Cascade R-CNN,
    [G, 8, 1, 1] with whether it is difficult.

    Args:
        sizes: how pictures vary in size.
    """

    who: str
    setting: Setting
    template: Template
    cells: Cells
    sizes: Octaves | Scales | None = None

    def about(self, job: BoxJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.setting.source}: {shown(item.picture.path for item in job.items)}"

    def read(self, job: BoxJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures, maps, rows."""
        random = np.random.default_rng(job.seed)
        factor = self.template.drawn(random)
        data: np.ndarray | None = None
        maps: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for place, item in enumerate(job.items):
            try:
                placed = self._first(item, factor, random)
                if data is None:
                    size = self.template.size(placed.pixels.shape[0], placed.pixels.shape[1], factor)
                    data, maps = new((len(job.items), 3, *size)), self.cells.blank(len(job.items), size, new)
                placed, window = self._cropped(placed, (data.shape[2], data.shape[3]), random, data[place])
            except CaffeCompatError as error:
                raise self.error(f"{self.setting.source}: {item.picture.path}: {error}") from error
            marks = self.cells.ignored(placed.boxes, item.picture.marks, (data.shape[2], data.shape[3]))
            self.cells.learn((placed.boxes, marks, placed.outside), window, [one[place] for one in maps])
            rows.append(np.concatenate([np.full((len(marks), 1), place), placed.boxes, marks], 1).astype(np.float32))
        if data is None:
            raise self.error("has no pictures in a batch, expected some")
        return (data, *maps, self._rows(np.concatenate(rows)))

    def _rows(self, found: np.ndarray) -> np.ndarray:
        """Rows of all boxes; without any one that counts for nothing."""
        if self.cells.pixel:
            found = found if len(found) else np.full((1, 8), -1, np.float32)
        else:
            found = found[:, :7] if len(found) else np.array([[0, 1, 1, 2, 2, 1, 1]], np.float32)
        return found[..., None, None]

    # -- the picture ------------------------------------------------------------------------------------------

    def _first(self, item: BoxItem, factor: np.floating, random: np.random.Generator) -> _Placed:
        """Read, distorted, mirrored, and in its first size."""
        pixels, picture = load(item), item.picture
        if self.setting.distort is not None:
            pixels = distorted(pixels, self.setting.distort, random)
        placed = _Placed(pixels, picture.boxes, picture.outside)
        if self.setting.mirror and random.integers(2):
            width = _f32(pixels.shape[1])
            boxes, outside = (width - own[:, [2, 1, 0, 3]] for own in (placed.boxes, placed.outside))
            boxes[:, 1::2], outside[:, 1::2] = placed.boxes[:, 1::2], placed.outside[:, 1::2]
            placed = _Placed(cv2.flip(pixels, 1), boxes, outside)
        return resized(placed, self.template.first_size(pixels.shape[0], pixels.shape[1], factor))

    def _cropped(
        self, placed: _Placed, size: tuple[int, int], random: np.random.Generator, out: np.ndarray
    ) -> tuple[_Placed, tuple[int, int, int, int]]:
        """Enlarged or made smaller, and cut around a box or put into zeros; written into ``out``.

        Returns:
            The rest, and top, left, height and width of what was written.
        """
        high, wide = placed.pixels.shape[:2]
        sides: np.ndarray | None = None
        if len(placed.boxes):
            own = placed.boxes[int(random.integers(len(placed.boxes)))]
            sides, centre = own[2:] - own[:2], (own[:2] + own[2:]) / _f32(2)
        else:
            centre = np.array(
                [
                    _f32(side / 2.0 if side < end else int(random.integers(side - end + 1)) + end / 2.0)
                    for side, end in ((wide, size[1]), (high, size[0]))
                ],
                np.float32,
            )
        factors = (1.0, 1.0) if self.sizes is None else self.sizes.factors(sides, random)
        placed, centre = self._scaled(placed, centre, factors)
        noise = [int(random.integers(-_NOISE, _NOISE)) for _ in range(2)]
        spans = []  # of x, then of y: where in the top, where in the picture, how much
        for axis in (0, 1):
            side, end = placed.pixels.shape[1 - axis], size[1 - axis]
            if side < end:
                start = round_half_away((end - side) / 2.0) + noise[axis]
                spans.append((min(max(0, start), end - side), 0, side))
            else:
                middle = round_half_away(centre[axis] * _f32(factors[axis])) + noise[axis]
                start = middle - round_half_away(end / 2.0)
                spans.append((0, min(max(0, start), side - end), end))
        (left, from_left, wide), (top, from_top, high) = spans
        part = placed.pixels[from_top : from_top + high, from_left : from_left + wide]
        out[...] = 0
        fill_blob(planes(part), out[:, top : top + high, left : left + wide], self.setting.mean, self.setting.scale)
        shifted = placed.moved(part, (1, 1), (left - from_left, top - from_top))
        return shifted, (top, left, high, wide)

    def _scaled(self, placed: _Placed, centre: np.ndarray, factors: tuple[float, float]) -> tuple[_Placed, np.ndarray]:
        """Times the factors of width and height; what is enlarged much is cut around the centre first."""
        if factors == (1.0, 1.0):
            return placed, centre
        if max(factors) > _ENLARGED:
            sides = placed.pixels.shape[1], placed.pixels.shape[0]
            cuts = [min(round_half_away(1.2 * side / by), side) for side, by in zip(sides, factors, strict=True)]
            starts = [max(round_half_away(float(centre[axis]) - cuts[axis] * 0.5), 0) for axis in (0, 1)]
            x, y = (start - max(start + cut - side, 0) for start, cut, side in zip(starts, cuts, sides, strict=True))
            placed = placed.moved(placed.pixels[y : y + cuts[1], x : x + cuts[0]], (1, 1), (-x, -y))
            centre = centre - np.array([x, y], np.float32)
        high, wide = placed.pixels.shape[:2]
        size = [round_half_away(_f32(side) * _f32(by)) for side, by in ((high, factors[1]), (wide, factors[0]))]
        if min(size) < 1:
            raise DataError(f"becomes {size[1]}x{size[0]}, expected larger scales")
        return placed.moved(resize_caffe(np.ascontiguousarray(placed.pixels), *size), factors), centre


def load(item: BoxItem) -> np.ndarray:
    """A picture in colour."""
    if item.content is None:
        return read_picture(item.picture.path)
    return decode(item.content, item.picture.path)


def resized(placed: _Placed, size: tuple[int, int]) -> _Placed:
    """In another height and width, with its boxes."""
    height, width = placed.pixels.shape[:2]
    if size == (height, width):
        return placed
    if min(size) < 1:
        raise DataError(f"becomes {size[1]}x{size[0]}, expected a larger size")
    factors = _f32(size[1]) / _f32(width), _f32(size[0]) / _f32(height)
    return placed.moved(resize_caffe(placed.pixels, *size), [float(factor) for factor in factors])


@dataclasses.dataclass(frozen=True, eq=False)
class EvalReader(Reader[BoxJob]):
    """Pictures (batch, 3, height, width) in BGR, rows of boxes [G, 8, 1, 1] (item, x1, y1, x2, y2, class, ignored,
    difficult), or one of -1, and heights and widths (batch, 2, 1, 1).  Sides are rounded to 32.

    Args:
        resize: height and width; else ``sides``, the short one, and the most that any may be; else as they are.
    """

    who: str
    setting: Setting
    resize: tuple[int, int] | None
    sides: tuple[int, int] | None

    def about(self, job: BoxJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.setting.source}: {shown(item.picture.path for item in job.items)}"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a picture."""
        if self.resize is not None:
            height, width = self.resize
        elif self.sides is not None:
            scale = _f32(self.sides[0]) / _f32(min(height, width))
            height, width = (min(round_half_away(_f32(side) * scale), self.sides[1]) for side in (height, width))
        return round_half_away(height / MULTIPLE) * MULTIPLE, round_half_away(width / MULTIPLE) * MULTIPLE

    def read(self, job: BoxJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures, rows, sizes."""
        data: np.ndarray | None = None
        rows, sizes = [], np.empty((len(job.items), 2, 1, 1), np.float32)
        for place, item in enumerate(job.items):
            picture = item.picture
            try:
                pixels = load(item)
                placed = resized(_Placed(pixels, picture.boxes, picture.outside), self.size(*pixels.shape[:2]))
            except CaffeCompatError as error:
                raise self.error(f"{self.setting.source}: {picture.path}: {error}") from error
            if data is None:
                data = new((len(job.items), 3, *placed.pixels.shape[:2]))
            fill_blob(planes(placed.pixels), data[place], self.setting.mean, self.setting.scale)
            sizes[place, :, 0, 0] = placed.pixels.shape[:2]
            item_column = np.full((len(picture.marks), 1), place)
            rows.append(np.concatenate([item_column, placed.boxes, picture.marks], 1).astype(np.float32))
        if data is None:
            raise self.error("has no pictures in a batch, expected some")
        found = np.concatenate(rows)
        found = found if len(found) else np.full((1, 8), -1, np.float32)
        return data, found[..., None, None], sizes
