"""HDF5 files, read without trust and written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import re
from collections.abc import Iterator
from typing import IO, Any

import h5py

from caffe_compat.errors import ModelFileError, WriteError
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.memory import LIFT, SMALL, available_memory, human_size, limits_apply
from caffe_compat.proto.wire import MAX_AXES, MAX_COUNT

__all__ = ["checked_dataset", "child", "create_hdf5", "disproportion", "is_stored", "open_hdf5", "refuse_virtual"]

_SMALL_CHUNK = 4 << 20
_MOST_COMPRESSED = 1100  #: deflate reaches 1032
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def create_hdf5(path: PathLike) -> Iterator[Any]:
    """A new h5py file that becomes ``path`` when the block ends without an error.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path, "w+b") as stream:
        image = _Image(stream)
        with h5py.File(image, "w") as file:
            yield file
        if image.error is not None:
            raise image.error


class _Image:
    """What h5py writes to.  No call fails: libhdf5 loses its bearings, or crashes, over an error in the middle of a
    flush.  After the first error it is told that all went well, and reads back what it believes to have written.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.error: WriteError | None = None
        self._stream = stream
        self._at = self._end = 0
        self._lost: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (self._end if whence == os.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            if self.error is None:
                self._stream.seek(self._at)
                self._stream.write(view)
        except WriteError as error:
            self.error = error
        if self.error is not None and len(view) <= SMALL:  # larger ones are numbers, which nobody asks back
            self._lost.append((self._at, bytes(view)))
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        self._stream.seek(self._at)
        self._stream.readinto(view)  # type: ignore[attr-defined]
        for start, data in self._lost:
            first, last = max(start, self._at), min(start + len(data), self._at + len(view))
            if first < last:
                view[first - self._at : last - self._at] = data[first - start : last - start]
        self._at += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int) -> int:
        try:
            if self.error is None:
                self._stream.truncate(size)
        except WriteError as error:
            self.error = error
        self._end = size
        return size

    def flush(self) -> None:
        """The writer does that at the end."""


@contextlib.contextmanager
def open_hdf5(path: PathLike) -> Iterator[Any]:
    """An open h5py file; whatever HDF5 dislikes about it becomes a ModelFileError."""
    refuse_virtual(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(f"{os.fspath(path)}: not a usable HDF5 file: {error}") from error


def refuse_virtual(path: PathLike) -> None:
    """Refuse files with virtual datasets, before the HDF5 library sees them: version 2.0.0 crashes on damaged ones
    (``H5S__hyper_deserialize``), and no others keep numbers in other files.

    The layout message of such a dataset ends with the class 3 and the address of a global heap, which starts with
    ``GCOL``.  Weights have no global heap.
    """
    with open_existing(path) as stream:
        status = os.fstat(stream.fileno())
    if _has_virtual(os.path.abspath(path), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)):
        raise ModelFileError(f"{os.fspath(path)}: has a virtual dataset, whose numbers are in another file")


@functools.lru_cache(maxsize=64)
def _has_virtual(path: str, stamp: tuple[int, ...]) -> bool:
    """Looks through the whole file, so once for each."""
    with open_existing(path) as stream:
        if not stamp[2]:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            base = max(data.find(_SIGNATURE), 0)
            heaps = {(found.start() - base).to_bytes(8, "little") for found in re.finditer(b"GCOL", data)}
            return bool(heaps) and any(found[1] in heaps for found in re.finditer(rb"(?s)\x03(?=(.{8}))", data))


def child(parent: Any, name: str, kind: str, path: PathLike) -> Any:
    """A group or dataset that lies in this very file (links elsewhere are refused).

    Args:
        kind: ``"group"`` or ``"dataset"``.

    Raises:
        ModelFileError: there is none.
    """
    link = parent.get(name, getlink=True)
    where = f"{os.fspath(path)}: {parent.name.rstrip('/')}/{name}"
    if link is None:
        raise ModelFileError(f"{where} is missing")
    if not isinstance(link, h5py.HardLink):
        raise ModelFileError(f"{where} is a link to somewhere else, expected a {kind}")
    item = parent[name]
    if not isinstance(item, h5py.Group if kind == "group" else h5py.Dataset):
        raise ModelFileError(f"{where} is not a {kind}")
    return item


def checked_dataset(parent: Any, name: str, path: PathLike, kinds: str = "f") -> Any:
    """A dataset of a file opened by :func:`open_hdf5`, that holds all the numbers it claims and fits into memory.

    Args:
        kinds: NumPy's letters for the kinds of numbers allowed, ``"f"`` floats, ``"i"`` and ``"u"`` integers.

    Raises:
        ModelFileError: there is no such dataset, or it cannot be read safely.
    """
    dataset = child(parent, name, "dataset", path)
    where = f"{os.fspath(path)}: {dataset.name}"
    if dataset.dtype.kind not in kinds:
        expected = "float32 or float64" if kinds == "f" else "floats or integers"
        raise ModelFileError(f"{where} holds {dataset.dtype}, expected {expected}")
    if dataset.shape is None or len(dataset.shape) > MAX_AXES or math.prod(dataset.shape) > MAX_COUNT:
        raise ModelFileError(f"{where} has shape {dataset.shape}, beyond {MAX_AXES} axes or {MAX_COUNT} elements")
    if dataset.external or dataset.is_virtual:
        raise ModelFileError(f"{where} keeps its numbers in another file")
    if not is_stored(dataset):
        raise ModelFileError(f"{where} claims shape {dataset.shape}, but its numbers are not stored")
    if limits_apply() and (problem := disproportion(dataset)):
        raise ModelFileError(f"{where}: {problem}; if the file can be trusted, {LIFT} reads it all the same")
    if 4 * dataset.size > SMALL and 4 * dataset.size > (left := available_memory()):
        needed, free = human_size(4 * dataset.size), human_size(left)
        raise ModelFileError(f"{where} of shape {dataset.shape} needs {needed}, {free} of memory are free")
    return dataset


def disproportion(dataset: Any) -> str:
    """What reading the dataset would cost beyond its content, or an empty string.

    HDF5 reads whole chunks, so the size of a chunk is a price that a few bytes of file can name.
    """
    if dataset.chunks is None:
        return ""
    size, chunk = (math.prod(shape) * dataset.dtype.itemsize for shape in (dataset.shape, dataset.chunks))
    if chunk > max(_SMALL_CHUNK, 4 * size):
        return f"its {human_size(size)} of numbers lie in a chunk of {human_size(chunk)}"
    stored = dataset.id.get_storage_size()
    if size > SMALL and size > _MOST_COMPRESSED * stored:
        return f"its {human_size(size)} of numbers are compressed to {human_size(stored)}"
    return ""


def is_stored(dataset: Any) -> bool:
    """Whether the file holds all numbers; HDF5 makes up what is not there, however large the dataset."""
    if not dataset.size:
        return True
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() >= dataset.size * dataset.dtype.itemsize)
    wanted = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() >= wanted)
