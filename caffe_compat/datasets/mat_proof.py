"""Proof that a .mat file of version 5 keeps to its own format, before SciPy sees it.

SciPy's compiled reader takes type numbers for true: it looks one that does not exist up beside its table, and the
process ends (``read_char``, ``read_numeric`` of ``_mio5_utils.pyx``).  It also follows any nesting on the machine's
stack.  So everything it would look at is walked through here first, in Python, without keeping it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Container
from typing import IO

__all__ = ["prove_v5"]

DEEPEST = 32
"""Levels of cells and structs that a file may nest."""
_HEADER = 128
_BLOCK = 1 << 16
_MATRIX, _COMPRESSED = 14, 15
_INT32, _UINT32 = 5, 6
_NAMES = (1, 16)
"""Types that names may be stored as: bytes, and UTF-8 from some programs."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Bytes of a number, by its type in the file."""
_TEXTS = (1, 2, 4, 16, 17, 18)
"""Types that text may be stored as: bytes, 16-bit codes, UTF-8, 16, 32."""
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_NUMBERS = range(6, 16)
_MOST_DIMENSIONS = 32
_MOST_BLANKS = 1 << 16
"""Length of a text that the file says has no bytes (such files exist)."""


def prove_v5(stream: IO[bytes], names: Container[str] | None) -> list[str]:
    """Walk through the variables of a file.

    Args:
        stream: the file, open at its beginning, known to be of version 5.
        names: variables that will be read; None: all.  Of others only the head is looked at.

    Returns:
        The names of all variables, in the file's order.

    Raises:
        ValueError, EOFError, zlib.error: the file does not keep to the format; says where.
    """
    order = "<" if stream.read(_HEADER)[126:128] == b"IM" else ">"
    found = []
    while tag := stream.read(8):
        if len(tag) < 8:
            raise EOFError(f"{len(tag)} bytes after the last variable")
        kind, size = struct.unpack(f"{order}II", tag)
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"a variable of type {kind}, expected {_MATRIX} or {_COMPRESSED}")
        begin = stream.tell()
        walk = _Walk(_Inflated(stream, size) if kind == _COMPRESSED else stream, order, size)
        if kind == _COMPRESSED:
            walk.left = 8
            inner, walk.left = walk.numbers("II")
            if inner != _MATRIX:
                raise ValueError(f"a compressed variable of type {inner}, expected {_MATRIX}")
        name, shape, flags = walk.head()
        try:
            if names is None or name in names:
                walk.body(shape, flags, 0)
        except (ValueError, EOFError) as error:
            raise type(error)(f"variable '{name}': {error}") from error
        found.append(name)
        stream.seek(begin + size)
    return found


