"""Batches of pictures with a label for each pixel, scaled and cropped together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.errors import CaffeCompatError
from caffe_compat.media import fill_blob, planes, read_picture, resize_caffe

__all__ = ["Line", "SegJob", "SegReader", "WindowSegReader"]

Line = tuple[int, Sequence[str]]
"""Of a list: its number and its words."""


@dataclasses.dataclass(frozen=True)
class SegJob:
    """The lines that name the pictures of a batch, and the seed of what is random in it."""

    seed: Seed
    lines: Sequence[Line]


@dataclasses.dataclass(frozen=True, eq=False)
class SegReader(Reader[SegJob]):
    """Pictures (batch, channels, height, width), labels (batch, 1, height, width), and sizes (batch, 1, 1, 2).

    Args:
        source: the list, for errors; ``root`` is put before paths as it is.
        kind: PIXEL, IMAGE or NONE.
        ignored: the label of what has none.
        new_size, crop: height and width; (0, 0): none.
        mean: of each channel, all (1), or none (0).
        factors: one of them scales a picture.
        nearest: whether labels that get ``new_size`` take the nearest pixel instead of being interpolated.
    """

    who: str
    source: str
    root: str
    color: bool
    kind: str
    ignored: int
    new_size: tuple[int, int]
    train: bool
    scale: np.float32
    mirror: bool
    mean: np.ndarray
    crop: tuple[int, int]
    factors: np.ndarray
    nearest: bool = False

    def read(self, job: SegJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        random = np.random.default_rng(job.seed)
        data: np.ndarray | None = None
        count = len(job.lines)
        labels, sizes = np.empty(0, np.float32), np.empty((count, 1, 1, 2), np.float32)
        for item, line in enumerate(job.lines):
            picture, marks = self.load(line)
            size = self.crop if self.crop[0] else picture.shape[:2]
            if data is None:
                data = new((count, 1 if picture.ndim == 2 else picture.shape[2], *size))
                labels = new((count, 1, *size))
            if data.shape[2:] != tuple(size):
                raise self._about(line, f"is {picture.shape[:2]}, the first picture of the batch {data.shape[2:]}")
            sizes[item] = np.minimum(size, picture.shape[:2])
            mirrored = self.mirror and bool(random.integers(2))
            cut, marks = self._cropped(*self._padded(*self._scaled(picture, marks, random), line), random)
            fill_blob(planes(cut), data[item], self.mean, self.scale, mirrored)
            labels[item, 0] = marks[:, ::-1] if mirrored else marks
        if data is None:
            raise self.error("has no pictures in a batch, expected some")
        return data, labels, sizes

    def about(self, job: SegJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(self.root + words[0] for _, words in job.lines)}"

    def _scaled(
        self, picture: np.ndarray, marks: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        factor = self.factors[random.integers(len(self.factors))] if len(self.factors) else np.float32(1)
        if factor == 1:
            return picture, marks
        high, wide = (int(np.float32(side) * factor) for side in picture.shape[:2])
        if not (high and wide):
            raise self.error(f"{self.source}: a picture of {picture.shape[:2]} times {factor:g} has no pixels")
        nearest = cv2.resize(marks, (wide, high), interpolation=cv2.INTER_NEAREST)
        return resize_caffe(picture, high, wide), np.asarray(nearest)

    def _padded(self, picture: np.ndarray, marks: np.ndarray, line: Line) -> tuple[np.ndarray, np.ndarray]:
        """At least as large as the crop; a padded picture is float32."""
        below, right = (max(crop - side, 0) for crop, side in zip(self.crop, marks.shape, strict=True))
        if not (below or right):
            return picture, marks
        if not len(self.mean):
            raise self._about(line, f"is smaller than the crop {list(self.crop)}, expected mean_value to pad it with")
        high, wide = marks.shape
        padded = np.empty((high + below, wide + right, *picture.shape[2:]), np.float32)
        padded[...] = self.mean
        padded[:high, :wide] = picture
        return padded, np.pad(marks, ((0, below), (0, right)), constant_values=self.ignored)

    def _cropped(
        self, picture: np.ndarray, marks: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self.crop[0]:
            return picture, marks
        room = [side - crop for side, crop in zip(marks.shape, self.crop, strict=True)]
        top, left = (int(random.integers(free + 1)) if self.train else free // 2 for free in room)
        window = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
        return picture[window], marks[window]

    def _about(self, line: Line, reason: str) -> CaffeCompatError:
        number, words = line
        return self.error(f"{self.source}, line {number}: {self.root}{words[0]} {reason}")

    def load(self, line: Line) -> tuple[np.ndarray, np.ndarray]:
        """The picture and its labels, of one size."""
        number, words = line
        if self.kind != "NONE" and len(words) < 2:
            raise self._about(line, f"stands alone, expected 'picture labels' with label_type {self.kind}")
        with self.naming(f"{self.source}, line {number}"):
            picture = self._resized(read_picture(self.root + words[0], "color" if self.color else "gray"))
            if self.kind == "PIXEL":
                marks = self._resized(read_picture(self.root + words[1], "gray"), self.nearest)
            else:
                marks = np.full(picture.shape[:2], self._label(line), np.uint8)
        if picture.shape[:2] != marks.shape:
            raise self._about(line, f"is {picture.shape[:2]}, its labels {marks.shape}, expected one size")
        return picture, marks

    def _resized(self, picture: np.ndarray, nearest: bool = False) -> np.ndarray:
        if not self.new_size[0]:
            return picture
        if nearest:
            return np.asarray(cv2.resize(picture, self.new_size[::-1], interpolation=cv2.INTER_NEAREST))
        return resize_caffe(picture, *self.new_size)

    def _label(self, line: Line) -> int:
        if self.kind == "NONE":
            return self.ignored
        text = line[1][1]
        if not text.isdecimal() or int(text) > 255:
            raise self._about(line, f"has the label {text!r}, expected 0 to 255")
        return int(text)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowSegReader(SegReader):
    """The same of windows: lines ``picture [labels] x1 y1 x2 y2``, of pixels that still belong to the window.

    What a window has outside the picture is black, with the label ``ignored``.
    """

    def load(self, line: Line) -> tuple[np.ndarray, np.ndarray]:
        """The window of the picture and that of its labels, with ``new_size``."""
        number, words = line
        corners = words[1 if self.kind == "NONE" else 2 :]
        if len(corners) < 4 or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", word) for word in corners[:4]):
            raise self.error(
                f"{self.source}, line {number}: {' '.join(words)!r}, expected 'picture labels x1 y1 x2 y2' (without "
                "labels where label_type is NONE)"
            )
        whole = dataclasses.replace(self, new_size=(0, 0))
        picture, marks = SegReader.load(whole, line)
        x1, y1, x2, y2 = (int(word) for word in corners[:4])
        if x2 < x1 or y2 < y1:
            raise self._about(line, f"has the window {[x1, y1, x2, y2]}, expected x1 <= x2 and y1 <= y2")
        if (x2 - x1 + 1) * (y2 - y1 + 1) > _MOST * max(marks.size, 1):
            raise self._about(line, f"has the window {[x1, y1, x2, y2]}, far larger than itself, {marks.shape}")
        window = (slice(y1, y2 + 1), slice(x1, x2 + 1))
        cut, labels = _cut(picture, window, 0), _cut(marks, window, self.ignored)
        return self._resized(cut), self._resized(labels, nearest=True)


_MOST = 64
"""How many times larger than its picture a window may be: it is filled with black."""


def _cut(array: np.ndarray, window: tuple[slice, slice], fill: int) -> np.ndarray:
    """A window, which may lie outside the array: ``fill`` there."""
    made = np.full([part.stop - part.start for part in window] + list(array.shape[2:]), fill, array.dtype)
    spans = [(max(part.start, 0), min(part.stop, side)) for part, side in zip(window, array.shape, strict=False)]
    if all(first < last for first, last in spans):
        there = tuple(slice(first - p.start, last - p.start) for (first, last), p in zip(spans, window, strict=True))
        made[there] = array[tuple(slice(*span) for span in spans)]
    return made
