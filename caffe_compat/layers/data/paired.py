"""Pairs of images of one scene in two modalities, for supervision transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from caffe_compat.depth.stated import stated_encoding
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.boxes import PairBoxes, View
from caffe_compat.layers.data.kept import Kept
from caffe_compat.layers.data.prefetch import usual_depth
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import (
    Pair,
    Preprocessing,
    check_pairs,
    different_sizes,
    fill_blob,
    negate_planes,
    planes,
    read_pair_list,
    read_picture,
    resize_caffe,
    resize_short_side,
    short_side_factor,
)

__all__ = ["PairedImageData"]


@dataclass(frozen=True)
class _Draw:
    """What is random for one pair; the fractions are in [0, 1)."""

    mirror: bool
    y: float
    x: float


@register
class PairedImageData(DataLayer):
    """Two batches of images that belong together, such as colour and HHA, or a frame and its optical flow.

    A layer of this package, not of Caffe.  Tops: two blobs (batch, 3, height, width), BGR, ``(pixel - mean) * scale``.
    Both images of a pair go through the same steps: resize (``new_height`` and ``new_width``, or ``short_side``),
    cut at the bottom and at the right to a ``multiple_of``, crop (random in TRAIN, centred in TEST), mirror (TRAIN
    only).  Where ``negate_x_channel`` names the channel of the second image that holds horizontal flow, mirroring
    replaces its values v by 256 - v (2 ``negate_about`` - v; 0 to 255).  In TRAIN ``shuffle`` reorders the pairs for
    every epoch; in TEST they come in order.  ``mean_value`` is for the first image, and for the second too unless
    ``mean_value_1`` is given: one mean for all modalities is what the released supervision transfer code subtracts.
    ``prefetch`` batches are read ahead, each in a thread of its own (by default one a core, 4 to 16); decoded pictures
    are kept in memory as long as a quarter of what was free holds them.

    Regions of interest are the third top where ``proposals`` names a file (or folder) of boxes: rois [R, 5], number of
    the pair in the batch and x1 y1 x2 y2 in pixels of the batch's images.  Of each pair ``rois_per_image`` are drawn
    uniformly, without repetition, from its first ``top_k`` proposals (0: all), fewer where there are fewer.  They go
    through the same steps as the images; what a crop leaves less than 16 pixels of, either way, is not drawn.  In TEST
    a pair has the same boxes every time.
    """

    caffe_type = "PairedImageData"
    splits = True
    top_count = (2, 3)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("paired_image_data_param")
        seed = int(section.seed)
        ahead = int(section.prefetch) if section.has("prefetch") else usual_depth()
        super().__init__(params, bottoms, ahead, None if seed < 0 else seed)
        self.source = str(section.source)
        self.size = self.batch_size(section)
        self.pairs = read_pair_list(self.source, section.root_folder)
        self.train_phase = params.phase == "TRAIN"
        self.shuffle = bool(section.shuffle) and self.train_phase
        self.mirror = bool(section.mirror) and self.train_phase
        self.order = Order(len(self.pairs), self.shuffle, self.seed)
        self.batches = len(self.pairs) / self.size
        self.scale = np.float32(section.scale)
        self.means = self._read_means(section)
        self.negate_x_channel, self.negate_about = int(section.negate_x_channel), float(section.negate_about)
        self.resize_to, self.short_side, self.crop, self.multiple = self._read_geometry(section)
        if not -1 <= self.negate_x_channel <= 2:
            raise self.error(f"negate_x_channel is {self.negate_x_channel}, expected 0, 1, 2 or -1 for none")
        if not 0 <= self.negate_about <= 255:
            raise self.error(f"negate_about is {self.negate_about:g}, expected 0 to 255")
        self._kept = Kept()
        self._check_heads()
        self.boxes = self._read_boxes(section)
        first, second, _ = self._load(self.pairs[self.order[0]], _Draw(False, 0.0, 0.0))
        self.shapes = [(self.size, 3, *image.shape[:2]) for image in (first, second)]
        if self.boxes is not None:
            self.shapes.append((self.size * self.boxes.count, 5))

    def _read_boxes(self, section: Section) -> PairBoxes | None:
        path, count, top_k = str(section.proposals), int(section.rois_per_image), int(section.top_k)
        if bool(path) != (len(self.params.tops) == 3):
            raise self.error(
                f"has {len(self.params.tops)} tops, expected 3 (two for images, rois)"
                if path
                else "has 3 tops, the third for rois, but no proposals to draw them from"
            )
        if path and count < 1:
            raise self.error(f"rois_per_image is {count}, expected a positive number")
        if not path:
            return None
        try:
            return PairBoxes(path, self.pairs, count, top_k)
        except DataError as error:
            raise self.data_error(f"proposals: {error}") from error

    def _check_heads(self) -> None:
        """Refuse all pairs at once whose images are missing, unlike in size, or too small for a crop."""

        def further(size: tuple[int, int]) -> None:
            self._window(*self._resized(size), _Draw(False, 0.0, 0.0))

        try:
            check_pairs(self.source, self.pairs, further)
        except DataError as error:
            raise self.data_error(str(error)) from error

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that an image of this size gets before it is cut."""
        if self.resize_to or not self.short_side:
            return self.resize_to or size
        factor = short_side_factor(*size, self.short_side)
        return round(size[0] * factor), round(size[1] * factor)

    def _read_means(self, section: Section) -> list[np.ndarray]:
        first, second = list(section.mean_value), list(section.mean_value_1)
        for name, values in (("mean_value", first), ("mean_value_1", second)):
            if len(values) not in (0, 1, 3):
                raise self.error(f"{name} has {len(values)} entries, expected 1 or 3 (blue, green, red)")
        return [np.broadcast_to(np.array(mean or [0], np.float32), 3) for mean in (first, second or first)]

    def _read_geometry(self, section: Section) -> tuple[tuple[int, int] | None, int, tuple[int, int] | None, int]:
        resize = (int(section.new_height), int(section.new_width))
        crop = (int(section.crop_height), int(section.crop_width))
        for (height, width), names in ((resize, "new_height and new_width"), (crop, "crop_height and crop_width")):
            if bool(height) != bool(width):
                raise self.error(f"{names} are {height} and {width}, expected both or none")
        if resize[0] and section.short_side:
            raise self.error("has new_height and short_side, expected one of them")
        if section.multiple_of < 1:
            raise self.error(f"multiple_of is {section.multiple_of}, expected a positive number")
        short_side, multiple = int(section.short_side), int(section.multiple_of)
        return resize if resize[0] else None, short_side, crop if crop[0] else None, multiple

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`; what the second pictures are, those that our tools made say."""
        encoding = stated_encoding([pair.second for pair in self.pairs])
        kinds = ("color", "unknown" if encoding is None else encoding.kind)
        return {
            top: Preprocessing(
                kind,
                mean=tuple(map(plain, mean)),
                scale=plain(self.scale),
                resize=self.resize_to,
                short_side=self.short_side,
                crop=self.crop,
                flip=self.mirror,
                encoding=None if kind == "color" else encoding,
            )
            for top, kind, mean in zip(self.params.tops, kinds, self.means, strict=False)
        }

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: the first images and the second images, (batch, 3, height, width) each; rois [R, 5]."""
        random = self.random(number)
        batch: tuple[np.ndarray, np.ndarray] | None = None
        start: Pair | None = None
        rois: list[np.ndarray] = []
        for item, record in enumerate(self.records(number, self.size)):
            pair = self.pairs[self.order[record]]
            mirror, y, x = random.random(3)
            draw = _Draw(self.mirror and mirror < 0.5, y, x)
            *images, view = self._load(pair, draw)
            size = view.size
            if batch is None or start is None:
                start, shape = pair, (self.size, 3, *size)
                batch = (np.empty(shape, np.float32), np.empty(shape, np.float32))
            if size != batch[0].shape[2:]:
                self._refuse_sizes(start, pair, batch[0].shape[2:], size)
            for which in (0, 1):
                self._finish(images[which], which, draw, batch[which][item])
            if self.boxes is not None:
                rois.append(self._rois(self.boxes, item, record, view))
        assert batch is not None
        return (*batch, np.concatenate(rois)) if rois else batch

    def _rois(self, boxes: PairBoxes, item: int, record: int, view: View) -> np.ndarray:
        """Boxes [n, 5] of item ``item``, by a stream of their own: pictures are the same with boxes or without."""
        random = np.random.default_rng((self.seed, 2, record if self.train_phase else record % len(self.pairs)))
        found = boxes.draw(self.order[record], view, random)
        return np.insert(found, 0, np.float32(item), axis=1)

    def _refuse_sizes(self, start: Pair, pair: Pair, want: Sequence[int], have: Sequence[int]) -> NoReturn:
        raise self.data_error(
            f"{self.source}, lines {start.line} and {pair.line}: images of one batch have different sizes after "
            f"resizing and cropping, {want[1]}x{want[0]} ({start.first}) and {have[1]}x{have[0]} ({pair.first}); use "
            "batch_size 1, new_height and new_width, or crop_height and crop_width"
        )

    def _load(self, pair: Pair, draw: _Draw) -> tuple[np.ndarray, np.ndarray, View]:
        """Both images of a pair, resized and cropped: uint8 (height, width, 3); and how."""
        first, second, size = self._kept.get(pair, lambda: self._decode(pair))
        try:
            cut = self._window(first.shape[0], first.shape[1], draw)
        except DataError as error:
            raise self.data_error(f"{self.source}, line {pair.line}: {pair.first}: {error}") from error
        return first[cut], second[cut], View(self._factors(*map(int, size)), *cut, draw.mirror)

    def _decode(self, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both images of a pair, resized, and the height and the width that they have in the files."""
        where = f"{self.source}, line {pair.line}"
        try:
            first, second = read_picture(pair.first), read_picture(pair.second)
        except CaffeCompatError as error:
            raise self.data_error(f"{where}: {error}") from error
        if first.shape != second.shape:
            raise self.data_error(f"{where}: {different_sizes(pair, first.shape, second.shape)}")
        try:
            return self._resize(first), self._resize(second), np.array(first.shape[:2])
        except DataError as error:
            raise self.data_error(f"{where}: {pair.first}: {error}") from error

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

    def _window(self, height: int, width: int, draw: _Draw) -> tuple[slice, slice]:
        """Rows and columns that are kept of the resized images."""
        height, width = height // self.multiple * self.multiple, width // self.multiple * self.multiple
        wanted = self.crop or (height, width)
        if height < max(wanted[0], 1) or width < max(wanted[1], 1):
            raise DataError(
                f"is {width}x{height} after resizing to multiples of {self.multiple}, too small for a crop of "
                f"{wanted[1]}x{wanted[0]}"
            )
        free = (height - wanted[0], width - wanted[1])
        if self.train_phase:
            top, left = int(draw.y * (free[0] + 1)), int(draw.x * (free[1] + 1))
        else:
            top, left = free[0] // 2, free[1] // 2
        return slice(top, top + wanted[0]), slice(left, left + wanted[1])

    def _finish(self, image: np.ndarray, which: int, draw: _Draw, out: np.ndarray) -> None:
        """Mirror, subtract the mean, scale, into ``out`` (3, height, width)."""
        channels = planes(image)
        if draw.mirror and which == 1:
            channels = negate_planes(channels, (self.negate_x_channel,), self.negate_about)
        fill_blob(channels, out, self.means[which], self.scale, draw.mirror)
