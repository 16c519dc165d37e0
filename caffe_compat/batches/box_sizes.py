"""Sizes of pictures with boxes: how they vary, and those of a batch.

Source: zhaoweicai/mscnn, ``image_gt_data_layer.cpp``; zhaoweicai/cascade-rcnn, ``detection_data_layer.cpp``.  The draws
are those of the originals in kind and order; the numbers are this package's.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from caffe_compat.media.pixel_boxes import round_half_away

__all__ = ["MULTIPLE", "Octaves", "Scales", "Template"]

MULTIPLE = 32  #: of which sides are, in Cascade R-CNN
_f32 = np.float32


@dataclasses.dataclass(frozen=True)
class Octaves:
    """MS-CNN's sizes: half of the time a box gets a size of ``low`` to ``high`` pixels in steps of half an octave, and
    half of these times its width to height a ratio of ``aspects`` in steps of 0.05, which moves one side."""

    low: int
    high: int
    aspects: tuple[float, float] | None = None

    def factors(self, sides: np.ndarray | None, random: np.random.Generator) -> tuple[float, float]:
        """Of the picture's width and height, for a box of these sides; without one they stay."""
        if sides is None or not random.integers(2):
            return 1.0, 1.0
        wide, high = (_f32(side) for side in sides)
        count = round_half_away(_f32(2) * _f32(math.log2(_f32(self.high) / _f32(self.low))) + 1)
        steps = np.arange(count, dtype=np.float32) / _f32(2)
        area, fields = wide * high, ((self.low * 2.0 ** steps.astype(np.float64)) ** 2).astype(np.float32)
        alike = np.minimum(area, fields) / np.maximum(area, fields)
        match = steps[int(alike.argmax())] if alike.max() > 0 else _f32(0)
        factor = _f32(2.0 ** float((steps - match)[int(random.integers(count))]))
        if self.aspects is None or not random.integers(2):
            return float(factor), float(factor)
        return self._stretched(wide, high, factor, random)

    def _stretched(
        self, wide: np.floating, high: np.floating, factor: np.floating, random: np.random.Generator
    ) -> tuple[float, float]:
        """With another ratio of sides, if the side that moves stays near the sizes."""
        assert self.aspects is not None
        low, end = (_f32(aspect) for aspect in self.aspects)
        steps = max(round_half_away((end - low) / _f32(0.05)), 1)
        aspect = _f32(random.integers(steps)) * _f32(0.05) + low
        with np.errstate(divide="ignore", invalid="ignore"):  # boxes without an area, which no side then fits
            change = aspect / (wide / high)
        by_width = bool(random.integers(2))
        target = wide * factor * change if by_width else high * factor / change
        if not self.low * 0.8 <= target <= self.high * 1.2:
            return float(factor), float(factor)
        return (float(factor * change), float(factor)) if by_width else (float(factor), float(factor / change))


@dataclasses.dataclass(frozen=True)
class Scales:
    """Cascade R-CNN's: with a probability of ``chance`` a factor between two, or one that brings a box to a size
    between two (``of_box``); with ``aspects`` sides get another ratio, too."""

    low: float
    high: float
    of_box: bool
    chance: float
    aspects: tuple[float, float] | None = None

    def factors(self, sides: np.ndarray | None, random: np.random.Generator) -> tuple[float, float]:
        """As :meth:`Octaves.factors`; for a size without a box the factor is 2, as there."""
        if not random.random() < self.chance:
            return 1.0, 1.0
        low, high = (_f32(side) for side in (self.low, self.high))
        if self.of_box and sides is not None:  # the last pixel counts
            scale = np.sqrt((_f32(sides[0]) + 1) * (_f32(sides[1]) + 1))
            low, high = low / scale, high / scale
        ends = [math.log2(side) for side in (low, high)] if not self.of_box or sides is not None else [1.0, 1.0]
        factor = _f32(2.0 ** random.uniform(ends[0], ends[1]))
        if self.aspects is None:
            return float(factor), float(factor)
        aspect = random.uniform(math.log2(self.aspects[0]), math.log2(self.aspects[1]))
        root = np.sqrt(_f32(2.0**aspect))
        return float(factor * root), float(factor / root)


@dataclasses.dataclass(frozen=True)
class Template:
    """Height and width of the tops of a batch, and how pictures come to them.

    Attributes:
        resize: height and width that pictures get first; None: see the others.
        ratio: pictures are so many times as large first.
        short, long: the short side that pictures get first, and the long one of the tops; their orientation is that of
            the first picture of a batch.
        crop: height and width of the tops; else crop_short and crop_long sides as above; else what became of the first
            picture.
        ratios: one is drawn for each batch; ``short`` and ``long`` are so many times as large, rounded to 32.
    """

    resize: tuple[int, int] | None = None
    ratio: float | None = None
    sides: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    crop_sides: tuple[int, int] | None = None
    ratios: tuple[float, ...] = ()

    def drawn(self, random: np.random.Generator) -> np.floating:
        """The factor of a batch."""
        return _f32(self.ratios[int(random.integers(len(self.ratios)))]) if self.ratios else _f32(1)

    def first_size(self, height: int, width: int, factor: np.floating) -> tuple[int, int]:
        """Height and width that a picture gets first."""
        if self.resize is not None:
            return self.resize
        if self.ratio is not None:
            return round_half_away(_f32(height) * _f32(self.ratio)), round_half_away(_f32(width) * _f32(self.ratio))
        if self.sides is None:
            return height, width
        scale = _f32(_rounded(self.sides[0], factor)) / _f32(min(height, width))
        return round_half_away(_f32(height) * scale), round_half_away(_f32(width) * scale)

    def size(self, height: int, width: int, factor: np.floating) -> tuple[int, int]:
        """Height and width of the tops, for a first picture of that size after :meth:`first_size`."""
        if self.crop is not None or self.resize is not None:
            return self.crop or self.resize or (height, width)
        if self.crop_sides is not None:
            short, long = self.crop_sides
        elif self.sides is not None:
            short, long = (_rounded(side, factor) for side in self.sides)
        else:
            return height, width
        return (long, short) if height >= width else (short, long)


def _rounded(side: int, factor: np.floating) -> int:
    return round_half_away(_f32(side) * factor / _f32(MULTIPLE)) * MULTIPLE
