"""Pictures with a label for each pixel as DeepLab and PSPNet are trained on them: ImageSegData."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, fill_blob, planes, read_picture, resize_caffe
from caffe_compat.media.lists import read_words

__all__ = ["ImageSegData"]


@register(dialect="pspnet")
class ImageSegData(DataLayer):
    """Pictures, resized by one of ``scale_factors`` at random, padded, cropped and mirrored together with their labels.

    Tops: (batch, channels, height, width) in BGR, (batch, 1, height, width), and if the prototxt names it, height and
    width (batch, 1, 1, 2) of the picture before it was scaled, at most those of the crop.  A line of ``source`` is a
    picture and, by ``label_type``, a gray picture of labels (PIXEL), the label of all pixels (IMAGE, the default) or
    nothing: ``ignore_label`` everywhere (NONE).  ``root_folder`` is put before paths as it is.

    Scaling labels takes the nearest pixel, but ``new_height`` and ``new_width`` resize them linearly, as in the fork.
    Where a picture is smaller than the crop, below and on the right it is padded with the mean and the labels with
    ``ignore_label``.  The crop is random in TRAIN, central in TEST; mirroring and scaling happen in both.  Source:
    ``image_seg_data_layer.cpp`` and ``DataTransformer::TransformImgAndSeg`` of hszhao/PSPNet.
    """

    caffe_type = "ImageSegData"
    labelled = True
    top_count = (2, 3)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("image_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        self.source, self.size = str(section.source), self.batch_size(section)
        self.root, self.color = str(section.root_folder), bool(section.is_color)
        self.kind, self.ignored = section.enum("label_type"), int(section.ignore_label)
        if not 0 <= self.ignored <= 255:
            raise self.error(f"image_data_param.ignore_label is {self.ignored}, expected 0 to 255")
        self.new_size = self._both(section, "new_height", "new_width")
        self._read_transform(params.section("transform_param"))
        for size in (self.new_size, self.crop):
            self.require_memory("a batch of pictures", [(self.size, 3, *size)])
        self.lines = read_words(self.source)
        rand_skip = int(section.rand_skip)
        self.order = Order(len(self.lines), bool(section.shuffle), self.seed)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(rand_skip)) if rand_skip else 0
        if self.skip >= len(self.lines):
            raise self.error(f"rand_skip {rand_skip} is too much for a list of {len(self.lines)} pictures")
        picture, _ = self._load(self.order[self.skip])
        high, wide = self.crop if self.crop[0] else picture.shape[:2]
        tops: list[Shape] = [
            (self.size, len(planes(picture)), high, wide),
            (self.size, 1, high, wide),
            (self.size, 1, 1, 2),
        ]
        self.shapes = tops[: len(params.tops)]

    def _both(self, section: Section, high: str, wide: str) -> tuple[int, int]:
        height, width = int(section.value(high)), int(section.value(wide))
        if bool(height) != bool(width):
            raise self.error(f"{section.field}: {high} is {height} and {wide} {width}, expected both or none")
        return height, width

    def _read_transform(self, section: Section) -> None:
        self.train_phase = self.params.phase == "TRAIN"
        self.scale, self.mirror = np.float32(section.scale), bool(section.mirror)
        self.mean = np.array(section.mean_value, np.float32)
        if section.has("mean_file"):
            raise self.error("transform_param.mean_file is not for this layer, as in the fork; expected mean_value")
        if len(self.mean) not in (0, 1, 3 if self.color else 1):
            raise self.error(f"transform_param has {len(self.mean)} mean_value, expected 1 or one for each channel")
        square, self.crop = int(section.crop_size), self._both(section, "crop_height", "crop_width")
        if square and self.crop[0]:
            raise self.error("transform_param has crop_size and crop_height, expected one of them")
        self.crop = (square, square) if square else self.crop
        self.factors = np.array(section.scale_factors, np.float32)
        if not (self.factors > 0).all() or not np.isfinite(self.factors).all():
            raise self.error(f"transform_param.scale_factors is {self.factors.tolist()}, expected positive numbers")
        if len(self.factors) and not self.crop[0]:
            raise self.error("transform_param has scale_factors without a crop, expected crop_size")

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        found = Preprocessing(
            "color" if self.color else "gray",
            mean=tuple(map(plain, self.mean)),
            scale=plain(self.scale),
            resize=self.new_size if self.new_size[0] else None,
            crop=self.crop if self.crop[0] else None,
            flip=self.mirror,
        )
        return {self.params.tops[0]: found}

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: pictures, labels, sizes."""
        random = self.random(number)
        data: np.ndarray | None = None
        labels, sizes = np.empty(0, np.float32), np.empty((self.size, 1, 1, 2), np.float32)
        for item, index in enumerate(self.records(number, self.size)):
            record = self.order[index + self.skip]
            picture, marks = self._load(record)
            size = self.crop if self.crop[0] else picture.shape[:2]
            if data is None:
                data = np.empty((self.size, len(planes(picture)), *size), np.float32)
                labels = np.empty((self.size, 1, *size), np.float32)
            if data.shape[2:] != tuple(size):
                raise self._about(record, f"is {picture.shape[:2]}, the first picture of the batch {data.shape[2:]}")
            sizes[item] = np.minimum(size, picture.shape[:2])
            mirrored = self.mirror and bool(random.integers(2))
            cut, marks = self._cropped(*self._padded(*self._scaled(picture, marks, random), record), random)
            fill_blob(planes(cut), data[item], self.mean, self.scale, mirrored)
            labels[item, 0] = marks[:, ::-1] if mirrored else marks
        if data is None:
            raise self.error("has no pictures in a batch, expected some")
        return (data, labels, sizes)[: len(self.params.tops)]

    def _scaled(
        self, picture: np.ndarray, marks: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        factor = self.factors[random.integers(len(self.factors))] if len(self.factors) else np.float32(1)
        if factor == 1:
            return picture, marks
        high, wide = (int(np.float32(side) * factor) for side in picture.shape[:2])
        if not (high and wide):
            raise self.data_error(f"{self.source}: a picture of {picture.shape[:2]} times {factor:g} has no pixels")
        nearest = cv2.resize(marks, (wide, high), interpolation=cv2.INTER_NEAREST)
        return resize_caffe(picture, high, wide), np.asarray(nearest)

    def _padded(self, picture: np.ndarray, marks: np.ndarray, record: int) -> tuple[np.ndarray, np.ndarray]:
        """At least as large as the crop; a padded picture is float32."""
        below, right = (max(crop - side, 0) for crop, side in zip(self.crop, marks.shape, strict=True))
        if not (below or right):
            return picture, marks
        if not len(self.mean):
            raise self._about(record, f"is smaller than the crop {list(self.crop)}, expected mean_value to pad it with")
        high, wide = marks.shape
        padded = np.empty((high + below, wide + right, *picture.shape[2:]), np.float32)
        padded[...] = self.mean
        padded[:high, :wide] = picture
        return padded, np.pad(marks, ((0, below), (0, right)), constant_values=self.ignored)

    def _cropped(
        self, picture: np.ndarray, marks: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self.crop[0]:
            return picture, marks
        room = [side - crop for side, crop in zip(marks.shape, self.crop, strict=True)]
        top, left = (int(random.integers(free + 1)) if self.train_phase else free // 2 for free in room)
        window = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
        return picture[window], marks[window]

    def _about(self, record: int, reason: str) -> CaffeCompatError:
        line, words = self.lines[record]
        return self.data_error(f"{self.source}, line {line}: {self.root}{words[0]} {reason}")

    def _load(self, record: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture and its labels, of one size."""
        line, words = self.lines[record]
        if self.kind != "NONE" and len(words) < 2:
            raise self._about(record, f"stands alone, expected 'picture labels' with label_type {self.kind}")
        try:
            picture = self._resized(read_picture(self.root + words[0], "color" if self.color else "gray"))
            if self.kind == "PIXEL":
                marks = self._resized(read_picture(self.root + words[1], "gray"))
            else:
                marks = np.full(picture.shape[:2], self._label(record), np.uint8)
        except CaffeCompatError as error:
            raise self.data_error(f"{self.source}, line {line}: {error}") from error
        if picture.shape[:2] != marks.shape:
            raise self._about(record, f"is {picture.shape[:2]}, its labels {marks.shape}, expected one size")
        return picture, marks

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        return resize_caffe(picture, *self.new_size) if self.new_size[0] else picture

    def _label(self, record: int) -> int:
        if self.kind == "NONE":
            return self.ignored
        text = self.lines[record][1][1]
        if not text.isdecimal() or int(text) > 255:
            raise self._about(record, f"has the label {text!r}, expected 0 to 255")
        return int(text)
