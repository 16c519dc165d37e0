"""Sizes and shapes that NVIDIA's Caffe draws for each picture before a crop.

Source: NVIDIA/caffe, ``data_transformer.cpp`` (image_random_resize).
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from caffe_compat.errors import DataError

__all__ = ["Stretching"]

Limits = tuple[float, float]  #: least and most of what is drawn


@dataclasses.dataclass(frozen=True)
class Stretching:
    """The short side becomes a number of pixels, then the shape and each side change by factors; all are drawn.

    A picture is never made smaller than the crop that follows, and by default neither larger than it was.

    Args:
        crop: pixels of the crop.
        sides: ``img_rand_resize_lower`` and ``upper``; the short side stays unless both are above 0.
        ratio: ``rand_resize_ratio_*``: the long side becomes the short one times this; below 1, 1: stays.
        vertical: ``vertical_stretch_*``: a factor of the height.
        horizontal: ``horizontal_stretch_*``: of the width.
        down: OpenCV's way to interpolate where no side grows.
        up: that for all other sizes.
        upscale: ``allow_upscale``.
    """

    crop: int
    sides: tuple[int, int] = (0, 0)
    ratio: Limits = (0, 0)
    vertical: Limits = (1, 1)
    horizontal: Limits = (1, 1)
    down: int = cv2.INTER_NEAREST
    up: int = cv2.INTER_CUBIC
    upscale: bool = False

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What becomes of a picture (uint8 [H, W] or [H, W, C]), not smaller than the crop.

        Raises:
            DataError: it is no picture, or would be smaller.
        """
        if pixels.dtype != np.uint8:
            raise DataError(f"holds {pixels.dtype}, expected pictures for sizes that are drawn")
        height, width = self._size(pixels.shape[0], pixels.shape[1], random)
        if self.crop > min(height, width):
            raise DataError(f"becomes {width}x{height}, smaller than crop_size {self.crop}")
        if (height, width) == pixels.shape[:2]:
            return pixels
        smaller = height <= pixels.shape[0] and width <= pixels.shape[1]
        made = cv2.resize(
            np.ascontiguousarray(pixels), (width, height), interpolation=self.down if smaller else self.up
        )
        return made.reshape(height, width, *pixels.shape[2:])

    def _size(self, high: int, wide: int, random: np.random.Generator) -> tuple[int, int]:
        """Height and width that a picture of that size gets, with C++'s types."""
        short = min(high, wide)
        if min(self.sides) > 0:
            short = self.sides[0] + int(random.integers(self.sides[1] - self.sides[0] + 1))
        scale = np.float32(short) / np.float32(min(high, wide))
        height, width = scale * np.float32(high), scale * np.float32(wide)
        if self.ratio[0] >= 1 and self.ratio[1] > 1:
            ratio = _drawn(self.ratio, random)
            if width > height or (width == height and random.integers(2)):
                width = height * ratio
            else:
                height = width * ratio
        if min(self.vertical) > 0:
            height = height * _drawn(self.vertical, random)
        if min(self.horizontal) > 0:
            width = width * _drawn(self.horizontal, random)
        made = [max(self.crop, math.floor(float(side) + 0.5)) for side in (height, width)]
        return (made[0], made[1]) if self.upscale else (min(made[0], high), min(made[1], wide))


def _drawn(limits: Limits, random: np.random.Generator) -> np.float32:
    return np.float32(limits[0] if limits[0] == limits[1] else random.uniform(min(limits), max(limits)))
