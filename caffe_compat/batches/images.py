"""Batches of labelled images that a list names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from caffe_compat.batches.reader import Bytes, New, Reader, shown
from caffe_compat.batches.transform import Transform
from caffe_compat.errors import CaffeCompatError
from caffe_compat.media import LabelledImage, read_picture, resize_caffe

__all__ = ["ImageJob", "ImageReader", "Seed"]

Seed = Sequence[int]
"""Of numpy's generator."""


@dataclasses.dataclass(frozen=True)
class ImageJob:
    """The images of a batch, and the seed of what is random in it."""

    seed: Seed
    images: Sequence[LabelledImage]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageReader(Reader[ImageJob]):
    """Images (batch, channels, height, width) in BGR, and labels (batch).

    Args:
        source: the list, for errors.
        new_size: height and width; (0, 0): as they are.
        dtype: of images.
    """

    who: str
    source: str
    new_size: tuple[int, int]
    color: bool
    transform: Transform
    dtype: npt.DTypeLike = np.float32

    def as_bytes(self) -> Bytes | None:
        """As :meth:`Reader.as_bytes`."""
        levels = self.transform.levels
        return None if levels is None else Bytes(dataclasses.replace(self, dtype=np.uint8), (levels,))

    def read(self, job: ImageJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: images and labels."""
        random = np.random.default_rng(job.seed)
        data: np.ndarray | None = None
        labels = new((len(job.images),))
        for item, image in enumerate(job.images):
            pixels = self.load(image)
            shape = self.shape(pixels, image)
            if data is None:
                data = new((len(job.images), *shape), self.dtype)
            if data.shape[1:] != shape:
                raise self.error(
                    f"{self.source}, line {image.line}: {image.path} is {shape[2]}x{shape[1]}, the first image of the "
                    f"batch {data.shape[3]}x{data.shape[2]}; use batch_size 1, new_height and new_width, or crop_size"
                )
            self.transform.picture(pixels, data[item], random)
            labels[item] = image.label
        assert data is not None
        return data, labels

    def about(self, job: ImageJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(image.path for image in job.images)}"

    def load(self, image: LabelledImage) -> np.ndarray:
        """An image, decoded and resized."""
        try:
            pixels = read_picture(image.path, "color" if self.color else "gray")
        except CaffeCompatError as error:
            raise self.error(f"{self.source}, line {image.line}: {error}") from error
        return resize_caffe(pixels, *self.new_size) if self.new_size[0] else pixels

    def shape(self, pixels: np.ndarray, image: LabelledImage) -> tuple[int, ...]:
        """Shape of what becomes of an image."""
        try:
            return self.transform.shape(1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])
        except CaffeCompatError as error:
            raise self.error(f"{self.source}, line {image.line}: {image.path}: {error}") from error
