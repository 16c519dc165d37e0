"""Batches of pictures with a label for each pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.batches.transform import Transform
from caffe_compat.errors import CaffeCompatError
from caffe_compat.media import Pair, planes, read_picture, resize_caffe

__all__ = ["DenseReader", "MapJob", "MapReader", "ThresholdReader"]

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class MapJob:
    """The pictures of a batch and their labels, and the seed of what is random in it."""

    seed: Seed
    pairs: Sequence[Pair]


@dataclasses.dataclass(frozen=True, eq=False)
class MapReader(Reader[MapJob]):
    """Pictures (batch, channels, height, width) in BGR, and labels (batch, 1, height, width) out of gray pictures.

    Args:
        source: the list, for errors.
        new_size: height and width; (0, 0): as they are.
        transform: of pictures.
    """

    who: str
    source: str
    new_size: tuple[int, int]
    color: bool
    transform: Transform

    strict: ClassVar[bool] = False  #: whether sizes have to agree before pictures are resized, too

    @property
    def for_labels(self) -> Transform:
        """The same without mean and scale."""
        return dataclasses.replace(self.transform, mean=None, scale=np.float32(1), mean_values=np.zeros(0, np.float32))

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

    def read(self, job: MapJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures and labels."""
        random = np.random.default_rng(job.seed)
        data: np.ndarray | None = None
        labels: np.ndarray | None = None
        for_labels = self.for_labels
        for item, pair in enumerate(job.pairs):
            picture, marks = self.cut(*self.load(pair), random)
            blank = self.blank(picture, pair)
            if data is None or labels is None:
                data = new((len(job.pairs), *blank.shape[1:]))
                labels = new((len(job.pairs), 1, *self.label_size(blank.shape[2:])))
            if data.shape[1:] != blank.shape[1:]:
                raise self._about(pair, f"becomes {blank.shape[2:]}, the first picture of the batch {data.shape[2:]}")
            seed = int(random.integers(1 << 62))  # the same draws for both
            self.transform(planes(picture), data[item], np.random.default_rng(seed))
            for_labels(planes(marks), labels[item], np.random.default_rng(seed))
        if data is None or labels is None:
            raise self.error("has no pictures in a batch, expected some")
        return data, labels

    def about(self, job: MapJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(pair.first for pair in job.pairs)}"

    def _about(self, pair: Pair, reason: str) -> CaffeCompatError:
        return self.error(f"{self.source}, line {pair.line}: {pair.first} {reason}")

    def blank(self, picture: np.ndarray, pair: Pair) -> np.ndarray:
        """An array of the shape that a picture gets, without memory."""
        channels = planes(picture)
        try:
            shape = self.transform.shape(len(channels), *channels[0].shape)
        except CaffeCompatError as error:
            raise self._about(pair, str(error)) from error
        return np.broadcast_to(np.float32(0), (1, *shape))

    def load(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        with self.naming(f"{self.source}, line {pair.line}"):
            picture = read_picture(pair.first, "color" if self.color else "gray")
            gray = read_picture(pair.second, "gray")
        if picture.shape[:2] != gray.shape[:2] and (self.strict or not self.new_size[0]):
            raise self._about(pair, f"is {picture.shape[:2]}, its labels {gray.shape[:2]}, expected one size")
        if self.new_size[0]:
            picture = resize_caffe(picture, *self.new_size)
        return picture, self.labels(gray)


@dataclasses.dataclass(frozen=True, eq=False)
class DenseReader(MapReader):
    """Labels are gray values; resized they are those of the nearest pixel.

    Args:
        factor: labels have the so manieth part of the size.
        crop: height and width, at random; (0, 0): none.
    """

    mirror: bool = False
    crop: tuple[int, int] = (0, 0)
    factor: int = 1

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
            raise self.error(f"{self.source}: a picture of {list(size)} is smaller than the crop {list(self.crop)}")

    def blank(self, picture: np.ndarray, pair: Pair) -> np.ndarray:
        if self.crop[0]:
            self._require_crop(picture.shape[:2])
            picture = picture[: self.crop[0], : self.crop[1]]
        return super().blank(picture, pair)


@dataclasses.dataclass(frozen=True, eq=False)
class ThresholdReader(MapReader):
    """Labels are 1 where a gray picture is 128 or more, else 0; resized linearly before that."""

    strict: ClassVar[bool] = True

    def labels(self, gray: np.ndarray) -> np.ndarray:
        """The rounded 255th part, as OpenCV divides."""
        resized = resize_caffe(gray, *self.new_size) if self.new_size[0] else gray
        return (resized >= 128).astype(np.uint8)
