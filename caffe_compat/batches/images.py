"""Batches of labelled images that a list names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.pictures import Loaded, PictureReader
from caffe_compat.batches.reader import shown
from caffe_compat.media import LabelledImage, read_picture, resize_caffe

__all__ = ["ImageJob", "ImageReader", "Seed", "enlarged"]

Seed = Sequence[int]
"""Of numpy's generator."""


def enlarged(height: int, width: int, least: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture that is to have ``least``: the side that lacks more pixels gets that many.

    As in LisaAnne/lisa-caffe-public (``io.cpp``) and intel/caffe, the other side may stay short of it.
    """
    if height >= least[0] and width >= least[1]:
        return height, width
    if least[1] - width > least[0] - height:
        return int(np.float64(np.float32(least[1]) * (np.float32(height) / np.float32(width))) + 0.5), least[1]
    return least[0], int(np.float64(np.float32(least[0]) * (np.float32(width) / np.float32(height))) + 0.5)


@dataclasses.dataclass(frozen=True)
class ImageJob:
    """The images of a batch, and the seed of what is random in it."""

    seed: Seed
    images: Sequence[LabelledImage]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageReader(PictureReader[ImageJob, LabelledImage]):
    """Images of a list.

    Args:
        source: the list, for errors.
        new_size: height and width; (0, 0): as they are.
        least: height and width that an image is made larger to, where it is as it is.
        rgb: whether colours come as RGB.
    """

    source: str
    new_size: tuple[int, int]
    color: bool
    least: tuple[int, int] = dataclasses.field(default=(0, 0), kw_only=True)
    rgb: bool = dataclasses.field(default=False, kw_only=True)

    def batch(self, job: ImageJob) -> tuple[Seed, Sequence[LabelledImage]]:
        """As :meth:`PictureReader.batch`."""
        return job.seed, job.images

    def about(self, job: ImageJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(image.path for image in job.images)}"

    def load(self, item: LabelledImage) -> Loaded:
        """An image, decoded and resized."""
        where = f"{self.source}, line {item.line}"
        with self.naming(where):
            pixels = read_picture(item.path, "color" if self.color else "gray")
        if self.new_size[0]:
            pixels = resize_caffe(pixels, *self.new_size)
        else:
            pixels = resize_caffe(pixels, *enlarged(pixels.shape[0], pixels.shape[1], self.least))
        if self.rgb:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        with self.naming(f"{where}: {item.path}"):
            shape = self.transform.shape(1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])
        return Loaded(pixels, None, shape, item.label)

    def unlike(self, item: LabelledImage, shape: Sequence[int], first: Sequence[int]) -> str:
        """As :meth:`PictureReader.unlike`."""
        return (
            f"{self.source}, line {item.line}: {item.path} is {shape[2]}x{shape[1]}, the first image of the batch "
            f"{first[2]}x{first[1]}; use batch_size 1, new_height and new_width, or crop_size"
        )
