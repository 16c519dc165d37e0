"""Decoding and scaling the pictures of minibatches, in this process or in workers.  Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.config import Config
from caffe_compat.detection.images import join_blobs, read_modalities, scaled_image
from caffe_compat.errors import in_file
from caffe_compat.media import short_side_factor

__all__ = ["PictureReader", "RegionImage"]


@dataclasses.dataclass(frozen=True)
class RegionImage:
    """One image of a minibatch.

    Args:
        name: of the image, for errors.
        paths: a file for each modality.
        size: height and width that they must have; None: any.
        flipped: columns in reverse order.
        scale: pixels of the short side.
    """

    name: str
    paths: Sequence[str]
    size: tuple[int, int] | None
    flipped: bool
    scale: int


@dataclasses.dataclass(frozen=True, eq=False)
class PictureReader(Reader[Sequence[RegionImage]]):
    """The pictures of a minibatch, float32 [I, 3, H, W] for each modality, and the factors of their boxes, float64 [I].

    Args:
        modalities: their names.
        config: PIXEL_MEANS, MODALITY_MEANS, PARITY and TRAIN.MAX_SIZE are read.
    """

    who: str
    modalities: tuple[str, ...]
    config: Config

    def read(self, job: Sequence[RegionImage], new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        pictures: list[list[np.ndarray]] = [[] for _ in self.modalities]
        factors = []
        for image in job:
            with in_file(f"image {image.name}"):
                found = read_modalities(image.paths, image.size)
            factor = short_side_factor(found[0].shape[0], found[0].shape[1], image.scale, self.config.train.max_size)
            factors.append(factor)
            for place, (name, picture) in enumerate(zip(self.modalities, found, strict=True)):
                scaled = scaled_image(picture, self.config, factor, image.flipped, name, place=place)
                pictures[place].append(scaled)
        return (*(join_blobs(found, new) for found in pictures), np.array(factors, np.float64))

    def about(self, job: Sequence[RegionImage]) -> str:
        """As :meth:`Reader.about`."""
        return shown(path for image in job for path in image.paths)
