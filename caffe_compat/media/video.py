"""Frames of videos, decoded with OpenCV: numbered from 0 as they are decoded, never found by seeking, which many files
answer with a neighbour.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.media.sizes import check_size

__all__ = [
    "VIDEO_SUFFIXES",
    "EndOfVideo",
    "VideoHead",
    "Videos",
    "gray_of",
    "video_clip",
    "video_frames",
    "video_head",
]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
"""Endings of video files."""
_MOST_OPEN = 4


class EndOfVideo(DataError):
    """There are fewer frames than the head of a video says."""


@dataclass(frozen=True)
class VideoHead:
    """What a video says of itself.

    Attributes:
        frames: how many there are; of some formats only about.
        rate: frames a second; 0: it does not say.
    """

    frames: int
    rate: float


def video_head(path: str | os.PathLike[str]) -> VideoHead:
    """What a video says of itself; one that does not say how many frames it has is decoded to count them.

    Raises:
        MissingFileError: no such file.
        DataError: it is no video that OpenCV can decode.
    """
    with _opened(path) as capture:
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if frames < 1:
            frames = 0
            while capture.grab():
                frames += 1
        if not frames:
            raise DataError(f"{os.fspath(path)}: is a video without a frame that OpenCV can decode")
        return VideoHead(frames, rate if np.isfinite(rate) and rate > 0 else 0.0)


def video_frames(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """All frames of a video, in order: uint8 [H, W, 3], blue first, turned as the video says that it is to be shown.

    Raises:
        MissingFileError: no such file.
        EndOfVideo: it has fewer frames than its head says (given after the last); more are no fault.
        DataError: it is no video that OpenCV can decode, or its frames are larger than the limit.
    """
    with _opened(path) as capture:
        stated, number = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while capture.grab():
            done, picture = capture.retrieve()
            if not done:
                raise DataError(f"{os.fspath(path)}: frame {number} cannot be decoded")
            check_size(picture.shape[0], picture.shape[1], os.fspath(path))
            yield np.asarray(picture, np.uint8)
            number += 1
        if number < stated or not number:
            raise EndOfVideo(f"{os.fspath(path)}: ends after {number} frames, its head says {stated}")


def video_clip(path: str | os.PathLike[str], numbers: range) -> list[np.ndarray]:
    """Frames of a video: uint8 [H, W, 3], blue first; those before and between them are passed, not decoded to pixels.

    Args:
        numbers: of the frames, rising.

    Raises:
        MissingFileError: no such file.
        EndOfVideo: it has fewer frames than that.
        DataError: it is no video that OpenCV can decode, or its frames are larger than the limit.
    """
    name, found = os.fspath(path), []
    with _opened(path) as capture:
        for number in range(numbers.stop):
            if not capture.grab():
                raise EndOfVideo(f"{name}: ends after {number} frames, frame {numbers[-1]} is wanted")
            if number not in numbers:
                continue
            done, picture = capture.retrieve()
            if not done:
                raise DataError(f"{name}: frame {number} cannot be decoded")
            check_size(picture.shape[0], picture.shape[1], name)
            found.append(np.asarray(picture, np.uint8))
            if len(found) == len(numbers):
                break
    return found


class Videos:
    """Reads frames for threads that ask for them about in order; each video is decoded once.

    Args:
        every: only multiples of it are asked for.
        ahead: threads that ask, at most.
    """

    def __init__(self, every: int = 1, ahead: int = 8) -> None:
        self.every, self.ahead = every, ahead
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Reader] = OrderedDict()

    def read(self, path: str, number: int) -> np.ndarray:
        """A frame: uint8 [H, W, 3], blue first, turned as the video says that it is to be shown.

        Raises:
            MissingFileError: no such file.
            EndOfVideo: it has fewer frames than that.
            DataError: it is no video that OpenCV can decode, or its frames are larger than the limit.
        """
        with self._lock:
            reader = self._open.get(path)
            if reader is None:
                reader = self._open[path] = _Reader(path, self.every, self.ahead)
                while len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)  # closed when the last thread has done with it
        return reader.read(number)


class _Reader:
    """One video.  What is passed on the way to a frame and will be asked for is kept: threads overtake each other."""

    def __init__(self, path: str, every: int, ahead: int) -> None:
        self.path, self.every, self.ahead = path, every, ahead
        self._lock = threading.Lock()
        self._capture: cv2.VideoCapture | None = None
        self._next = self._frames = 0
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, number: int) -> np.ndarray:
        with self._lock:
            if number in self._kept:
                return self._kept.pop(number)
            if self._capture is None or number < self._next:
                self._begin()
            while self._next < number:
                passed = self._frame(self._next % self.every == 0)
                if passed is not None:
                    self._kept[self._next - 1] = passed
                    while len(self._kept) > self.ahead:
                        self._kept.popitem(last=False)
            frame = self._frame(True)
            assert frame is not None
            if number < self._frames <= number + self.every:
                self._look_on()
            return frame

    def _begin(self) -> None:
        self._kept.clear()
        self._next = 0
        self._capture = _open(self.path)
        self._frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def _frame(self, wanted: bool) -> np.ndarray | None:
        """The next frame; None where it is only passed."""
        assert self._capture is not None
        if not self._capture.grab():
            raise EndOfVideo(f"{self.path}: ends after {self._next} frames, its head says {self._frames}")
        self._next += 1
        if not wanted:
            return None
        done, picture = self._capture.retrieve()
        if not done:
            raise DataError(f"{self.path}: frame {self._next - 1} cannot be decoded")
        check_size(picture.shape[0], picture.shape[1], self.path)
        return np.asarray(picture, np.uint8)

    def _look_on(self) -> None:
        """After the last frame that its head tells of: is there one more that is wanted?"""
        assert self._capture is not None
        while self._capture.grab():
            self._next += 1
            if (self._next - 1) % self.every == 0:
                warnings.warn(
                    f"{self.path}: goes on after the {self._frames} frames of which its head tells; what follows is "
                    "left out",
                    stacklevel=2,
                )
                return


def gray_of(picture: np.ndarray) -> np.ndarray:
    """Grey of colours: uint8 [H, W] of [H, W, 3], as Caffe's OpenCV makes it."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[cv2.VideoCapture]:
    capture = _open(path)
    try:
        yield capture
    finally:
        capture.release()


def _open(path: str | os.PathLike[str]) -> cv2.VideoCapture:
    open_existing(path, "video").close()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is in our errors
    level = cv2.utils.logging.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(os.fspath(path))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise DataError(f"{os.fspath(path)}: is no video that OpenCV can decode")
    return capture
