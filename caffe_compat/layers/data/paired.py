"""Pairs of images of one scene in two modalities, for supervision transfer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.pairs import Draw, PairItem, PairJob, PairReader
from caffe_compat.depth.stated import stated_encoding
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.boxes import PairBoxes
from caffe_compat.layers.data.prefetch import usual_depth
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, check_pairs, read_pair_list

__all__ = ["PairedImageData"]


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
        self.samples = len(self.pairs)
        self.batches = self.samples / self.size
        self.scale = np.float32(section.scale)
        self.means = self._read_means(section)
        self.negate_x_channel, self.negate_about = int(section.negate_x_channel), float(section.negate_about)
        self.resize_to, self.short_side, self.crop, self.multiple = self._read_geometry(section)
        if not -1 <= self.negate_x_channel <= 2:
            raise self.error(f"negate_x_channel is {self.negate_x_channel}, expected 0, 1, 2 or -1 for none")
        if not 0 <= self.negate_about <= 255:
            raise self.error(f"negate_about is {self.negate_about:g}, expected 0 to 255")
        reader = self._make_reader()
        self._check_heads(reader)
        self.boxes = self._read_boxes(section)
        self.reader = reader if self.boxes is None else dataclasses.replace(reader, count=self.boxes.count)
        first, second, _ = reader.load(self.pairs[self.order[0]], Draw(False, 0.0, 0.0))
        self.shapes = [(self.size, 3, *image.shape[:2]) for image in (first, second)]
        if self.boxes is not None:
            self.shapes.append((self.size * self.boxes.count, 5))

    def _make_reader(self) -> PairReader:
        return PairReader(
            self.who,
            self.source,
            self.train_phase,
            self.mirror,
            self.means,
            self.scale,
            self.negate_x_channel,
            self.negate_about,
            self.resize_to,
            self.short_side,
            self.crop,
            self.multiple,
        )

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

    def _check_heads(self, reader: PairReader) -> None:
        """Refuse all pairs at once whose images are missing, unlike in size, or too small for a crop."""

        def further(size: tuple[int, int]) -> None:
            reader.window(*reader.resized(size), Draw(False, 0.0, 0.0))

        try:
            check_pairs(self.source, self.pairs, further)
        except DataError as error:
            raise self.data_error(str(error)) from error

    def _read_means(self, section: Section) -> tuple[np.ndarray, np.ndarray]:
        first, second = list(section.mean_value), list(section.mean_value_1)
        for name, values in (("mean_value", first), ("mean_value_1", second)):
            if len(values) not in (0, 1, 3):
                raise self.error(f"{name} has {len(values)} entries, expected 1 or 3 (blue, green, red)")
        one, other = (
            np.array(mean * 3 if len(mean) == 1 else mean or [0] * 3, np.float32) for mean in (first, second or first)
        )
        return one, other

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

    def job(self, number: int) -> PairJob:
        """As :meth:`DataLayer.job`."""
        items = [self._item(record) for record in self.records(number, self.size)]
        return PairJob(self.random_seed(number), items)

    def _item(self, record: int) -> PairItem:
        place = self.order[record]
        if self.boxes is None:
            return PairItem(self.pairs[place])
        seed = (self.seed, 2, record if self.train_phase else record % len(self.pairs))
        return PairItem(self.pairs[place], self.boxes.boxes[place], seed)
