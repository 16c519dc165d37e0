"""Batches of windows of images, warped to squares (R-CNN).

Source: BVLC Caffe 1.0, ``window_data_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.batches.transform import Transform
from caffe_compat.media import decode, fill_blob, planes, read_picture, resize_caffe

__all__ = ["Box", "Placement", "Window", "WindowItem", "WindowReader", "place_window"]

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """A window of an image; the box is x1, y1, x2, y2 in pixels from 0, corners included."""

    image: int
    label: int
    overlap: float
    box: Box


@dataclass(frozen=True)
class Placement:
    """Which part of an image goes where in the square.

    Attributes:
        box: the part of the image, corners included.
        size: height and width that it is resized to.
        top, left: where its corner comes to lie; the rest of the square stays 0.
    """

    box: Box
    size: tuple[int, int]
    top: int
    left: int


def place_window(box: Box, image: tuple[int, int], crop: int, pad: int, square: bool, mirrored: bool) -> Placement:
    """Where a window goes in a square of ``crop`` pixels with ``pad`` pixels of context on every side.

    Args:
        image: height and width of the image.
        square: widen the shorter side of the window first.
        mirrored: swap the margins at the left and at the right.
    """
    if pad == 0 and not square:
        return Placement(box, (crop, crop), 0, 0)
    context = np.float32(crop) / np.float32(crop - 2 * pad)
    lows, highs, margins, sizes = [], [], [], []
    halves = [np.float32(box[2 + axis] - box[axis] + 1) / np.float32(2) for axis in (0, 1)]
    centres = [np.float32(box[axis]) + halves[axis] for axis in (0, 1)]
    if square:
        halves = [max(halves)] * 2
    for axis in (0, 1):
        low = _round(centres[axis] - halves[axis] * context)
        high = _round(centres[axis] + halves[axis] * context)
        before, after = max(0, -low), max(0, high - image[1 - axis] + 1)
        scale = np.float32(crop) / np.float32(high - low + 1)
        lows.append(low + before)
        highs.append(high - after)
        sizes.append(_round(np.float32(highs[axis] - lows[axis] + 1) * scale))
        margins.append((_round(np.float32(before) * scale), _round(np.float32(after) * scale)))
    left, top = margins[0][1 if mirrored else 0], margins[1][0]
    size = (min(sizes[1], crop - top), min(sizes[0], crop - left))
    return Placement((lows[0], lows[1], highs[0], highs[1]), size, top, left)


def _round(value: np.float32) -> int:
    """C's ``round``: half away from zero."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


@dataclass(frozen=True)
class WindowItem:
    """One window of a batch.

    Args:
        path: of its image.
        content: of that file, where it is kept in memory.
    """

    window: Window
    mirrored: bool
    path: str
    content: bytes | None = None


@dataclass(frozen=True, eq=False)
class WindowReader(Reader[Sequence[WindowItem]]):
    """Squares (batch, channels, crop, crop) in BGR, and labels (batch).

    Args:
        source: the window file, for errors.
        shape: of a batch.
        pad: pixels of context on every side of the square.
        square: widen the shorter side of a window first.
        means: of every place, (channels, crop, crop), or (channels, 1, 1).
        transform: its crop, and how channels are turned in a mirror, are used.
    """

    who: str
    source: str
    shape: tuple[int, ...]
    pad: int
    square: bool
    means: np.ndarray
    scale: np.float32
    transform: Transform

    @property
    def crop(self) -> int:
        """Height and width of the square."""
        return self.transform.crop

    def read(self, job: Sequence[WindowItem], new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: warped windows and labels."""
        data, labels = new(self.shape), new(self.shape[:1])
        data[...] = 0
        for place, item in enumerate(job):
            self._warp(item, data[place])
            labels[place] = item.window.label
        return data, labels

    def about(self, job: Sequence[WindowItem]) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(item.path for item in job)}"

    def _warp(self, item: WindowItem, out: np.ndarray) -> None:
        window, mirrored = item.window, item.mirrored
        image = self._image(item)
        height, width = image.shape[:2]
        place = place_window(window.box, (height, width), self.crop, self.pad, self.square, mirrored)
        x1, y1, x2, y2 = place.box
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
            raise self.error(
                f"{self.source}: the window {list(window.box)} of {item.path} does not lie in the "
                f"image of {width}x{height}"
            )
        if min(place.size) < 1:
            return
        channels = planes(resize_caffe(image[y1 : y2 + 1, x1 : x2 + 1], *place.size))
        rows, columns = slice(place.top, place.top + place.size[0]), slice(place.left, place.left + place.size[1])
        mean = self.means if self.means.shape[1] == 1 else self.means[:, rows, columns]
        if mirrored:
            turned = self.transform.turned(channels)
            channels = [plane[:, ::-1] for plane in turned]  # the mean stays that of the place in the square
        fill_blob(channels, out[:, rows, columns], mean, self.scale)

    def _image(self, item: WindowItem) -> np.ndarray:
        with self.naming(self.source):
            return read_picture(item.path) if item.content is None else decode(item.content, item.path)
