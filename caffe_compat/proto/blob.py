"""Blobs of a scanned weights file: where their numbers lie, and reading them, with several threads where it pays.

One thread that reads a cached file into new memory spends most of its time in the kernel, which clears the pages and
copies into them (two parts in three, one in three); two on two cores take little more than half of it.  Parts are small
enough for every core to have some, up to 16, by when the memory is what is waited for.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import numpy as np

from caffe_compat.devices import cores
from caffe_compat.errors import ModelFileError, WeightsError
from caffe_compat.files import open_existing
from caffe_compat.memory import populate

__all__ = ["PART", "Blob", "Lane", "Segment", "open_unchanged", "read_all", "read_through"]

_CHUNK = 1 << 20
PART = 4 << 20
"""Bytes that a thread takes at a time, as float32."""
_MOST_THREADS = 16


@dataclass
class Segment:
    """A run of numbers in a file: ``count`` items of ``item`` bytes, one every ``stride`` bytes."""

    offset: int
    count: int
    item: int
    stride: int


@dataclass
class Blob:
    """One stored blob: its shape, and where its numbers lie in the file.

    Attributes:
        shape: the axes; for ``legacy`` blobs always (num, channels, height, width), of C3D 1.0 with the length before
            the height.
        legacy: the shape came from the old fields, so Caffe matches it right-aligned with 1s in front.
        error: what is wrong with it, if it cannot be used.
    """

    path: str
    label: str
    shape: tuple[int, ...] = ()
    legacy: bool = False
    stamp: tuple[int, int] = (0, 0)
    error: ModelFileError | None = None
    _data: list[Segment] = field(default_factory=list, repr=False)
    _diff: list[Segment] = field(default_factory=list, repr=False)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def has_diff(self) -> bool:
        """Whether gradients are stored too."""
        return bool(self._diff)

    @property
    def place(self) -> int | None:
        """Byte of the file at which its numbers begin, where they stand there as memory holds them: one run of float32
        in the order of this machine's bytes."""
        run = self._data[0] if len(self._data) == 1 else None
        return run.offset if run is not None and run.item == run.stride == 4 and sys.byteorder == "little" else None

    def check(self) -> None:
        """Refuse a blob whose shape is impossible or disagrees with its numbers.

        Raises:
            ModelFileError: it does; with file, byte offset, layer and blob.
        """
        if self.error is not None:
            raise self.error

    def read(self) -> np.ndarray:
        """A new float32 array of the blob's shape.

        Raises:
            ModelFileError: the blob is malformed, or the file changed since it was scanned.
        """
        self.check()
        array = np.empty(self.shape, np.float32)
        read_all([(self, array)])
        return array

    def diff(self) -> np.ndarray:
        """The stored gradients as a new float32 array.

        Raises:
            ModelFileError: there are none (see ``has_diff``), or the file changed since it was scanned.
        """
        self.check()
        if not self._diff:
            raise ModelFileError(f"{self.path}: {self.label} holds no diff")
        array = np.empty(self.shape, np.float32)
        _fill([(self, self._diff, array)])
        return array


def read_all(wanted: Sequence[tuple[Blob, np.ndarray]]) -> None:
    """Read blobs of one or several files into C-contiguous float32 arrays of as many elements.

    Raises:
        WeightsError: an array has another type, layout or number of elements; nothing was read then.
        ModelFileError: a blob is malformed, or its file changed since it was scanned.
    """
    for blob, array in wanted:
        if array.dtype != np.float32 or not array.flags.c_contiguous or not array.flags.writeable:
            raise WeightsError(f"{blob.label}: wants a writeable C-contiguous float32 array, got {array.dtype}")
        blob.check()
        if array.size != blob.count:
            raise WeightsError(f"{blob.label}: has {blob.count} elements, the array has {array.size}")
    _fill([(blob, blob._data, array) for blob, array in wanted])


class Lane(Protocol):
    """Where one thread's numbers go; every thread has its own."""

    def memory(self, number: int, start: int, count: int) -> np.ndarray:
        """Memory (float32[count]) to read elements ``start`` to ``start + count`` of array ``number`` into."""

    def done(self, number: int, start: int, memory: np.ndarray) -> None:
        """What :meth:`memory` gave is filled."""

    def close(self) -> None:
        """There are no more; called once, also after an error."""


def read_through(blobs: Sequence[Blob], lane: Callable[[], Lane]) -> None:
    """Read blobs part by part into whatever memory the lanes of the threads give, so that they may pass it on.

    Raises:
        ModelFileError: a blob is malformed, or its file changed since it was scanned.
    """
    for blob in blobs:
        blob.check()
    _read([(blob, blob._data) for blob in blobs], lane)


