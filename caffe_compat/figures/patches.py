"""The patches to which units answer most, cut out of both modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.errors import DataError, UsageError
from caffe_compat.figures.answers import Answers, Feature, Moments, Place
from caffe_compat.figures.sources import PairSource
from caffe_compat.layers.reach import Spans
from caffe_compat.net.receptive import Grid, ReceptiveFields

__all__ = ["Patch", "Patches", "Windows", "crop", "cut_patches"]

BEYOND = 224
"""The grey of what lies beyond a picture."""


@dataclass(frozen=True)
class Patch:
    """A place to which a unit answers, in both modalities.

    Attributes:
        place: pair, unit's place on the map, answer.
        window: rows and columns (first, last) of the pair's pictures; may reach beyond them.
        first, second: uint8 [h, w, 3], blue first; grey where the window lies beyond the picture.
    """

    place: Place
    window: Spans
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Patches:
    """One pair of units.

    Attributes:
        unit: their number.
        correlation: of their answers over all places of all pairs; NaN where one of them never varies.
        teacher, student: where each answers most, strongest first.
    """

    unit: int
    correlation: float
    teacher: tuple[Patch, ...]
    student: tuple[Patch, ...]


class Windows:
    """What the units of a feature see: windows of one size, in pictures of any size.

    A net whose layers do not tell (one of another framework) is looked up in another feature whose maps have the same
    places.  A field larger than the picture is as large as the picture.

    Args:
        feature: whose units.
        other: the feature of the other net.
        side: pixels of square windows around the middle of the fields instead; 0: the fields.
    """

    def __init__(self, feature: Feature, other: Feature, side: int = 0) -> None:
        if side < 0:
            raise UsageError(f"--patch is {side}, expected a positive number of pixels")
        self._features, self._side = (feature, other), side
        self._fields: dict[tuple[int, int], tuple[ReceptiveFields, ReceptiveFields]] = {}

    def grid(self, size: tuple[int, int]) -> Grid | None:
        """Size, jump and offset of the fields in pictures of (height, width), if the net's own layers tell them."""
        return None if self._tells_nothing(self._of(size)[0]) else self._of(size)[0].grid

    def window(self, row: int, column: int, size: tuple[int, int]) -> Spans:
        """Rows and columns of a unit's window in pictures of (height, width)."""
        own, other = self._of(size)
        fields, at = own, (row, column)
        if self._tells_nothing(own) and not self._tells_nothing(other):
            fields, at = other, (min(row, other.units[0] - 1), min(column, other.units[1] - 1))
        rows, columns = fields.field(*at).window
        if self._tells_nothing(fields):  # the middle of its cell
            middle = [
                (2 * place + 1) * length / (2 * count)
                for place, length, count in zip(at, size, fields.units, strict=True)
            ]
        else:
            middle = [(first + last + 1) / 2 for first, last in (rows, columns)]
        spans = [
            (start := math.floor(middle[axis] - self._side / 2), start + self._side - 1) if self._side else span
            for axis, span in enumerate((rows, columns))
        ]
        whole = [
            (0, length - 1) if last - first + 1 >= length else (first, last)
            for (first, last), length in zip(spans, size, strict=True)
        ]
        return whole[0], whole[1]

    def inside(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the map whose windows lie within pictures of (height, width).

        Raises:
            DataError: there are none.
        """
        kept = []
        units = self._of(size)[0].units
        for axis in (0, 1):
            spans = [self.window(*((at, 0) if axis == 0 else (0, at)), size)[axis] for at in range(units[axis])]
            within = [at for at, (first, last) in enumerate(spans) if first >= 0 and last < size[axis]]
            if not within:
                sides = [last - first + 1 for first, last in spans]
                raise DataError(
                    f"no unit of '{self._features[0].blob}' sees only what is within {size[0]} x {size[1]} pixels: "
                    f"the windows are {max(sides)} pixels long"
                )
            kept.append(slice(within[0], within[-1] + 1))
        return kept[0], kept[1]

    def _of(self, size: tuple[int, int]) -> tuple[ReceptiveFields, ReceptiveFields]:
        if size not in self._fields:
            found = [
                ReceptiveFields(feature.net.plan, feature.blob, (1, feature.channels, *size))
                for feature in self._features
            ]
            self._fields[size] = (found[0], found[1])
        return self._fields[size]

    @staticmethod
    def _tells_nothing(fields: ReceptiveFields) -> bool:
        """Whether units in different places have one and the same field."""
        last = fields.field(fields.units[0] - 1, fields.units[1] - 1)
        return fields.units != (1, 1) and fields.field(0, 0) == last


def crop(picture: np.ndarray, window: Spans) -> np.ndarray:
    """What lies in a window, grey beyond the picture: uint8 [h, w, 3]."""
    (top, bottom), (left, right) = window
    found = np.full((bottom - top + 1, right - left + 1, 3), BEYOND, np.uint8)
    height, width = picture.shape[:2]
    y, x = slice(max(top, 0), min(bottom + 1, height)), slice(max(left, 0), min(right + 1, width))
    found[y.start - top : y.stop - top, x.start - left : x.stop - left] = picture[y, x]
    return found


def cut_patches(
    units: Sequence[int],
    count: int,
    answers: tuple[Answers, Answers],
    moments: Moments,
    windows: tuple[Windows, Windows],
    source: PairSource,
) -> list[Patches]:
    """The patches of some pairs of units.

    Args:
        units: their numbers.
        count: patches of each unit, from as many pairs; fewer where a unit answers to fewer.
        answers, windows: of teacher and student.
        moments: of their answers.

    Raises:
        UsageError: a unit that the features do not have, or a count below 1.
    """
    there = len(moments.product)
    if wrong := [unit for unit in units if not 0 <= unit < there]:
        raise UsageError(f"there is no unit {wrong[0]}: the features have {there} units, 0 to {there - 1}")
    if count < 1:
        raise UsageError(f"{count} patches, expected 1 or more")
    tops = {(side, unit): answers[side].top(unit, count) for unit in units for side in (0, 1)}
    wanted = sorted({place.pair for places in tops.values() for place in places})
    cut: dict[tuple[int, int, int], Patch] = {}
    for pair in wanted:  # every pair of pictures is read once
        pictures = source.pictures(pair)
        size = (pictures[0].shape[0], pictures[0].shape[1])
        for (side, unit), places in tops.items():
            for place in places:
                if place.pair == pair:
                    window = windows[side].window(place.row, place.column, size)
                    cut[side, unit, pair] = Patch(place, window, crop(pictures[0], window), crop(pictures[1], window))
    correlation = moments.correlation()
    return [
        Patches(
            unit,
            float(correlation[unit]),
            tuple(cut[0, unit, place.pair] for place in tops[0, unit]),
            tuple(cut[1, unit, place.pair] for place in tops[1, unit]),
        )
        for unit in units
    ]
