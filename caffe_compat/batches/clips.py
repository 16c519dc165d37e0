"""Batches of clips: frames of videos, as pictures in folders or out of a file.

Source: yjxiong/caffe, ``video_data_layer.cpp``, ``io.cpp`` (ReadSegmentRGBToDatum, ReadSegmentFlowToDatum) and
``data_transformer.cpp``; weiliu89/caffe, branch ssd, ``video_data_layer.cpp``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from caffe_compat.batches.annotated import AnnotatedTransform
from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.errors import DataError
from caffe_compat.media import read_picture, resize_caffe
from caffe_compat.media.annotations import Annotations
from caffe_compat.media.video import EndOfVideo, Videos

__all__ = [
    "ClipFolder",
    "ClipJob",
    "ClipReader",
    "ClipTransform",
    "FrameJob",
    "FrameReader",
    "crop_places",
    "crop_sizes",
]

_RATIOS = (1.0, 0.875, 0.75, 0.66)
_NEAR = 3  #: pixels; a crop that differs by less is the net's size


def crop_sizes(height: int, width: int, crop: int, ratios: Sequence[float], distort: int) -> list[tuple[int, int]]:
    """``multi_scale``: heights and widths of crops, parts of the short side, ``distort`` ratios apart at most.

    Args:
        ratios: none: 1, 0.875, 0.75 and 0.66.
    """
    short = np.float32(min(height, width))
    sides = [int(short * np.float32(ratio)) for ratio in ratios or _RATIOS]
    sides = [crop if abs(side - crop) < _NEAR else side for side in sides]
    return [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= distort]


def crop_places(height: int, width: int, crop: tuple[int, int], more: bool) -> list[tuple[int, int]]:
    """``fix_crop``: rows and columns where a crop may begin: corners and centre, ``more``: sides and quarters too."""
    row, column = (height - crop[0]) // 4, (width - crop[1]) // 4
    places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    if more:
        places += [(0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)]
    return [(row * i, column * j) for i, j in places]


@dataclasses.dataclass(frozen=True, eq=False)
class ClipTransform:
    """``transform_param`` with yjxiong's fields, for many channels: crops of several sizes and fixed places.

    Args:
        crop: side of the top; 0: none.
        mean_values: of all channels, of each, or of a group of them that repeats.
        ratios, distort: of :func:`crop_sizes`; None: one size.
        places: of :func:`crop_places`, whether more of them; None: anywhere.
        flow: whether channels 0, 2, ... are flow to the right, of which a mirror makes 255 - v.
    """

    train: bool
    scale: np.float32
    mirror: bool
    crop: int
    mean_values: np.ndarray
    mean: np.ndarray | None
    ratios: Sequence[float] | None
    distort: int
    places: bool | None
    flow: bool

    def __call__(self, planes: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What becomes of uint8 [C, H, W]: float32 [C, crop, crop] or [C, H, W].

        Raises:
            DataError: the mean or the crop does not fit.
        """
        channels, height, width = planes.shape
        self.shape(channels, height, width)
        mirror = self.mirror and bool(random.integers(2))
        (high, wide), (top, left) = self._drawn(height, width, random)
        part = planes[:, top : top + high, left : left + wide]
        side = (self.crop, self.crop) if self.crop else (high, wide)
        if (high, wide) != side:
            part = np.stack([resize_caffe(np.ascontiguousarray(plane), *side) for plane in part])
        out = part.astype(np.float32)
        if mirror and self.flow:
            out[::2] = 255 - out[::2]
        if self.mean is not None:  # with several sizes the fork takes that of the first rows and columns
            row, column = (0, 0) if self.ratios is not None else (top, left)
            out -= self.mean[:, row : row + side[0], column : column + side[1]]
        elif self.mean_values.size:
            out -= np.resize(self.mean_values, channels)[:, None, None]
        out *= self.scale
        return out[:, :, ::-1] if mirror else out

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Shape of what becomes of planes of that shape.

        Raises:
            DataError: the mean or the crop does not fit.
        """
        if self.mean is not None and self.mean.shape != (channels, height, width):
            raise DataError(f"is {[channels, height, width]}, the mean file is for {list(self.mean.shape)}")
        if self.mean_values.size and channels % self.mean_values.size:
            raise DataError(
                f"has {channels} channels, but there are {self.mean_values.size} mean_value entries, expected a divisor"
            )
        if self.crop > min(height, width):
            raise DataError(f"is {width}x{height}, smaller than crop_size {self.crop}")
        return channels, self.crop or height, self.crop or width

    def _drawn(self, height: int, width: int, random: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the crop, row and column of its start."""
        if not self.crop:
            return (height, width), (0, 0)
        size = (self.crop, self.crop)
        if not self.train:
            return size, ((height - self.crop) // 2, (width - self.crop) // 2)
        if self.ratios is not None:
            sizes = crop_sizes(height, width, self.crop, self.ratios, self.distort)
            size = sizes[int(random.integers(len(sizes)))]
        if self.places is not None:
            places = crop_places(height, width, size, self.places)
            return size, places[int(random.integers(len(places)))]
        return size, (int(random.integers(height - size[0] + 1)), int(random.integers(width - size[1] + 1)))


@dataclasses.dataclass(frozen=True)
class ClipFolder:
    """A line of a list: a folder of frames, how many there are, a label, and the line's number."""

    folder: str
    frames: int
    label: int
    line: int


@dataclasses.dataclass(frozen=True)
class ClipJob:
    """The clips of a batch, and the seed of what is random in it."""

    seed: Seed
    clips: Sequence[ClipFolder]


def gather_clips(reader: Reader[Any], lines: Sequence[str], made: Iterable[np.ndarray], new: New) -> np.ndarray:
    """A batch of clips, of one shape.

    Args:
        reader: names the layer in errors.
        lines: where the clips stand, for errors.
        made: the arrays of the clips, made as they are asked for.

    Raises:
        DataError: one has another shape than the first.
    """
    data: np.ndarray | None = None
    for item, (line, clip) in enumerate(zip(lines, made, strict=True)):
        if data is None:
            data = new((len(lines), *clip.shape))
        if data.shape[1:] != clip.shape:
            raise reader.error(
                f"{line} becomes {list(clip.shape)}, the first clip of the batch {list(data.shape[1:])}; use "
                "new_height and new_width, or crop_size"
            )
        data[item] = clip
    assert data is not None
    return data


@dataclasses.dataclass(frozen=True, eq=False)
class ClipReader(Reader[ClipJob]):
    """Stacks of frames (batch, channels, height, width) and labels (batch, 1, 1, 1).

    Args:
        source: the list, for errors.
        pattern: of frames' names, a number from 1 (of flow the letter x or y, then the number), in ``%``'s language.
        flow: whether a frame is two pictures, x and y; else one, of three channels or, if ``gray``, of one.
        new_size: height and width; (0, 0): as they are.
        length, segments: frames of a stack in each of how many equal parts of a clip.
    """

    who: str
    source: str
    pattern: str
    flow: bool
    gray: bool
    new_size: tuple[int, int]
    length: int
    segments: int
    transform: ClipTransform

    def read(self, job: ClipJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: stacks and labels."""
        random = np.random.default_rng(job.seed)
        made = (self.clip(clip, random) for clip in job.clips)
        data = gather_clips(self, [self._line(clip) for clip in job.clips], made, new)
        return data, np.array([clip.label for clip in job.clips], np.float32).reshape(-1, 1, 1, 1)

    def about(self, job: ClipJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(clip.folder for clip in job.clips)}"

    def clip(self, clip: ClipFolder, random: np.random.Generator) -> np.ndarray:
        """One stack, transformed."""
        with self.naming(self._line(clip)):
            frames = [
                picture
                for start in self.starts(clip, random)
                for number in range(start + 1, start + 1 + self.length)
                for picture in self._frame(clip, number)
            ]
            if len({frame.shape for frame in frames}) > 1:
                raise DataError("has frames of several sizes, expected new_height and new_width")
            planes = np.concatenate([frame[None] if frame.ndim == 2 else frame.transpose(2, 0, 1) for frame in frames])
            return self.transform(planes, random)

    def shape(self, clip: ClipFolder) -> tuple[int, int, int]:
        """Shape of what :meth:`clip` gives, by the clip's first frame."""
        with self.naming(self._line(clip)):
            pictures = self._frame(clip, 1)
            channels = sum(1 if picture.ndim == 2 else picture.shape[2] for picture in pictures)
            return self.transform.shape(channels * self.length * self.segments, *pictures[0].shape[:2])

    def starts(self, clip: ClipFolder, random: np.random.Generator) -> list[int]:
        """Frames before the stack in each part: in TRAIN drawn, in TEST those up to the middle; 0 in short ones."""
        each = clip.frames // self.segments
        if each < self.length:
            return [0] * self.segments
        room = each - self.length + 1
        inside = [int(random.integers(room)) if self.transform.train else room // 2 for _ in range(self.segments)]
        return [part * each + start for part, start in enumerate(inside)]

    def _frame(self, clip: ClipFolder, number: int) -> list[np.ndarray]:
        names = [self.pattern % (axis, number) for axis in "xy"] if self.flow else [self.pattern % number]
        kind = "gray" if self.flow or self.gray else "color"
        found = [read_picture(f"{clip.folder}/{name}", kind) for name in names]  # type: ignore[arg-type]
        return [resize_caffe(picture, *self.new_size) for picture in found] if all(self.new_size) else found

    def _line(self, clip: ClipFolder) -> str:
        return f"{self.source}, line {clip.line}: {clip.folder}"


@dataclasses.dataclass(frozen=True)
class FrameJob:
    """Numbers of the frames of a batch, and the seed of what is random in it."""

    seed: Seed
    frames: Sequence[int]


@dataclasses.dataclass(frozen=True, eq=False)
class FrameReader(Reader[FrameJob]):
    """Frames (batch, 3, height, width) of one video, and labels, which are 0 (batch).

    Args:
        every: only multiples of it, less 1, are asked for.
    """

    who: str
    path: str
    transform: AnnotatedTransform
    every: int
    videos: Videos

    def __reduce__(self) -> tuple[object, ...]:
        """An open video is opened again by whoever gets this."""
        return FrameReader.opened, (self.who, self.path, self.transform, self.every)

    @staticmethod
    def opened(who: str, path: str, transform: AnnotatedTransform, every: int) -> FrameReader:
        """A reader that has opened nothing yet."""
        return FrameReader(who, path, transform, every, Videos(1, 8))

    def read(self, job: FrameJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: frames and labels."""
        random = np.random.default_rng(job.seed)
        made = [self.frame(number, random) for number in job.frames]
        if len({one.shape for one in made}) > 1:
            raise self.error(f"{self.path}: has frames of several sizes, expected resize_param")
        data = new((len(made), *made[0].shape))
        np.stack(made, out=data)
        return data, np.zeros(len(made), np.float32)

    def about(self, job: FrameJob) -> str:
        """As :meth:`Reader.about`."""
        return f"frame {job.frames[0]} of {self.path}" if job.frames else self.path

    def frame(self, number: int, random: np.random.Generator) -> np.ndarray:
        """One frame, transformed."""
        nothing = Annotations(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.int64))
        with self.naming():
            try:
                picture = self.videos.read(self.path, number)
            except EndOfVideo as error:
                raise DataError(f"the video is at its end: {error}") from error
            return self.transform(picture, nothing, random)[0]
