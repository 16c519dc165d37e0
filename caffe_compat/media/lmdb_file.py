"""Reading LMDB files, without the library: every page is proven before it is believed.

The library maps the file into memory and follows whatever offsets and page numbers stand in it; a damaged file ends the
process (SIGBUS, SIGSEGV).  It also refuses a file that its process has open, which a script that writes a database
and then trains on it does.  The format is small: two meta pages, of which the newer one counts; a tree of branch and
leaf pages; long values on overflow pages of their own.

Source: OpenLDAP's ``mdb.c`` 0.9 (``MDB_page``, ``MDB_meta``, ``MDB_node``), files of 64-bit little-endian machines.
"""

from __future__ import annotations

import os
import struct
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["LmdbFile", "LmdbPlace"]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = 16
"""Bytes before what a page holds: its number, padding, flags, and its bounds (or how many overflow pages)."""
_TRANSACTION = _HEADER + 128
_HEAD = struct.Struct("<HHHH")
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_NOWHERE = (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_REVERSED, _DUPLICATES, _INTEGERS = 0x02, 0x04, 0x08
"""Flags of a database: keys are compared from their ends; keys have several values; keys are native integers."""
_BIG, _NAMED, _SEVERAL = 0x01, 0x02, 0x04
"""Flags of a leaf's entry: value on overflow pages; a database of its own; several values of one key."""
_DEEPEST = 32
_TRIES = 8


class _Meta(NamedTuple):
    page_size: int
    flags: int
    entries: int
    root: int
    last: int
    transaction: int


class LmdbPlace(NamedTuple):
    """Where a value was when the file was looked through; see :meth:`LmdbFile.value_at`.

    Args:
        start: its first byte, or that of its overflow pages if it is ``big``.
        transaction: the newest that was there.
    """

    key: bytes
    start: int
    length: int
    big: bool
    transaction: int


_Entry = tuple[bytes, int, int, bool]
"""A key, and where its value lies: its first byte (or that of its overflow pages), its length, and whether on such."""


class LmdbFile:
    """The records of the unnamed database of an LMDB file, in the order of their keys.

    A reader takes no lock, and no writer waits for it.  What was written since the file was opened is not seen, except
    that a record that was changed may give its new value.  May be used from several threads.

    Args:
        path: the file, or the folder that ``data.mdb`` lies in.
        index: look through it for ``keys``; without them, only :meth:`value_at` is of use.

    Raises:
        MissingFileError: no such file.
        DataError: the file is damaged, or holds other things than records.
    """

    def __init__(self, path: str, index: bool = True) -> None:
        self.path = path
        self._stream = open_existing(os.path.join(path, "data.mdb") if os.path.isdir(path) else path)
        self._lock = threading.Lock()
        try:
            if index:
                self._look_through()
            else:
                self._page_size = self._newest_meta().page_size
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def value(self, index: int) -> bytes:
        """The value of the key ``keys[index]``.

        Raises:
            DataError: it is gone, or the file was damaged since.
        """
        return self.value_at(self.place(index))

    def place(self, index: int) -> LmdbPlace:
        """Where the value of the key ``keys[index]`` is."""
        length = self._lengths[index]
        return LmdbPlace(self.keys[index], self._starts[index], length >> 1, bool(length & 1), self._transaction)

    def value_at(self, place: LmdbPlace) -> bytes:
        """The value of a key, of which another process may have said where it is.

        Raises:
            DataError: it is gone, or the file was damaged since.
        """
        found, error = b"", None
        try:
            found = self._read(place.start, place.length, place.big)
        except DataError as problem:
            error = problem
        # pages of this snapshot are used again by the second transaction after it, which may be under way
        if self._transaction_now() == place.transaction:
            if error is not None:
                raise error
            return found
        return self._look_up(place.key)

    def identity(self) -> tuple[int, int]:
        """What tells the open file from another of its name."""
        status = os.fstat(self._stream.fileno())
        return status.st_dev, status.st_ino

    def _look_through(self) -> None:
        """Find all keys and where their values lie."""
        for left in reversed(range(_TRIES)):
            meta = self._newest_meta()
            self._page_size, self._transaction = meta.page_size, meta.transaction
            self.keys: list[bytes] = []
            self._starts, self._lengths = array("Q"), array("Q")
            try:
                for key, start, length, big in _Tree(self, meta).entries():
                    self.keys.append(key)
                    self._starts.append(start)
                    self._lengths.append(length << 1 | big)
            except DataError:
                if not left or self._transaction_now() == meta.transaction:
                    raise
                continue
            if self._transaction_now() <= meta.transaction + 1:
                return
        raise self.error("is written to faster than it can be read")

    def _look_up(self, key: bytes) -> bytes:
        """The value that a key has now."""
        for left in reversed(range(_TRIES)):
            meta = self._newest_meta()
            try:
                entry = _Tree(self, meta).find(key)
                value = None if entry is None else self._read(*entry[1:])
            except DataError:
                if not left or self._transaction_now() == meta.transaction:
                    raise
                continue
            if self._transaction_now() == meta.transaction or not left:
                if value is None:
                    raise self.error(f"record {_shown(key)} was removed since the file was opened")
                return value
        raise AssertionError("unreachable")

    # -- bytes ------------------------------------------------------------------------------------------------

    def _read(self, start: int, length: int, big: bool) -> bytes:
        if not big:
            return self.bytes_at(start, length)
        number = start // self._page_size
        page, flags, count = struct.unpack("<Q2xHI", self.bytes_at(start, _HEADER))
        if page != number or flags & _OVERFLOW == 0 or count * self._page_size < _HEADER + length:
            raise self.damaged(f"page {number} is not the {length} bytes of a value")
        return self.bytes_at(start + _HEADER, length)

    def bytes_at(self, start: int, length: int) -> bytes:
        """A part of the file.

        Raises:
            DataError: it ends before.
        """
        parts, left = [], length
        while left:
            part = self._some_bytes(start + length - left, left)
            if not part:
                raise self.error(f"is a truncated LMDB database, it ends {left} bytes early")
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some_bytes(self, start: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), length, start)
        with self._lock:
            self._stream.seek(start)
            return self._stream.read(length)

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._stream.fileno()).st_size

    def error(self, reason: str) -> DataError:
        """An error that names the file."""
        return DataError(f"{self.path}: {reason}")

    def damaged(self, reason: str) -> DataError:
        """The same, of a file that breaks the format."""
        return self.error(f"is a damaged LMDB database: {reason}")

    # -- meta pages -------------------------------------------------------------------------------------------

    def _transaction_now(self) -> int:
        """Number of the newest transaction."""
        found = (self.bytes_at(page * self._page_size + _TRANSACTION, 8) for page in (0, 1))
        return max(int.from_bytes(number, "little") for number in found)

    def _newest_meta(self) -> _Meta:
        first = self._meta(0)
        second = self._meta(first.page_size)
        meta = max(first, second, key=lambda found: found.transaction)
        size, wanted = self.size(), (meta.last + 1) * meta.page_size
        if size < wanted:
            raise self.error(f"is a truncated LMDB database, {size} bytes of {wanted}")
        return meta

    def _meta(self, start: int) -> _Meta:
        try:
            page = self.bytes_at(start, _TRANSACTION + 8)
        except DataError:
            raise self.error(f"is no LMDB database: it has {self.size()} bytes") from None
        magic, version = struct.unpack_from("<II", page, _HEADER)
        if magic != _MAGIC or version != _VERSION or not struct.unpack_from("<H", page, 10)[0] & _META:
            if struct.unpack_from("<I", page, 12)[0] == _MAGIC:
                raise self.error("is an LMDB database of a 32-bit machine, expected one of a 64-bit machine")
            raise self.error(f"is no LMDB database: there is no meta page of version {_VERSION} at byte {start}")
        (page_size,) = struct.unpack_from("<I", page, _HEADER + 24)
        flags, entries, root, last, transaction = struct.unpack_from("<4xH26xQQQQ", page, _HEADER + 72)
        if page_size not in _PAGE_SIZES:
            raise self.damaged(f"pages of {page_size} bytes")
        return _Meta(page_size, flags, entries, root, last, transaction)


