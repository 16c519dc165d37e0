"""Pictures that are turned, stretched and moved before they get their size, as lim0606/ndsb's data layers do.

Source: ``data_transformer.cpp`` (TransformAffine).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from caffe_compat.errors import DataError

__all__ = ["Affine"]


@dataclasses.dataclass(frozen=True)
class Affine:
    """What is done to a picture before its crop, with numbers drawn evenly.

    A rotation about the middle keeps the size, and with it loses corners (the source asks OpenCV for a size of nothing,
    which means the picture's own); then a stretch of both sides, a cut at two sides, and ``size``, all by cubic
    interpolation.

    Args:
        size: height and width of what becomes of it.
        rotation: degrees to either side.
        stretch: by how much the width and the height change at most, as parts of them.
        translation: pixels that are cut at most, and no more than a tenth of the height; 0: no cut.
        background: the grey around a picture that was turned.
    """

    size: int
    rotation: float
    stretch: tuple[float, float]
    translation: float
    background: int

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A picture (uint8 [H, W] or [H, W, C]) of the size.

        Raises:
            DataError: no pixel is left of it.
        """
        height, width = pixels.shape[:2]
        angle = random.uniform(-self.rotation, self.rotation)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        around = (float(self.background),) * 4
        made: np.ndarray = cv2.warpAffine(
            np.ascontiguousarray(pixels),
            turn,
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=around,
        )
        wide, high = (1 + np.float32(random.uniform(-part, part)) for part in self.stretch)
        sides = (int(np.float32(width) * wide), int(np.float32(height) * high))
        if min(sides) < 1:
            raise DataError(f"is {width}x{height}, and has no pixel left when it is stretched")
        made = cv2.resize(made, sides, interpolation=cv2.INTER_CUBIC)
        if self.translation:
            made = self._cut(made, self.translation, random)
        made = cv2.resize(made, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
        return made.reshape(self.size, self.size, *pixels.shape[2:])

    def _cut(self, pixels: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
        """Without some rows at one side and some columns at one side."""
        height, width = pixels.shape[:2]
        limits = (most, most) if height * 0.1 > most else (height * 0.1, width * 0.1)
        if min(int(limit * 2) for limit in limits) < 1:
            raise DataError(f"is {width}x{height} when it is stretched, too small to be moved by a tenth")
        down, right = (int(int(random.integers(int(limit * 2))) - limit) for limit in limits)
        top, left = max(down, 0), max(right, 0)
        return pixels[top : top + height - abs(down), left : left + width - abs(right)]
