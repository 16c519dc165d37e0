"""Where flow comes from, and what is made of it, in the terms of :mod:`caffe_compat.frames`."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from caffe_compat.errors import DataError, in_file
from caffe_compat.flow.checks import MOST, SCALE
from caffe_compat.flow.encoding import encode
from caffe_compat.flow.methods import Method
from caffe_compat.flow.stored import TWO_STREAM_MOST, read_flo, read_two_stream, write_flo
from caffe_compat.flow.wheel import color_wheel
from caffe_compat.frames import SummedWarning, write_encoded
from caffe_compat.media.pictures import read_picture
from caffe_compat.media.video import EndOfVideo, video_frames
from caffe_compat.stamps import file_digest

__all__ = [
    "FileFlow",
    "FloFile",
    "FlowClipWarning",
    "FlowEncoder",
    "FlowReading",
    "PictureFlow",
    "TwoStreamFlow",
    "VideoFlow",
    "WheelPicture",
    "own_names",
]

FORMAT_VERSION = 1
"""Goes into every picture; raise it when the same parameters begin to give other pixels."""
MOST_CLIPPED = 0.2
"""Share of the pixels above which clipping is warned of."""

_OWN = frozenset({"frame", "next", "video", "flo", "x", "y"})


class FlowClipWarning(SummedWarning):
    """Much of a frame moves by more than the picture can hold.

    Args:
        share: of the pixels, 0 to 1.
        longest: pixels of the longest flow.
    """

    def __init__(self, share: float, longest: float) -> None:
        super().__init__(share, longest)  # the arguments: it is pickled on its way from a worker
        self.share, self.longest = share, longest

    def __str__(self) -> str:
        return (
            f"{100 * self.share:.0f} % of the pixels move by more than {MOST:g} pixels and are clipped (the longest: "
            f"{self.longest:.1f})"
        )

    @classmethod
    def summary(cls, warned: Sequence[tuple[str, Self]], total: int) -> str:
        """One line for a run."""
        name, worst = max(warned, key=lambda entry: entry[1].share)
        return (
            f"in {len(warned)} of {total} frames over {100 * MOST_CLIPPED:.0f} % of the pixels move by more than "
            f"{MOST:g} pixels and are clipped (most in {name}: {100 * worst.share:.0f} %)"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class FlowReading:
    """Flow of one frame.

    Args:
        flow: float32 [H, W, 2], pixels to the right and downwards.
        color: uint8 [H, W, 3] RGB, the frame; None if it was not asked for.
    """

    flow: np.ndarray
    color: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class PictureFlow:
    """Flow between two pictures, as a :class:`~caffe_compat.frames.Source`.

    Args:
        first, second: picture files of one size.
        method: how it is computed.
    """

    first: str
    second: str
    method: Method

    @property
    def name(self) -> str:
        return self.first

    def fingerprint(self) -> dict[str, Any]:
        files = {"frame": self.first, "next": self.second}
        names = {name: Path(path).name for name, path in files.items()}
        return names | {f"{name}_sha1": file_digest(path) for name, path in files.items()} | self.method.settings()

    def read(self) -> FlowReading:
        first, second = read_picture(self.first), read_picture(self.second)
        if first.shape != second.shape:
            sizes = [f"{picture.shape[1]}x{picture.shape[0]}" for picture in (first, second)]
            raise DataError(f"{self.first} is {sizes[0]}, {self.second} is {sizes[1]}: expected frames of one size")
        with in_file(self.name):
            return FlowReading(self.method.flow(first, second), first[..., ::-1])


@dataclasses.dataclass(frozen=True, eq=False)
class VideoFlow:
    """Flow from a frame of a video to the next, as a :class:`~caffe_compat.frames.Source`.

    Args:
        video: the file.
        digest: of its bytes (:func:`~caffe_compat.stamps.file_digest`).
        number: of the frame, from 1.
        method: how it is computed.
        pictures: the two frames, uint8 [H, W, 3], blue first, where they are decoded already; None decodes from the
            beginning of the video.
    """

    video: str
    digest: str
    number: int
    method: Method
    pictures: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def name(self) -> str:
        return f"{self.video}, frame {self.number}"

    def fingerprint(self) -> dict[str, Any]:
        own = {"video": Path(self.video).name, "video_sha1": self.digest, "frame": self.number}
        return own | self.method.settings()

    def read(self) -> FlowReading:
        first, second = self.pictures or self._decoded()
        if first.shape != second.shape:
            sizes = [f"{picture.shape[1]}x{picture.shape[0]}" for picture in (first, second)]
            raise DataError(f"{self.name} is {sizes[0]}, the next is {sizes[1]}: expected frames of one size")
        with in_file(self.name):
            return FlowReading(self.method.flow(first, second), first[..., ::-1])

    def _decoded(self) -> tuple[np.ndarray, np.ndarray]:
        found = list(itertools.islice(video_frames(self.video), self.number - 1, self.number + 1))
        if len(found) < 2:
            raise EndOfVideo(f"{self.name}: there is no frame after it")
        return found[0], found[1]


@dataclasses.dataclass(frozen=True)
class FileFlow:
    """Flow in a ``.flo`` file, as a :class:`~caffe_compat.frames.Source`."""

    path: str

    @property
    def name(self) -> str:
        return self.path

    def fingerprint(self) -> dict[str, Any]:
        return {"method": "flo", "flo": Path(self.path).name, "flo_sha1": file_digest(self.path)}

    def read(self) -> FlowReading:
        return FlowReading(read_flo(self.path))


@dataclasses.dataclass(frozen=True)
class TwoStreamFlow:
    """Flow in the x and y pictures of two-stream networks, as a :class:`~caffe_compat.frames.Source`.

    Args:
        x, y: the pictures.
        most: pixels a frame that 255 stands for.
    """

    x: str
    y: str
    most: float = TWO_STREAM_MOST

    @property
    def name(self) -> str:
        return self.x

    def fingerprint(self) -> dict[str, Any]:
        own = {"method": "two_stream", "most": float(self.most), "x": Path(self.x).name, "y": Path(self.y).name}
        return own | {"x_sha1": file_digest(self.x), "y_sha1": file_digest(self.y)}

    def read(self) -> FlowReading:
        return FlowReading(read_two_stream(self.x, self.y, self.most))


@dataclasses.dataclass(frozen=True)
class FlowEncoder:
    """Encodes flow as a picture, as a :class:`~caffe_compat.frames.Encoder`."""

    @property
    def assumed(self) -> Mapping[str, Any]:
        return MappingProxyType({})

    def parameters(self) -> dict[str, Any]:
        return {"kind": "flow", "version": FORMAT_VERSION, "scale": SCALE}

    def encode(self, reading: FlowReading) -> np.ndarray:
        """The picture, uint8 [H, W, 3], in the order of the file.

        Raises:
            DataError: flow that is not finite.

        Warns:
            FlowClipWarning: more than a fifth of the pixels are clipped.
        """
        flow = reading.flow
        picture = encode(flow[..., 0], flow[..., 1])
        longest = np.abs(flow).max(-1)
        share = float((longest > MOST).mean())
        if share > MOST_CLIPPED:
            warnings.warn(FlowClipWarning(share, float(longest.max())), stacklevel=2)
        return picture


@dataclasses.dataclass(frozen=True)
class FloFile:
    """The flow itself in a ``.flo`` file, as an :class:`~caffe_compat.frames.Extra`."""

    path: str

    def write(self, reading: FlowReading) -> None:
        write_flo(self.path, reading.flow)


@dataclasses.dataclass(frozen=True)
class WheelPicture:
    """The flow in colours, for people, as an :class:`~caffe_compat.frames.Extra`.

    Args:
        path: the png.
        longest: pixels of full colour, so that frames can be compared.
    """

    path: str
    longest: float = MOST

    def write(self, reading: FlowReading) -> None:
        write_encoded(self.path, color_wheel(reading.flow, self.longest), {"kind": "wheel", "longest": self.longest})


def own_names(stamp: Mapping[str, Any]) -> dict[str, Any]:
    """What a flow picture was made with, without what is its frame's own: alike in all pictures of a run."""
    return {name: value for name, value in stamp.items() if name.removesuffix("_sha1") not in _OWN}
