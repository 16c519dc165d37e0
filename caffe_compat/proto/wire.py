"""A bounds-checked scanner of protobuf bytes in a file.

Weights files are hundreds of megabytes of packed floats between a few hundred bytes of names and shapes.  The scanner
reads the small parts through a window and jumps over the floats; :mod:`caffe_compat.proto.blob` later reads those
straight into an array.  Every length is checked against the part of the file it lies in before anything is read or
allocated.
"""

from __future__ import annotations

import os

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import open_existing

__all__ = ["MAX_AXES", "MAX_COUNT", "MAX_FILE", "Scanner"]

MAX_AXES = 32
"""Most axes of a Caffe blob."""
MAX_COUNT = 2**31 - 1
"""Most elements of a Caffe blob."""
MAX_FILE = 2**31 - 1
"""Most bytes of a protobuf message that Caffe can read."""

_WINDOW = 4096
_CHUNK = 1 << 20
_MAX_GROUPS = 100
VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)


class Scanner:
    """Reads protobuf fields of one file.  Use it as a context manager.

    Args:
        path: the file.
        what: what it should be, for messages, e.g. ``"caffemodel"``.

    Raises:
        MissingFileError: no such file.
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path = os.fspath(path)
        self.what = what
        self.context = ""
        self._file = open_existing(path, "")
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        self.stamp = (status.st_size, status.st_mtime_ns)
        self._window = b""
        self._base = 0

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def error(self, offset: int, reason: str) -> ModelFileError:
        """A ModelFileError with file, byte offset and the current context (layer, blob)."""
        hint = _looks_like(self._bytes(0, min(self.size, 512)))
        context = f" ({self.context})" if self.context else ""
        hint = hint and f"{hint}, not a binary {self.what}; "
        return ModelFileError(f"{self.path}: {hint}byte {offset}{context}: {reason}")

    def _bytes(self, start: int, end: int) -> bytes:
        """Bytes of the file; through the window when they fit in it."""
        if start < self._base or end > self._base + len(self._window):
            self._file.seek(start)
            self._window = self._file.read(max(_WINDOW, end - start))
            self._base = start
        got = self._window[start - self._base : end - self._base]
        if len(got) != end - start:
            raise ModelFileError(f"{self.path}: byte {start}: the file ends early (did it change while it was read?)")
        return got

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The varint at ``at``, and where it ends."""
        value = 0
        for index, byte in enumerate(self._bytes(at, min(at + 10, end))):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + index + 1
        raise self.error(at, "a number runs on for more than 10 bytes" if end - at >= 10 else "truncated in a number")

    def field(self, at: int, end: int) -> tuple[int, int, int, int]:
        """The field at ``at``: number, wire type, value or start of its body, and where it ends."""
        tag, body = self.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise self.error(at, f"field number {number} is not allowed")
        if wire == VARINT:
            value, after = self.varint(body, end)
            return number, wire, value, after
        if wire == BYTES:
            length, body = self.varint(body, end)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        elif wire == GROUP:
            return number, wire, body, self._skip_group(at, body, end, number)
        else:
            raise self.error(at, f"field {number} has wire type {wire}, which is not allowed here")
        if length > end - body:
            raise self.error(at, f"field {number} claims {length} bytes, but only {end - body} are left")
        return number, wire, body, body + length

    def _skip_group(self, start: int, at: int, end: int, number: int) -> int:
        open_groups = [number]
        while open_groups:
            if at >= end:
                raise self.error(start, f"group {number} does not end")
            tag, after = self.varint(at, end)
            if tag & 7 == GROUP:
                if len(open_groups) >= _MAX_GROUPS:
                    raise self.error(at, f"groups nested deeper than {_MAX_GROUPS}")
                open_groups.append(tag >> 3)
                at = after
            elif tag & 7 == END_GROUP:
                if open_groups.pop() != tag >> 3:
                    raise self.error(at, f"end of group {tag >> 3} does not match its start")
                at = after
            else:
                at = self.field(at, end)[3]
        return at

    def string(self, start: int, end: int) -> str:
        """A string field's body; bytes that are not UTF-8 are kept as ``\\xNN``."""
        if end - start > 1 << 16:
            raise self.error(start, f"a name of {end - start} bytes")
        return self._bytes(start, end).decode("utf-8", "backslashreplace")

    def content(self, start: int, end: int) -> bytes:
        """The body of a small message."""
        if end - start > 1 << 16:
            raise self.error(start, f"a message of {end - start} bytes, expected a small one")
        return self._bytes(start, end)

    def expect(self, at: int, number: int, wire: int, wanted: int) -> None:
        """Refuse a known field that has another wire type than it should."""
        if wire != wanted:
            raise self.error(at, f"field {number} has wire type {wire}, expected {wanted}")

    def run(self, at: int, end: int, tag: int, item: int) -> int:
        """How many records ``tag byte, item bytes`` stand in a row at ``at`` (unpacked repeated numbers)."""
        stride, total, limit = item + 1, 0, 64
        while records := min((end - at) // stride, limit):
            found = np.frombuffer(self._bytes(at, at + records * stride), np.uint8)[::stride]
            wrong = np.flatnonzero(found != tag)
            if wrong.size:
                return total + int(wrong[0])
            total += records
            at += records * stride
            limit = min(limit * 8, _CHUNK // stride)
        return total


def _looks_like(head: bytes) -> str:
    """What a file that is not a protobuf message seems to be."""
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "this is an HDF5 file"
    if head.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer"
    if head.startswith(b"\x93NUMPY"):
        return "this is a NumPy .npy file"
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in head) and any(mark in head for mark in b":{<#"):
        return "this looks like a text file (prototxt?)"
    return ""