class _Inflated:
    """The bytes of a zlib stream of ``size`` bytes, without keeping more of them than asked for."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left, self._zip = stream, size, zlib.decompressobj()
        self._ready, self._at = b"", 0

    def read(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        while len(self._ready) - self._at < count and not self._zip.eof:
            packed = self._zip.unconsumed_tail
            if not packed:
                packed = self._stream.read(min(_BLOCK, self._left))
                self._left -= len(packed)
            if not packed:
                break
            self._ready, self._at = self._ready[self._at :] + self._zip.decompress(packed, _BLOCK), 0
        taken = self._ready[self._at : self._at + count]
        self._at += len(taken)
        return taken


class _Walk:
    """Goes through one variable."""

    def __init__(self, stream: IO[bytes] | _Inflated, order: str, left: int) -> None:
        self._stream, self._order, self.left = stream, order, left

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > self.left:
            raise ValueError(f"an element of {count} bytes where its variable has {self.left} left")
        self.left -= count
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError(f"the file ends {count - len(data)} bytes early")
        return data

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        while count > 0:
            count -= len(self.take(min(count, _BLOCK)))

    def numbers(self, form: str) -> tuple[int, ...]:
        """The next bytes as numbers."""
        form = self._order + form
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def head(self) -> tuple[str, tuple[int, ...], int]:
        """Name, shape and flags (class in the lowest byte) of a matrix."""
        kind, size, flags, _ = self.numbers("IIII")
        if (kind, size) != (_UINT32, 8):
            raise ValueError(f"flags of type {kind} with {size} bytes, expected {_UINT32} and 8")
        if flags & 255 == _OPAQUE:
            return "", (), flags
        shape = self.integers(_MOST_DIMENSIONS)
        if len(shape) < 2 or any(size < 0 for size in shape):  # of text without dimensions SciPy dies
            raise ValueError(f"a matrix of shape {shape}")
        name = self.short(1 << 16)
        return name.decode("latin-1") or "__function_workspace__", shape, flags

    def body(self, shape: tuple[int, ...], flags: int, depth: int) -> None:
        """Pass over what a matrix holds, checking it."""
        kind, count = flags & 255, math.prod(shape)
        if kind in _NUMBERS:
            for _ in range(1 + (flags >> 11 & 1)):
                self.data(count)
        elif kind == _CHAR:
            self.text(count)
        elif kind == _CELL:
            self.matrices(count, depth)
        elif kind in (_STRUCT, _OBJECT):
            if kind == _OBJECT:
                self.short(1 << 16)
            (longest,) = self.integers(1)
            fields = self.short(1 << 24)
            if longest < 0 or (fields and (longest == 0 or len(fields) % longest)):
                raise ValueError(f"{len(fields)} bytes of field names of {longest} bytes each")
            self.matrices(count * (len(fields) // longest if longest else 0), depth)
        elif kind == _SPARSE:
            for _ in range(3 + (flags >> 11 & 1)):
                self.data(None)
        elif kind == _FUNCTION:
            self.matrices(1, depth)
        elif kind == _OPAQUE:
            for _ in range(3):
                self.short(1 << 16)
            self.matrices(1, depth)
        else:
            raise ValueError(f"a matrix of class {kind}, which does not exist")

    def matrices(self, count: int, depth: int) -> None:
        """Pass over cells or fields."""
        if depth >= DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        if count * 8 > self.left:
            raise ValueError(f"{count} cells or fields in {self.left} bytes")
        for _ in range(count):
            kind, size = self.numbers("II")
            if kind != _MATRIX:
                raise ValueError(f"a cell or field of type {kind}, expected {_MATRIX}")
            if size:
                _, shape, flags = self.head()
                self.body(shape, flags, depth + 1)

    def data(self, count: int | None) -> None:
        """Pass over numbers."""
        kind, size, inline = self.tag()
        if kind not in _SIZES:
            raise ValueError(f"numbers of type {kind}, which does not exist")
        if count is not None and size // _SIZES[kind] != count:
            raise ValueError(f"{size // _SIZES[kind]} numbers for a matrix of {count}")
        self.pass_over(size, inline)

    def text(self, count: int) -> None:
        """Pass over text."""
        kind, size, inline = self.tag()
        if size == 0:
            if count > _MOST_BLANKS:
                raise ValueError(f"no bytes for a text of {count}")
        elif kind not in _TEXTS:
            raise ValueError(f"text of type {kind}, which is none")
        elif count > size:
            raise ValueError(f"{size} bytes for a text of {count}")
        self.pass_over(size, inline)

    def integers(self, most: int) -> tuple[int, ...]:
        """A small element of 32-bit integers."""
        kind, size, inline = self.tag()
        if kind not in (_INT32, _UINT32) or size % 4 or size > 4 * most:
            raise ValueError(f"{size} bytes of type {kind}, expected up to {most} integers")
        data = self.take(4 if inline else -(-size // 8) * 8)
        return struct.unpack(f"{self._order}{size // 4}i", data[:size])

    def short(self, longest: int) -> bytes:
        """An element that holds names."""
        kind, size, inline = self.tag()
        if (kind not in _NAMES and size) or size > longest:
            raise ValueError(f"a name of {size} bytes of type {kind}, expected up to {longest} of type {_NAMES[0]}")
        return self.take(4 if inline else -(-size // 8) * 8)[:size]

    def tag(self) -> tuple[int, int, bool]:
        """Type, bytes, and whether they stand in the tag's own second half."""
        (first,) = self.numbers("I")
        if first >> 16:
            if first >> 16 > 4:
                raise ValueError(f"a small element of {first >> 16} bytes, which holds 4 at most")
            return first & 0xFFFF, first >> 16, True
        return first, self.numbers("I")[0], False

    def pass_over(self, size: int, inline: bool) -> None:
        """Pass over an element's bytes and their padding."""
        self.skip(4 if inline else -(-size // 8) * 8)
