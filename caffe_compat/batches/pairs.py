"""Batches of pairs of images of one scene in two modalities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

import cv2
import numpy as np
import numpy.typing as npt

from caffe_compat.batches.boxes import View, draw_boxes
from caffe_compat.batches.images import Seed
from caffe_compat.batches.kept import Kept
from caffe_compat.batches.reader import Bytes, Levels, New, Reader, shown
from caffe_compat.errors import DataError
from caffe_compat.media import (
    Pair,
    different_sizes,
    fill_blob,
    negate_planes,
    planes,
    read_picture,
    resize_caffe,
    resize_short_side,
    short_side_factor,
    split_into,
)

__all__ = ["Draw", "PairItem", "PairJob", "PairReader"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is random for one pair; the fractions are in [0, 1)."""

    mirror: bool
    y: float
    x: float


@dataclasses.dataclass(frozen=True, eq=False)
class PairItem:
    """One pair of a batch.

    Args:
        boxes: float32 [N, 4], from which some are drawn, in pixels of the files; None: no boxes are wanted.
        seed: of that draw, a stream of its own: pictures are the same with boxes or without.
    """

    pair: Pair
    boxes: np.ndarray | None = None
    seed: Seed = ()


@dataclasses.dataclass(frozen=True, eq=False)
class PairJob:
    """The pairs of a batch, and the seed of what is random in it."""

    seed: Seed
    items: Sequence[PairItem]


