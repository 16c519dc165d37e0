"""Batches of volumes: frames of videos one behind the other as an axis of their own, as C3D's nets take them.

Source: facebook/C3D, ``video_data_layer.cpp``, ``data_transformer.cpp`` (VideoTransform) and ``image_io.cpp`` of
version 1.1; ``video_segmentation_data_layer.cpp`` and ``video_with_voxel_truth_data_layer.cpp`` of version 1.0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.clips import gather_clips
from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.media import read_picture, resize_caffe
from caffe_compat.media.video import video_clip, video_head

__all__ = [
    "TruthReader",
    "TruthTransform",
    "VolumeClip",
    "VolumeJob",
    "VolumeReader",
    "VolumeTransform",
    "read_volume",
]

_MOST = 1 << 31  #: numbers of a volume, at most


@dataclasses.dataclass(frozen=True, eq=False)
class VolumeTransform:
    """(pixel - mean) x scale of a volume, cut to ``crop`` x ``crop`` pixels, mirrored at random.

    Args:
        crop: side of the top; 0: none.
        room: by how many places fewer than fit a crop in TRAIN may begin: version 1.0 leaves out the last one.
        mean: [C, L, H, W] of what is cut; None: ``mean_values``, of all channels, of each, or none.
    """

    train: bool
    scale: np.float32
    mirror: bool
    crop: int
    room: int
    mean_values: np.ndarray
    mean: np.ndarray | None

    def __call__(self, volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What becomes of numbers [C, L, H, W]: float32 [C, L, crop, crop] or [C, L, H, W].

        Raises:
            DataError: the mean or the crop does not fit.
        """
        mirrored, window = self.drawn(volume.shape[2:], random)
        return self.made(volume, mirrored, window)

    def drawn(self, sizes: Sequence[int], random: np.random.Generator) -> tuple[bool, tuple[slice, slice]]:
        """Whether to mirror a volume of this height and width, and its rows and columns."""
        mirrored = self.mirror and bool(random.integers(2))
        if not self.crop:
            return mirrored, (slice(None), slice(None))
        if self.crop + self.room > min(sizes):
            raise DataError(
                f"is {sizes[1]}x{sizes[0]}, expected at least {self.crop + self.room} with crop_size {self.crop}"
            )
        free = [size - self.crop for size in sizes]
        top, left = (int(random.integers(one + 1 - self.room)) if self.train else one // 2 for one in free)
        return mirrored, (slice(top, top + self.crop), slice(left, left + self.crop))

    def made(self, volume: np.ndarray, mirrored: bool, window: tuple[slice, slice]) -> np.ndarray:
        """The numbers of that part."""
        if self.mean is not None and self.mean.shape != volume.shape:
            raise DataError(f"is {list(volume.shape)}, the mean file is for {list(self.mean.shape)}")
        if self.mean_values.size not in (0, 1, len(volume)):
            raise DataError(
                f"has {len(volume)} channels, but there are {self.mean_values.size} mean_value entries, expected 1 or "
                "as many"
            )
        out = volume[:, :, window[0], window[1]].astype(np.float32)
        if self.mean is not None:
            out -= self.mean[:, :, window[0], window[1]]
        elif self.mean_values.size:
            out -= np.resize(self.mean_values, len(volume))[:, None, None, None]
        out *= self.scale
        return out[..., ::-1] if mirrored else out


@dataclasses.dataclass(frozen=True)
class VolumeClip:
    """A line of a list: a video or a folder of frames, the first frame or (with jitter, of folders) their number, the
    label's word, and the line's number."""

    path: str
    first: int
    label: str
    line: int


@dataclasses.dataclass(frozen=True)
class VolumeJob:
    """The clips of a batch, and the seed of what is random in it."""

    seed: Seed
    clips: Sequence[VolumeClip]


@dataclasses.dataclass(frozen=True, eq=False)
class VolumeReader(Reader[VolumeJob]):
    """Volumes (batch, 3, length, height, width), BGR, and labels (batch) or, of several classes, (batch, classes).

    Args:
        source: the list, for errors.
        images: whether a clip is a folder of ``%06d.jpg``; else a video.
        jitter: whether its first frame is drawn.
        length, rate: how many frames, and every how many-th.
        most_rate: the rate is drawn from 1 to this for each clip; 0: it is ``rate``.
        new_size: height and width; (0, 0): as they are.
        classes: of labels that are several numbers, separated by commas; 0: a label is one number.
    """

    who: str
    source: str
    images: bool
    jitter: bool
    length: int
    rate: int
    most_rate: int
    new_size: tuple[int, int]
    classes: int
    transform: VolumeTransform

    def read(self, job: VolumeJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: volumes and labels."""
        random = np.random.default_rng(job.seed)
        made = (self.clip(clip, random) for clip in job.clips)
        data = gather_clips(self, [self._line(clip) for clip in job.clips], made, new)
        return data, np.stack([self.label(clip) for clip in job.clips])

    def about(self, job: VolumeJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(clip.path for clip in job.clips)}"

    def clip(self, clip: VolumeClip, random: np.random.Generator) -> np.ndarray:
        """One volume, transformed."""
        with self.naming(self._line(clip)):
            frames = self._frames(clip, self._numbers(clip, random))
            if len({frame.shape for frame in frames}) > 1:
                raise DataError("has frames of several sizes, expected new_height and new_width")
            return self.transform(np.stack(frames).transpose(3, 0, 1, 2), random)

    def one_frame(self, clip: VolumeClip) -> tuple[int, int]:
        """Height and width of the first frame that the layer is set up with, resized."""
        first = 0 if self.jitter and not self.images else clip.first
        with self.naming(self._line(clip)):
            height, width = self._frames(clip, range(first, first + 1))[0].shape[:2]
            return height, width

    def label(self, clip: VolumeClip) -> np.ndarray:
        """A number, or a 1 for each of its classes."""
        if not self.classes:
            return np.array(int(clip.label), np.float32)
        marks = np.zeros(self.classes, np.float32)
        for word in clip.label.split(","):
            if not word.isdecimal() or int(word) >= self.classes:
                raise self.error(f"{self._line(clip)}: has the labels {clip.label}, expected 0 to {self.classes - 1}")
            marks[int(word)] = 1
        return marks

    def _numbers(self, clip: VolumeClip, random: np.random.Generator) -> range:
        """Which frames."""
        rate = int(random.integers(self.most_rate)) + 1 if self.most_rate else self.rate
        span = self.length * rate
        if self.images and not self.jitter:
            return range(clip.first, clip.first + span, rate)
        frames = clip.first if self.images else video_head(clip.path).frames
        if frames < span:
            raise DataError(f"has {frames} frames, expected {span}")
        if self.images:  # pictures count from 1, but TEST begins with number 0, as in the fork
            first = 1 + int(random.integers(frames - span + 1)) if self.transform.train else 0
        else:
            first = int(random.integers(frames - span + 1)) if self.jitter else clip.first
        if not self.images and not 0 <= first <= frames - span:
            raise DataError(f"has {frames} frames, expected {span} from frame {first} on")
        return range(first, first + span, rate)

    def _frames(self, clip: VolumeClip, numbers: range) -> list[np.ndarray]:
        if self.images:
            found = [read_picture(f"{clip.path}/{number:06d}.jpg") for number in numbers]
        else:
            found = video_clip(clip.path, numbers)
        return [resize_caffe(frame, *self.new_size) for frame in found] if all(self.new_size) else found

    def _line(self, clip: VolumeClip) -> str:
        return f"{self.source}, line {clip.line}: {clip.path}"


def read_volume(path: str, single_bytes: bool) -> np.ndarray:
    """The first item of a file of C3D's binary volumes: float32 or, of ``single_bytes``, uint8 [C, L, H, W].

    Five int32 (items, channels, length, height, width), then the numbers.

    Raises:
        MissingFileError: no such file.
        DataError: sizes that no volume has, or too few numbers.
    """
    with open_existing(path, "volume") as stream:
        raw = stream.read()
    head = np.frombuffer(raw[:20], "<i4") if len(raw) >= 20 else np.zeros(5, np.int32)
    sizes = [int(size) for size in head]
    count = math.prod(sizes)
    if min(sizes) < 1 or count > _MOST:
        raise DataError(f"{path}: is a volume of {sizes} (items, channels, length, height, width), expected 1 or more")
    kind = np.dtype(np.uint8 if single_bytes else "<f4")
    if len(raw) - 20 < count * kind.itemsize:
        raise DataError(f"{path}: has {len(raw) - 20} bytes of numbers, expected {count * kind.itemsize} for {sizes}")
    found: np.ndarray = np.frombuffer(raw, kind, math.prod(sizes[1:]), 20).reshape(sizes[1:])
    return found


@dataclasses.dataclass(frozen=True)
class TruthTransform:
    """What becomes of the truth of voxels that is cut to a crop.

    Args:
        scale: that it is multiplied by, without ``limits``.
        limits: the numbers that become 0 and 1; what is beyond them becomes these too.
        flow: whether a mirror changes the sign of the first channel.
    """

    scale: np.float32
    limits: tuple[float, float] | None
    flow: bool

    def __call__(self, truth: np.ndarray, mirrored: bool) -> np.ndarray:
        """float32 of numbers [C, L, H, W]."""
        out = truth.astype(np.float32)
        if mirrored and self.flow:
            out[0] = -out[0]
        if self.limits is not None:
            low, high = map(np.float32, self.limits)
            out = np.clip((out - low) / (high - low), 0, 1)
        else:
            out *= self.scale
        return out[..., ::-1] if mirrored else out


@dataclasses.dataclass(frozen=True, eq=False)
class TruthReader(Reader[VolumeJob]):
    """Volumes (batch, C, length, height, width) and the truth of their voxels (batch, T, length, height, width), which
    the last T channels of a file are.

    Args:
        truth: T.
        single_bytes: whether files hold bytes; else float32.
    """

    who: str
    source: str
    truth: int
    single_bytes: bool
    transform: VolumeTransform
    truth_transform: TruthTransform

    def read(self, job: VolumeJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: volumes and truth."""
        random = np.random.default_rng(job.seed)
        data = truth = None
        for item, clip in enumerate(job.clips):
            made = self.item(clip, random)
            if data is None or truth is None:
                data, truth = (new((len(job.clips), *one.shape)) for one in made)
            if data.shape[1:] != made[0].shape:
                raise self.error(
                    f"{self.source}, line {clip.line}: {clip.path} becomes {list(made[0].shape)}, the first volume of "
                    f"the batch {list(data.shape[1:])}"
                )
            data[item], truth[item] = made
        assert data is not None and truth is not None
        return data, truth

    def about(self, job: VolumeJob) -> str:
        """As :meth:`Reader.about`."""
        return f"{self.source}: {shown(clip.path for clip in job.clips)}"

    def item(self, clip: VolumeClip, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One volume and its truth; without a crop the truth is as it stands in the file, as in the fork."""
        with self.naming(f"{self.source}, line {clip.line}"):
            volume = read_volume(clip.path, self.single_bytes)
            if len(volume) <= self.truth:
                raise DataError(f"has {len(volume)} channels, expected more than the {self.truth} of the truth")
            mirrored, window = self.transform.drawn(volume.shape[2:], random)
            data = self.transform.made(volume[: -self.truth], mirrored, window)
            rest = volume[-self.truth :][:, :, window[0], window[1]]
            return data, self.truth_transform(rest, mirrored) if self.transform.crop else rest.astype(np.float32)
