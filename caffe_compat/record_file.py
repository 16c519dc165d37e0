"""A file of records that grows over several runs: a run that ended early goes on from what it holds.

The file begins with bytes that say what it is about; with others, nothing in it is taken.  A record is its length, its
CRC-32 and its bytes.  What a killed run left of a last record is dropped.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.files import append_part, open_existing, write_file

__all__ = ["RecordFile", "framed", "rank_file", "rank_files", "records_of"]

_HEAD = struct.Struct("<II")  # bytes of the record, their CRC-32


def rank_file(base: str | os.PathLike[str], rank: int) -> Path:
    """The file of one of several processes: rank 0's is ``base``, rank 2's has a 2 behind it."""
    return Path(f"{os.fspath(base)}{rank or ''}")


def rank_files(base: str | os.PathLike[str]) -> list[Path]:
    """All files of this form that are there, of this run or an earlier one of more processes."""
    base = Path(base)
    form = re.compile(re.escape(base.name) + r"([1-9]\d*)?")
    return sorted(path for path in (base.parent.iterdir() if base.parent.is_dir() else ()) if form.fullmatch(path.name))


def framed(record: bytes) -> bytes:
    """A record as it stands in the file."""
    return _HEAD.pack(len(record), zlib.crc32(record)) + record


def records_of(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The records of a file that is nothing but framed records, one by one.

    Raises:
        DataError: it ends within a record, or one is damaged.
    """
    with open_existing(path) as stream:
        while head := stream.read(_HEAD.size):
            length, check = _HEAD.unpack(head) if len(head) == _HEAD.size else (1, 0)
            record = stream.read(length)
            if len(record) < length or zlib.crc32(record) != check:
                raise DataError(f"{os.fspath(path)}: a record is damaged, or not all of it is there")
            yield record


class RecordFile:
    """Such a file; it is made by the first record.

    Args:
        path: of the file.
        begin: what it begins with.
    """

    def __init__(self, path: str | os.PathLike[str], begin: bytes) -> None:
        self.path, self._begin = Path(path), begin
        self._sizes: list[int] = []

    def read(self) -> list[bytes]:
        """The records up to the first that is not whole; the next one to be added follows them."""
        found = list(self._read())
        self._sizes = [_HEAD.size + len(record) for record in found]
        return found

    def cut(self, count: int) -> None:
        """Let the next record follow the first ``count``."""
        del self._sizes[count:]

    def append(self, record: bytes) -> None:
        """Write a record behind those that are kept.

        Raises:
            WriteError: it cannot be written.
        """
        data = framed(record)
        if self._sizes:
            with append_part(self.path, len(self._begin) + sum(self._sizes)) as stream:
                stream.write(data)
        else:
            write_file(self.path, self._begin, data)
        self._sizes.append(len(data))

    def remove(self) -> None:
        """There is a result: the file is not needed any more."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Iterator[bytes]:
        try:
            with open_existing(self.path) as stream:
                data = stream.read()
        except MissingFileError:
            return
        start = len(self._begin)
        if not data.startswith(self._begin):
            return
        while len(data) >= start + _HEAD.size:
            length, check = _HEAD.unpack_from(data, start)
            start += _HEAD.size
            record = data[start : start + length]
            if len(record) < length or zlib.crc32(record) != check:
                return
            yield record
            start += length