@dataclasses.dataclass(frozen=True, eq=False)
class PairReader(Reader[PairJob]):
    """Two blobs of images (batch, 3, height, width), and rois [R, 5] where the pairs have boxes.

    Args:
        source: the list, for errors.
        means: of the first and the second image, float32 (3).
        negate_x: channel of the second image whose values v become 2 ``negate_about`` - v in a mirror; -1: none.
        resize_to: height and width; None: ``short_side`` pixels of the shorter side, 0: as they are.
        crop: height and width; None: all that is left after cutting to a ``multiple``.
        count: boxes of a pair at most.
        kept: decoded and resized pictures.
        dtype: of images.
    """

    who: str
    source: str
    train: bool
    mirror: bool
    means: tuple[np.ndarray, np.ndarray]
    scale: np.float32
    negate_x: int
    negate_about: float
    resize_to: Size | None
    short_side: int
    crop: Size | None
    multiple: int
    count: int = 0
    kept: Kept = dataclasses.field(default_factory=Kept)
    dtype: npt.DTypeLike = np.float32

    def as_bytes(self) -> Bytes | None:
        """As :meth:`Reader.as_bytes`."""
        if self.negate_x >= 0 and not float(2 * self.negate_about).is_integer():
            return None
        levels = (Levels(self.means[0], self.scale), Levels(self.means[1], self.scale))
        return Bytes(dataclasses.replace(self, dtype=np.uint8), levels)

    def one_of(self, count: int) -> PairReader:
        """As :meth:`Reader.one_of`."""
        return dataclasses.replace(self, kept=self.kept.one_of(count))

    def about(self, job: PairJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(name for item in job.items for name in (item.pair.first, item.pair.second))}"

    def read(self, job: PairJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        random = np.random.default_rng(job.seed)
        batch: tuple[np.ndarray, np.ndarray] | None = None
        rois: list[np.ndarray] = []
        for place, item in enumerate(job.items):
            mirror, y, x = random.random(3)
            draw = Draw(self.mirror and mirror < 0.5, y, x)
            *images, view = self.load(item.pair, draw)
            if batch is None:
                shape = (len(job.items), 3, *view.size)
                batch = (new(shape, self.dtype), new(shape, self.dtype))
            if view.size != batch[0].shape[2:]:
                self._refuse_sizes(job.items[0].pair, item.pair, batch[0].shape[2:], view.size)
            for which in (0, 1):
                self._finish(images[which], which, draw, batch[which][place])
            if item.boxes is not None:
                drawn = draw_boxes(item.boxes, self.count, view, np.random.default_rng(item.seed))
                rois.append(np.insert(drawn, 0, np.float32(place), axis=1))
        assert batch is not None
        return (*batch, np.concatenate(rois)) if rois else batch

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that an image of this size gets before it is cut."""
        if self.resize_to or not self.short_side:
            return self.resize_to or size
        factor = short_side_factor(*size, self.short_side)
        return round(size[0] * factor), round(size[1] * factor)

    def _refuse_sizes(self, start: Pair, pair: Pair, want: Sequence[int], have: Sequence[int]) -> NoReturn:
        raise self.error(
            f"{self.source}, lines {start.line} and {pair.line}: images of one batch have different sizes after "
            f"resizing and cropping, {want[1]}x{want[0]} ({start.first}) and {have[1]}x{have[0]} ({pair.first}); use "
            "batch_size 1, new_height and new_width, or crop_height and crop_width"
        )

    def load(self, pair: Pair, draw: Draw) -> tuple[np.ndarray, np.ndarray, View]:
        """Both images of a pair, resized and cropped: uint8 (height, width, 3); and how."""
        first, second, size = self.kept.get(pair, lambda: self._decode(pair))
        with self.naming(f"{self.source}, line {pair.line}: {pair.first}"):
            cut = self.window(first.shape[0], first.shape[1], draw)
        return first[cut], second[cut], View(self._factors(*map(int, size)), *cut, draw.mirror)

    def _decode(self, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both images of a pair, resized, and the height and the width that they have in the files."""
        where = f"{self.source}, line {pair.line}"
        with self.naming(where):
            first, second = read_picture(pair.first), read_picture(pair.second)
        if first.shape != second.shape:
            raise self.error(f"{where}: {different_sizes(pair, first.shape, second.shape)}")
        try:
            return self._resize(first), self._resize(second), np.array(first.shape[:2])
        except DataError as error:
            raise self.error(f"{where}: {pair.first}: {error}") from error

    def _resize(self, image: np.ndarray) -> np.ndarray:
        if self.resize_to:
            return resize_caffe(image, *self.resize_to)
        return resize_short_side(image, self.short_side) if self.short_side else image

    def _factors(self, height: int, width: int) -> tuple[float, float]:
        """By which the width and the height of an image of this size are multiplied."""
        if self.resize_to:
            return self.resize_to[1] / width, self.resize_to[0] / height
        factor = short_side_factor(height, width, self.short_side) if self.short_side else 1.0
        return factor, factor

    def window(self, height: int, width: int, draw: Draw) -> tuple[slice, slice]:
        """Rows and columns that are kept of the resized images."""
        height, width = height // self.multiple * self.multiple, width // self.multiple * self.multiple
        wanted = self.crop or (height, width)
        if height < max(wanted[0], 1) or width < max(wanted[1], 1):
            raise DataError(
                f"is {width}x{height} after resizing to multiples of {self.multiple}, too small for a crop of "
                f"{wanted[1]}x{wanted[0]}"
            )
        free = (height - wanted[0], width - wanted[1])
        if self.train:
            top, left = int(draw.y * (free[0] + 1)), int(draw.x * (free[1] + 1))
        else:
            top, left = free[0] // 2, free[1] // 2
        return slice(top, top + wanted[0]), slice(left, left + wanted[1])

    def _finish(self, image: np.ndarray, which: int, draw: Draw, out: np.ndarray) -> None:
        """Mirror, subtract the mean, scale, into ``out`` (3, height, width)."""
        image = cv2.flip(image, 1) if draw.mirror else image
        turned = draw.mirror and which == 1 and self.negate_x >= 0
        if self.dtype == np.uint8 and not turned:
            split_into(image, out)
            return
        channels: Sequence[np.ndarray] = planes(image)
        if turned:
            channels = negate_planes(channels, (self.negate_x,), self.negate_about)
        if self.dtype == np.uint8:
            out[...] = channels
        else:
            fill_blob(channels, out, self.means[which], self.scale)
