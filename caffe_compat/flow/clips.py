"""Clips, and which flow pictures are made of them: of every frame but the last, one png of its name."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
import statistics
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.flow.checks import MOST
from caffe_compat.flow.methods import Method
from caffe_compat.flow.sources import (
    FileFlow,
    FloFile,
    FlowEncoder,
    PictureFlow,
    TwoStreamFlow,
    VideoFlow,
    WheelPicture,
)
from caffe_compat.flow.stored import TWO_STREAM_MOST
from caffe_compat.frames import Extra, Frame, Source, is_finished
from caffe_compat.media.heads import head_size
from caffe_compat.media.video import video_frames, video_head
from caffe_compat.stamps import file_digest

__all__ = [
    "FlowClip",
    "FloClip",
    "Outputs",
    "PictureClip",
    "TwoStreamClip",
    "VideoClip",
    "evenly",
    "in_order",
    "stem_of",
]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where the files of a clip go: ``FOLDER/STEM.png`` each.

    Args:
        flow: folder of the flow pictures.
        color: folder of the frames; None: they are not written.
        flo: folder of ``.flo`` files.
        wheel: folder of pictures for people.
        longest: pixels of full colour in these.
    """

    flow: str
    color: str | None = None
    flo: str | None = None
    wheel: str | None = None
    longest: float = MOST

    def frame(self, source: Source, stem: str) -> Frame:
        """What is to be made of the flow of one frame."""
        extras: list[Extra] = []
        if self.flo is not None:
            extras.append(FloFile(os.path.join(self.flo, f"{stem}.flo")))
        if self.wheel is not None:
            extras.append(WheelPicture(os.path.join(self.wheel, f"{stem}.png"), self.longest))
        color = None if self.color is None else os.path.join(self.color, f"{stem}.png")
        return Frame(source, FlowEncoder(), os.path.join(self.flow, f"{stem}.png"), color, extras=tuple(extras))


class FlowClip(Protocol):
    """Frames in a row."""

    @property
    def name(self) -> str:
        """For messages."""

    def settings(self) -> dict[str, Any]:
        """What its pictures are made with, alike in all of them."""

    def expected(self) -> int:
        """How many frames of it have flow, about.

        Raises:
            MissingFileError, DataError: it cannot be used.
        """

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        """What is to be made of it.

        Args:
            outputs: where its files go.
            count: so many frames, evenly spaced (:func:`evenly`); None: all.

        Raises:
            MissingFileError, DataError: it cannot be used, or not to its end (after what can be).
        """


def evenly(count: int, length: int) -> list[int]:
    """Which of ``length`` frames, from 0, are taken as ``count`` evenly spaced ones: round((k + 0.5)(length - 1) /
    count), never the last, which has no flow; fewer of a clip that is too short."""
    places = (math.floor((k + 0.5) * (length - 1) / count + 0.5) for k in range(count))
    return sorted({min(place, length - 2) for place in places})