class _Tree:
    """The pages of one snapshot."""

    def __init__(self, file: LmdbFile, meta: _Meta) -> None:
        self._file, self._meta, self._size = file, meta, file.size()
        self._seen: set[int] = set()
        if meta.flags & _DUPLICATES:
            raise file.error("holds several values for a key, expected records")

    def entries(self) -> Iterator[_Entry]:
        """All records in the order of their keys."""
        count, ordered, last = 0, not self._meta.flags & (_REVERSED | _INTEGERS), b""
        waiting = [] if self._meta.root == _NOWHERE else [self._meta.root]
        while waiting:
            number = waiting.pop()
            page, branch = self._page(number)
            if branch:
                waiting += reversed([child for _, child in self._children(page, number)])
                continue
            for entry in self._leaf(page, number):
                key = entry[0]
                if ordered and count and key <= last:
                    raise self._file.damaged(f"page {number} has the key {_shown(key)} after {_shown(last)}")
                count, last = count + 1, key
                yield entry
        if count != self._meta.entries:
            raise self._file.damaged(f"{count} records, its head says {self._meta.entries}")

    def find(self, key: bytes) -> _Entry | None:
        """One record."""
        if self._meta.flags & (_REVERSED | _INTEGERS):
            return next((entry for entry in self.entries() if entry[0] == key), None)
        number = self._meta.root
        for _ in range(_DEEPEST):
            if number == _NOWHERE:
                return None
            page, branch = self._page(number)
            if not branch:
                return next((entry for entry in self._leaf(page, number) if entry[0] == key), None)
            children = self._children(page, number)
            number = children[bisect_right([first for first, _ in children[1:]], key)][1]
        raise self._file.damaged(f"a tree of more than {_DEEPEST} levels")

    def _page(self, number: int) -> tuple[bytes, bool]:
        """A page of the tree, and whether it is a branch."""
        if not 1 < number <= self._meta.last or number in self._seen:
            raise self._file.damaged(f"its tree leads to page {number}, which is no page of it or was there already")
        self._seen.add(number)
        size = self._meta.page_size
        page = self._file.bytes_at(number * size, size)
        own, flags, lower, upper = struct.unpack_from("<Q2xHHH", page)
        kind = flags & 0x2F  # without the marks of pages in memory
        if own != number or kind not in (_BRANCH, _LEAF) or not _HEADER < lower <= upper <= size or lower % 2:
            raise self._file.damaged(f"page {number} is no page of its tree")
        return page, kind == _BRANCH

    def _nodes(self, page: bytes, number: int) -> Iterator[tuple[bytes, int, int, int, int]]:
        """Key, the three numbers of its head, and where its value begins, of every entry of a page."""
        size, head = len(page), _HEAD.unpack_from
        lower, upper = struct.unpack_from("<HH", page, 12)
        for at in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER):
            if not upper <= at <= size - 8:
                raise self._file.damaged(f"page {number} has an entry at byte {at}")
            low, high, flags, length = head(page, at)
            begin = at + 8 + length
            if begin > size:
                raise self._file.damaged(f"page {number} has a key of {length} bytes at byte {at}")
            yield page[at + 8 : begin], low, high, flags, begin

    def _children(self, page: bytes, number: int) -> list[tuple[bytes, int]]:
        return [(key, low | high << 16 | flags << 32) for key, low, high, flags, _ in self._nodes(page, number)]

    def _leaf(self, page: bytes, number: int) -> Iterator[_Entry]:
        size, first = self._meta.page_size, number * self._meta.page_size
        for key, low, high, flags, begin in self._nodes(page, number):
            length = low | high << 16
            if flags == 0 and begin + length <= size:
                yield key, first + begin, length, False
            else:
                yield self._unusual(page, number, key, (length, flags, begin))

    def _unusual(self, page: bytes, number: int, key: bytes, head: tuple[int, int, int]) -> _Entry:
        """An entry whose value lies elsewhere, or that is none."""
        length, flags, begin = head
        if flags & (_NAMED | _SEVERAL):
            raise self._file.error(f"holds a database named {_shown(key)}, expected records")
        size = self._meta.page_size
        if not flags & _BIG or begin + 8 > size:
            raise self._file.damaged(f"page {number} has a value of {length} bytes at byte {begin}")
        start = int.from_bytes(page[begin : begin + 8], "little") * size
        if start > self._meta.last * size or start + _HEADER + length > self._size:
            raise self._file.damaged(f"page {number} has a value of {length} bytes on page {start // size}")
        return key, start, length, True


def _shown(key: bytes) -> str:
    """A key in a message."""
    return repr(key.decode(errors="replace"))