def _fill(wanted: Sequence[tuple[Blob, list[Segment], np.ndarray]]) -> None:
    flat = [array.reshape(-1) for _, _, array in wanted]
    _read([(blob, segments) for blob, segments, _ in wanted], lambda: _Direct(flat))


class _Direct:
    """A lane that reads straight into arrays."""

    def __init__(self, flat: Sequence[np.ndarray]) -> None:
        self._flat = flat

    def memory(self, number: int, start: int, count: int) -> np.ndarray:
        array = self._flat[number][start : start + count]
        populate(array)
        return array

    def done(self, number: int, start: int, memory: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Part:
    """What one thread reads at a time: a piece of a segment, and where it goes."""

    blob: Blob
    segment: Segment
    number: int
    start: int


def _read(wanted: Sequence[tuple[Blob, list[Segment]]], lane: Callable[[], Lane]) -> None:
    parts = [part for number, (blob, segments) in enumerate(wanted) for part in _parts(blob, segments, number)]
    threads = min(_MOST_THREADS, cores(), sum(4 * part.segment.count for part in parts) // PART)
    work = _Work(parts, lane)
    others = [threading.Thread(target=work.run) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    try:
        work.run()
    finally:
        work.stop()
        for thread in others:
            thread.join()
    if work.error is not None:
        raise work.error


def _parts(blob: Blob, segments: Sequence[Segment], number: int) -> Iterator[_Part]:
    done = 0
    for segment in segments:
        step = PART // 4
        for start in range(0, segment.count, step):
            count = min(step, segment.count - start)
            piece = Segment(segment.offset + start * segment.stride, count, segment.item, segment.stride)
            yield _Part(blob, piece, number, done + start)
        done += segment.count


class _Work:
    """Parts to read, taken one by one by several threads, each with the file open for itself."""

    def __init__(self, parts: Sequence[_Part], lane: Callable[[], Lane]) -> None:
        self.error: BaseException | None = None
        self._parts = list(reversed(parts))
        self._lane = lane

    def stop(self) -> None:
        self._parts.clear()

    def run(self) -> None:
        """Read parts until none is left; the first error stops all threads."""
        try:
            with contextlib.ExitStack() as stack:
                self._run(stack)
        except Exception as error:  # told by the thread that waits for the others
            self.error = self.error or error
            self.stop()

    def _run(self, stack: contextlib.ExitStack) -> None:
        opened: dict[str, IO[bytes]] = {}
        lane = self._lane()
        stack.callback(lane.close)
        while True:
            try:
                part = self._parts.pop()
            except IndexError:
                return
            if part.blob.path not in opened:
                opened[part.blob.path] = stack.enter_context(open_unchanged(part.blob))
            memory = lane.memory(part.number, part.start, part.segment.count)
            _read_segment(opened[part.blob.path], part.segment, memory, part.blob.path)
            lane.done(part.number, part.start, memory)


def open_unchanged(blob: Blob) -> IO[bytes]:
    """The file of a blob, open.

    Raises:
        ModelFileError: it changed since it was scanned.
        MissingFileError: it is gone.
    """
    stream = open_existing(blob.path)
    status = os.fstat(stream.fileno())
    if (status.st_size, status.st_mtime_ns) != blob.stamp:
        stream.close()
        raise ModelFileError(f"{blob.path}: the file changed since it was scanned")
    return stream


def _read_segment(raw: IO[bytes], segment: Segment, out: np.ndarray, path: str) -> None:
    raw.seek(segment.offset)
    if segment.item == segment.stride == 4:
        _read_exactly(raw, out, path)
        return
    per_chunk = max(1, _CHUNK // segment.stride)
    kind = f"<f{segment.item}"
    skip = segment.stride - segment.item
    for start in range(0, segment.count, per_chunk):
        part = out[start : start + per_chunk]
        buffer = np.empty((len(part), segment.stride), np.uint8)
        _read_exactly(raw, buffer, path)
        with np.errstate(over="ignore"):  # doubles beyond float32 become inf, as in Caffe
            part[:] = np.ascontiguousarray(buffer[:, skip:]).view(kind)[:, 0]


def _read_exactly(raw: Any, out: np.ndarray, path: str) -> None:
    view = out.reshape(-1).view(np.uint8).data
    while view:
        got = raw.readinto(view)
        if not got:
            raise ModelFileError(f"{path}: the file ends early")
        view = view[got:]
