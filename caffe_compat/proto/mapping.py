"""Numbers of a weights file without reading them: arrays that are the file itself, mapped into memory.

The mapping is private (copy on write).  The system shares its pages with every other process that maps or reads the
file and brings them in when they are first looked at; a page that is written to becomes this process's own, and the
file stays as it is.

What happens to the file later matters, because it is still read:

- Replaced by renaming another one over it, or removed: nothing, the mapping keeps the old file.  Everything in this
  package writes so.
- Overwritten in place: pages that were not written to show the new bytes.
- Truncated: the system ends the process with SIGBUS when it looks at what is gone, written to or not.

Files on a network disk may do the last when the server is gone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from typing import IO

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import open_existing
from caffe_compat.proto.blob import Blob, open_unchanged

__all__ = ["ITEM", "map_blobs", "map_places"]

PathLike = str | os.PathLike[str]

ITEM = np.dtype(np.float32).itemsize
"""Numbers are mapped where they begin at a multiple of this."""


def map_blobs(blobs: Sequence[Blob]) -> list[np.ndarray | None]:
    """The numbers of blobs of one file as writable flat float32 arrays that are a private mapping of it.

    None for a blob whose numbers memory cannot hold as they stand in the file: doubles, halves, numbers with a tag
    each, in several runs, or beginning at a byte that is no multiple of 4, where processors, and the code that torch
    is made of, do not expect a float32.  Protobuf puts them anywhere, so that this is so of three blobs in four that
    Caffe wrote; :func:`caffe_compat.proto.weights.write` puts them right with ``aligned=True``.

    Raises:
        ModelFileError: a blob is malformed, or the file changed since it was scanned.
    """
    for blob in blobs:
        blob.check()
    if not blobs:
        return []
    with open_unchanged(blobs[0]) as stream:
        return _views(stream, blobs[0].path, [(blob.place, blob.count) for blob in blobs])


def map_places(path: PathLike, places: Sequence[tuple[int | None, int]]) -> list[np.ndarray | None]:
    """The same of any file, by the bytes at which numbers begin (None: they stand otherwise), and how many there are.

    Raises:
        ModelFileError: the file is shorter, or cannot be mapped.
        MissingFileError: it is gone.
    """
    with open_existing(path) as stream:
        return _views(stream, path, places)


def _views(stream: IO[bytes], path: PathLike, places: Sequence[tuple[int | None, int]]) -> list[np.ndarray | None]:
    fits = [count > 0 and place is not None and place % ITEM == 0 for place, count in places]
    if not any(fits):
        return [None] * len(places)
    whole = _map_file(stream, path)
    end = max((place or 0) + ITEM * count for (place, count), fit in zip(places, fits, strict=True) if fit)
    if end > len(whole):
        raise ModelFileError(f"{os.fspath(path)}: the file ends early, at byte {len(whole)} of {end}")
    return [
        np.frombuffer(whole, np.float32, count, place or 0) if fit else None
        for (place, count), fit in zip(places, fits, strict=True)
    ]


def _map_file(stream: IO[bytes], path: PathLike) -> mmap.mmap:
    """A whole open file, privately mapped; it ends with the last array that uses it.

    Raises:
        ModelFileError: the system cannot map it.
    """
    try:
        whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        with contextlib.suppress(AttributeError):  # not on every system
            whole.madvise(mmap.MADV_WILLNEED)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{os.fspath(path)}: cannot be mapped into memory: {error}") from error
    return whole