@dataclasses.dataclass(frozen=True)
class VideoClip:
    """A video file; frames count from 1: ``00001.png``, as those of JHMDB do."""

    path: str
    method: Method

    @property
    def name(self) -> str:
        return self.path

    def settings(self) -> dict[str, Any]:
        return self.method.settings()

    def expected(self) -> int:
        return video_head(self.path).frames - 1

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        length = video_head(self.path).frames
        if length < 2:
            raise DataError(f"{self.path}: has one frame, flow needs two")
        digest = file_digest(self.path)
        wanted = set(range(length - 1) if count is None else evenly(count, length))
        ready = {number for number in wanted if is_finished(self._frame(outputs, digest, number))}
        if wanted == ready:
            yield from (self._frame(outputs, digest, number) for number in sorted(wanted))
            return
        before: np.ndarray | None = None
        number = -1
        for number, picture in enumerate(video_frames(self.path)):
            at = number - 1
            if before is not None and (at in wanted or (count is None and at > length - 2)):
                yield self._frame(outputs, digest, at, None if at in ready else (before, picture))
            if at == max(wanted) and count is not None:
                return
            before = picture
        if number == 0:
            raise DataError(f"{self.path}: has one frame, flow needs two")

    def _frame(
        self, outputs: Outputs, digest: str, number: int, pictures: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Frame:
        source = VideoFlow(self.path, digest, number + 1, self.method, pictures)
        return outputs.frame(source, f"{number + 1:05d}")


@dataclasses.dataclass(frozen=True)
class PictureClip:
    """Frames as picture files, in order.

    Args:
        paths: the files.
        where: their folder, for messages.
        method: how flow is computed.
    """

    paths: tuple[str, ...]
    where: str
    method: Method

    @property
    def name(self) -> str:
        return self.where

    def settings(self) -> dict[str, Any]:
        return self.method.settings()

    def expected(self) -> int:
        return max(0, len(self.paths) - 1)

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        if len(self.paths) < 2:
            raise DataError(f"{self.where}: has {len(self.paths)} frames, flow needs two")
        _check_stems(self.paths)
        _check_series(self.paths, self.where)
        _check_sizes(self.paths)
        _warn_of_gaps(self.paths)
        chosen = range(len(self.paths) - 1) if count is None else evenly(count, len(self.paths))
        for place in chosen:
            source = PictureFlow(self.paths[place], self.paths[place + 1], self.method)
            yield outputs.frame(source, stem_of(self.paths[place]))


@dataclasses.dataclass(frozen=True)
class FloClip:
    """Flow that is there already, in ``.flo`` files."""

    paths: tuple[str, ...]
    where: str

    @property
    def name(self) -> str:
        return self.where

    def settings(self) -> dict[str, Any]:
        return {"method": "flo"}

    def expected(self) -> int:
        return len(self.paths)

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        _check_stems(self.paths)
        chosen = range(len(self.paths)) if count is None else evenly(count, len(self.paths) + 1)
        for place in chosen:
            yield outputs.frame(FileFlow(self.paths[place]), stem_of(self.paths[place]))


@dataclasses.dataclass(frozen=True)
class TwoStreamClip:
    """Flow that is there already, as pairs of x and y pictures of two-stream networks.

    Args:
        pairs: the files.
        where: their folder, for messages.
        most: pixels a frame that 255 stands for.
    """

    pairs: tuple[tuple[str, str], ...]
    where: str
    most: float = TWO_STREAM_MOST

    @property
    def name(self) -> str:
        return self.where

    def settings(self) -> dict[str, Any]:
        return {"method": "two_stream", "most": float(self.most)}

    def expected(self) -> int:
        return len(self.pairs)

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        chosen = range(len(self.pairs)) if count is None else evenly(count, len(self.pairs) + 1)
        for place in chosen:
            x, y = self.pairs[place]
            stem = re.sub(r"(^|(?<=_))x_", "", stem_of(x))
            yield outputs.frame(TwoStreamFlow(x, y, self.most), stem)


def stem_of(path: str) -> str:
    """A file's name without its last ending."""
    return Path(path).stem


def in_order(names: Sequence[str]) -> list[str]:
    """Names sorted with their numbers by value: 2 comes before 10."""
    return sorted(names, key=_key)


def _key(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _check_stems(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(stem_of(path), path)
        if other != path:
            raise DataError(f"{other} and {path} would both become {stem_of(path)}.png")


def _check_sizes(paths: Sequence[str]) -> None:
    """Refuse frames of several sizes, by their heads."""
    first = head_size(paths[0])
    for path in paths[1:]:
        size = head_size(path)
        if size is not None and first is not None and size != first:
            raise DataError(
                f"{path} is {size[1]}x{size[0]}, {paths[0]} is {first[1]}x{first[0]}: expected frames of one size"
            )


def _check_series(paths: Sequence[str], where: str) -> None:
    """Refuse pictures whose names tell of several series, such as ``depth_1`` and ``rgb_1``."""
    series: dict[str, list[str]] = {}
    for path in paths:
        series.setdefault(re.sub(r"[\d.]+", "#", stem_of(path)), []).append(Path(path).name)
    several = [names[0] for names in series.values() if len(names) > 1]
    if len(several) > 1:
        raise DataError(
            f"{where}: holds several series of pictures, such as {several[0]} and {several[1]}; --pattern picks one"
        )


def _warn_of_gaps(paths: Sequence[str]) -> None:
    """Say so where numbers of frames are missing: flow there spans more than one step."""
    parts = [re.fullmatch(r"(.*?)(\d+)", stem_of(path)) for path in paths]
    numbers = [int(part[2]) for part in parts if part is not None and parts[0] is not None and part[1] == parts[0][1]]
    if len(numbers) < len(paths):
        return
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    usual = statistics.median(steps)
    for place, step in enumerate(steps):
        if step >= 1.5 * usual:
            warnings.warn(
                f"{paths[place + 1]} comes after {Path(paths[place]).name}: frames between them are missing, and the "
                "flow there spans the gap",
                stacklevel=2,
            )
            return
