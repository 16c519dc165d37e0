"""Pictures with a label for each pixel: DenseImageData of SegNet, ImageLabelmapData of HED."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, planes, read_picture, resize_caffe
from caffe_compat.media.lists import read_path_pairs

__all__ = ["DenseImageData", "ImageLabelmapData"]


class _LabelledMaps(DataLayer):
    """Pictures and labels that a list names, two words for each; ``root_folder`` is put before them as it is.

    Tops: (batch, channels, height, width) in BGR, and (batch, 1, height, width), labels out of a gray picture of the
    same size, of which neither mean nor scale is taken.  Pictures of a batch have one size.
    """

    labelled = True
    top_count = (2, 2)
    field: ClassVar[str]

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section(self.field)
        self.source, self.size = str(section.source), self.batch_size(section)
        self.new_size = self._both(section, "new_height", "new_width")
        self.require_memory("a batch of resized pictures", [(self.size, 3, *self.new_size)])
        self.color, rand_skip = bool(section.is_color), int(section.rand_skip)
        self.transformer = Transformer(params)
        self.for_labels = copy.copy(self.transformer)
        self.for_labels.mean, self.for_labels.scale = None, np.float32(1)
        self.for_labels.mean_values = np.zeros(0, np.float32)
        self._read_more(section)
        self.pairs = read_path_pairs(self.source, str(section.root_folder))
        self.order = Order(len(self.pairs), bool(section.shuffle), self.seed)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(rand_skip)) if rand_skip else 0
        if self.skip >= len(self.pairs):
            raise self.error(f"rand_skip {rand_skip} is too much for a list of {len(self.pairs)} pictures")
        _, channels, high, wide = self._blank(self._load(self.order[self.skip])[0], self.order[self.skip]).shape
        self.shapes = [(self.size, channels, high, wide), (self.size, 1, *self.label_size((high, wide)))]

    def _both(self, section: Section, high: str, wide: str) -> tuple[int, int]:
        height, width = int(section.value(high)), int(section.value(wide))
        if bool(height) != bool(width):
            raise self.error(f"{section.field}: {high} is {height} and {wide} {width}, expected both or none")
        return height, width

    def _read_more(self, section: Section) -> None:
        """The fields that the other layer does not have."""
        raise NotImplementedError

    def labels(self, gray: np.ndarray) -> np.ndarray:
        """Labels in their :meth:`label_size`, before they are cropped."""
        raise NotImplementedError

    def label_size(self, size: Shape) -> Shape:
        """Height and width of the labels of a picture of that size."""
        return tuple(size)

    def cut(
        self, picture: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both mirrored and cropped, before ``transform_param`` is applied."""
        return picture, labels

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        found = self.transformer.wants(3 if self.color else 1, self.new_size if self.new_size[0] else None)
        return {} if found is None else {self.params.tops[0]: found}

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: pictures and labels."""
        random = self.random(number)
        data: np.ndarray | None = None
        labels: np.ndarray | None = None
        for item, index in enumerate(self.records(number, self.size)):
            record = self.order[index + self.skip]
            picture, marks = self.cut(*self._load(record), random)
            blank = self._blank(picture, record)
            if data is None or labels is None:
                data = np.empty((self.size, *blank.shape[1:]), np.float32)
                labels = np.empty((self.size, 1, *self.label_size(blank.shape[2:])), np.float32)
            if data.shape[1:] != blank.shape[1:]:
                raise self._about(record, f"becomes {blank.shape[2:]}, the first picture of the batch {data.shape[2:]}")
            seed = int(random.integers(1 << 62))  # the same draws for both
            self.transformer(planes(picture), data[item], np.random.default_rng(seed))
            self.for_labels(planes(marks), labels[item], np.random.default_rng(seed))
        if data is None or labels is None:
            raise self.error("has no pictures in a batch, expected some")
        return data, labels

    def _about(self, record: int, reason: str) -> CaffeCompatError:
        pair = self.pairs[record]
        return self.data_error(f"{self.source}, line {pair.line}: {pair.first} {reason}")

    def _blank(self, picture: np.ndarray, record: int) -> np.ndarray:
        """An array of the shape that a picture gets, without memory."""
        channels = planes(picture)
        try:
            shape = self.transformer.shape(len(channels), *channels[0].shape)
        except CaffeCompatError as error:
            raise self._about(record, str(error)) from error
        return np.broadcast_to(np.float32(0), (1, *shape))

    def _load(self, record: int) -> tuple[np.ndarray, np.ndarray]:
        pair = self.pairs[record]
        try:
            picture = read_picture(pair.first, "color" if self.color else "gray")
            gray = read_picture(pair.second, "gray")
        except CaffeCompatError as error:
            raise self.data_error(f"{self.source}, line {pair.line}: {error}") from error
        if picture.shape[:2] != gray.shape[:2] and (self.strict or not self.new_size[0]):
            raise self._about(record, f"is {picture.shape[:2]}, its labels {gray.shape[:2]}, expected one size")
        if self.new_size[0]:
            picture = resize_caffe(picture, *self.new_size)
        return picture, self.labels(gray)

    strict: ClassVar[bool] = False  #: whether sizes have to agree before pictures are resized, too


@register(dialect="segnet")
class DenseImageData(_LabelledMaps):
    """Labels are gray values; resized they are those of the nearest pixel.

    ``mirror`` and ``crop_height`` x ``crop_width`` are the message's own, at random in both phases; those of
    ``transform_param`` are refused, as in the fork.  Source: ``dense_image_data_layer.cpp`` of
    alexgkendall/caffe-segnet.  ENet's ``label_divide_factor`` (TimoSaemann/caffe-enet) makes labels of the so manieth
    part of ``new_height`` and ``new_width``, cut to whole numbers; without these sizes, and with a crop, it is refused,
    where the fork reads past its labels.
    """

    caffe_type = "DenseImageData"
    field = "dense_image_data_param"

    def _read_more(self, section: Section) -> None:
        ignore_transform_fields(self.params, section, "mean_file")
        self.mirror, self.crop = bool(section.mirror), self._both(section, "crop_height", "crop_width")
        if self.transformer.mirror or self.transformer.crop:
            raise self.error("transform_param has mirror or crop_size, expected those of dense_image_data_param")
        self.factor = int(section.label_divide_factor)
        if not 1 <= self.factor <= (min(self.new_size) or self.factor):
            raise self.error(
                f"{section.field}.label_divide_factor is {self.factor}, expected 1 to the size {min(self.new_size)}"
            )
        if self.factor > 1 and (self.crop[0] or not self.new_size[0]):
            raise self.error(
                f"{section.field}.label_divide_factor is {self.factor}, expected new_height and new_width with it, and "
                "no crop"
            )

    def label_size(self, size: Shape) -> Shape:
        """The so manieth part of it."""
        return tuple(side // self.factor for side in size)

    def labels(self, gray: np.ndarray) -> np.ndarray:
        """Of the nearest pixels."""
        size = self.label_size(self.new_size)
        if not self.new_size[0] or gray.shape == size:
            return gray
        return np.asarray(cv2.resize(gray, size[::-1], interpolation=cv2.INTER_NEAREST))

    def cut(
        self, picture: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mirror, then crop."""
        if self.mirror and bool(random.integers(2)):
            picture, labels = picture[:, ::-1], labels[:, ::-1]
        if not self.crop[0]:
            return picture, labels
        self._require_crop(labels.shape)
        top, left = (int(random.integers(h - c + 1)) for h, c in zip(labels.shape, self.crop, strict=True))
        window = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
        return picture[window], labels[window]

    def _require_crop(self, size: Sequence[int]) -> None:
        if any(crop > side for crop, side in zip(self.crop, size, strict=True)):
            raise self.data_error(
                f"{self.source}: a picture of {list(size)} is smaller than the crop {list(self.crop)}"
            )

    def _blank(self, picture: np.ndarray, record: int) -> np.ndarray:
        if self.crop[0]:
            self._require_crop(picture.shape[:2])
            picture = picture[: self.crop[0], : self.crop[1]]
        return super()._blank(picture, record)


@register(dialect="hed")
class ImageLabelmapData(_LabelledMaps):
    """Labels are 1 where a gray picture is 128 or more, else 0; resized linearly before that.

    ``transform_param``'s mirror and crop fall on both alike.  Source: ``image_labelmap_data_layer.cpp`` of s9xie/hed.
    """

    caffe_type = "ImageLabelmapData"
    field = "image_data_param"
    strict = True

    def _read_more(self, section: Section) -> None:
        ignore_transform_fields(self.params, section, "scale", "mean_file", "crop_size", "mirror")

    def labels(self, gray: np.ndarray) -> np.ndarray:
        """The rounded 255th part, as OpenCV divides."""
        resized = resize_caffe(gray, *self.new_size) if self.new_size[0] else gray
        return (resized >= 128).astype(np.uint8)
