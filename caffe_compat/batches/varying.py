"""Sizes and shapes that vary from picture to picture before a crop.

Source: intel/caffe, ``data_transformer.cpp`` (RandomResizeImage, RandomAlterAspectRatio).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np

from caffe_compat.batches.augmenting import resize_picture
from caffe_compat.errors import DataError

__all__ = ["Varying"]

_STEPS = 1000  #: the original draws thousandths


@dataclasses.dataclass(frozen=True, eq=False)
class Varying:
    """``random_resize_param`` (``sides``) or else ``random_aspect_ratio_param`` (``part``).

    With ``sides`` the short side becomes a number of pixels between two.  With ``part`` a part of the picture is cut
    out and made as large as the crop: of an area and a ratio of sides that are drawn until it fits, at most
    ``max_attempt`` times; then the short side becomes the crop's.

    Args:
        crop: pixels of the crop that follows.
        sides: least and most pixels of the short side; 0: the short, and the long side of the picture.
        part: the ``RandomAspectRatioParameter``.
        resize: the ``ResizeParameter`` in either: how it is made of another size.
    """

    crop: int
    sides: tuple[int, int] | None
    part: Any
    resize: Any

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What becomes of a picture (uint8 [H, W] or [H, W, C]), not smaller than the crop.

        Raises:
            DataError: it is no picture, or would be smaller.
        """
        if pixels.dtype != np.uint8:
            raise DataError(f"holds {pixels.dtype}, expected pictures for random_resize_param")
        deep = pixels if pixels.ndim == 3 else pixels[..., None]
        made = self._short(deep, random) if self.sides is not None else self._part(deep, random)
        made = made.reshape(*made.shape[:2], -1)
        if self.crop > min(made.shape[:2]):
            raise DataError(f"becomes {made.shape[1]}x{made.shape[0]}, smaller than crop_size {self.crop}")
        return made if pixels.ndim == 3 else made[..., 0]

    def _short(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        assert self.sides is not None
        low, high = self.sides[0] or min(pixels.shape[:2]), self.sides[1] or max(pixels.shape[:2])
        if low > high:
            raise DataError(f"is {pixels.shape[1]}x{pixels.shape[0]}, random_resize_param asks for {low} to {high}")
        return self._to_short(pixels, int(random.integers(high - low + 1)) + low, random)

    def _part(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        own = self.part
        height, width = pixels.shape[:2]
        for _ in range(own.max_attempt):
            area = _drawn(own.min_area_ratio, own.max_area_ratio, random) * height * width
            change = _drawn(own.aspect_ratio_change, 1 / own.aspect_ratio_change, random)
            high, wide = int(math.sqrt(area) * change), int(math.sqrt(area) / change)
            if _drawn(0, 1, random) < 0.5:
                high, wide = wide, high
            if 0 < high <= height and 0 < wide <= width:
                top, left = int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))
                return self._made(pixels[top : top + high, left : left + wide], self.crop, self.crop, random)
        return self._to_short(pixels, self.crop, random)

    def _to_short(self, pixels: np.ndarray, short: int, random: np.random.Generator) -> np.ndarray:
        height, width = pixels.shape[:2]
        if height < width:
            return self._made(pixels, short, int(np.float32(width) / height * short), random)
        return self._made(pixels, int(np.float32(height) / width * short), short, random)

    def _made(self, pixels: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
        wanted = copy.copy(self.resize)
        wanted.height, wanted.width = height, width
        return resize_picture(np.ascontiguousarray(pixels), wanted, random)


def _drawn(low: float, high: float, random: np.random.Generator) -> float:
    """A number from ``low`` on, in steps of a thousandth."""
    return low + int(random.integers(int((high - low) * _STEPS + 1))) / _STEPS
