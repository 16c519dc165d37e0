"""Pickles that hold plain data and NumPy arrays, read without executing anything.

Python's own reader calls whatever a file names.  Here the codes of the file are gone through one by one
(``pickletools`` only tells them apart), and what stands for an array is understood as one; a file that names anything
else is refused.  Python 2 and 3, every protocol.
"""

from __future__ import annotations

import os
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from caffe_compat.errors import DataError, in_file, one_line
from caffe_compat.files import open_existing

__all__ = ["is_pickle", "read_pickle"]

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_KINDS = "biufSU"
"""Of the numbers and texts that arrays may hold; objects are read as lists are."""
_BROKEN = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError)
"""What damaged files raise on their way."""


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so may be a pickle: of protocol 2 and later, or a dictionary or list of protocol 0."""
    return head[:1] == b"\x80" or head[:3] in (b"(dp", b"(lp") or head[:1] in (b"}", b"]")


def read_pickle(path: str | os.PathLike[str], why: str = "") -> Any:
    """What a pickle holds: None, numbers, texts, bytes, lists, tuples, dictionaries and arrays.

    Texts of Python 2 are taken for Latin-1, as NumPy's own are.

    Args:
        path: the file.
        why: what it is wanted for, named where it is missing.

    Raises:
        MissingFileError: no such file.
        DataError: no pickle, or one of other things; names them.
    """
    with open_existing(path, why) as stream, in_file(path):
        return _Reader().read(stream)


class _Mark:
    """Where a list that is being made begins."""


class _Named:
    """Something of a module, by its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Type:
    """A type of numbers, of which the order of bytes follows."""

    def __init__(self, text: str) -> None:
        self.text, self.order = text, "="

    def set(self, state: Any) -> None:
        self.order = state[1]
        if state[3] is not None or state[4] is not None:
            raise DataError("holds records, expected arrays of numbers")

    def type(self) -> np.dtype[Any]:
        found = np.dtype(self.text)
        return found.newbyteorder(">") if self.order == ">" else found if self.order != "<" else found.newbyteorder("<")


class _Array:
    """An array, whose shape and numbers follow."""

    value: np.ndarray

    def set(self, state: Any) -> None:
        _, shape, kind, transposed, data = state
        self.value = _array(data, kind.type(), shape, "F" if transposed else "C")


def _array(data: Any, kind: np.dtype[Any], shape: tuple[int, ...], order: Any) -> np.ndarray:
    if kind.kind == "O":
        found = np.empty(len(data), object)
        found[:] = [_plain(item, {}) for item in data]
        return found.reshape(shape, order=order)
    if kind.kind not in _KINDS:
        raise DataError(f"holds an array of {kind}, expected numbers")
    raw = data.encode("latin-1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, kind).reshape(shape, order=order).copy()


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """What the reader's own marks stand for; what is there twice stays one."""
    if id(value) in seen:
        return seen[id(value)]
    found = value
    if isinstance(value, _Array):
        found = value.value
    elif isinstance(value, list):
        found = [_plain(item, seen) for item in value]
    elif isinstance(value, tuple):
        found = tuple(_plain(item, seen) for item in value)
    elif isinstance(value, dict):
        found = {_plain(key, seen): _plain(item, seen) for key, item in value.items()}
    elif isinstance(value, _Named | _Type | _Mark):
        raise DataError("holds a function or a type, expected numbers, lists and arrays")
    seen[id(value)] = found
    return found


class _Reader:
    """A stack of what was read so far."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, stream: IO[bytes]) -> Any:
        """All of a file."""
        try:
            for code, argument, _ in pickletools.genops(stream):
                self._take(code.name, argument)
            (whole,) = self.stack
            return _plain(whole, {})
        except _BROKEN as error:
            raise DataError(f"is no whole pickle: {one_line(error)}") from error

    def _take(self, code: str, argument: Any) -> None:
        if code in _IGNORED:
            return
        if code in _VALUES:
            self.stack.append(_VALUES[code])
        elif code in _LITERALS:
            self.stack.append(argument)
        elif code in _EMPTY:
            self.stack.append(_EMPTY[code]())
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            self._name(argument)
        elif code in _METHODS:
            _METHODS[code](self)
        else:
            raise DataError(f"holds objects ({code}), expected numbers, lists and arrays")

    def _name(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        if (module, name) not in _KNOWN:
            raise DataError(f"holds {module}.{name}, expected numbers, lists and NumPy's arrays; nothing was executed")
        self.stack.append(_Named(module, name))

    def marked(self) -> list[Any]:
        """What stands above the last mark, which goes."""
        at = max(place for place, item in enumerate(self.stack) if isinstance(item, _Mark))
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def append(self, found: list[Any]) -> None:
        self.stack[-1].extend(found)

    def update(self, found: list[Any]) -> None:
        self.stack[-1].update(zip(found[::2], found[1::2], strict=True))

    def last(self, count: int) -> list[Any]:
        """The last items, which go."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def dictionary(self) -> None:
        found = self.marked()
        self.stack.append({})
        self.update(found)

    def reduce(self) -> None:
        """Calls of what arrays are made by."""
        arguments, named = self.stack.pop(), self.stack.pop()
        self.stack.append(_CALLS[named.name](*arguments))

    def build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].set(state)


def _scalar(kind: _Type, data: Any) -> Any:
    return _array(data, kind.type(), (), "C")[()]


def _encoded(text: str, _: str = "latin-1") -> bytes:
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """So protocols before 3 say that there are none."""
    return b""


def _from_buffer(data: Any, kind: _Type, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    return _array(data, kind.type(), shape, order)


_KNOWN = {(module, name) for module in _ARRAYS for name in ("_reconstruct", "scalar")}
_KNOWN |= {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
_KNOWN |= {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
_KNOWN |= {("__builtin__", "bytes"), ("builtins", "bytes")}
_CALLS: Mapping[str, Callable[..., Any]] = {
    "_reconstruct": lambda *arguments: _Array(),
    "dtype": lambda text, *flags: _Type(text),
    "scalar": _scalar,
    "encode": _encoded,
    "bytes": _no_bytes,
    "_frombuffer": _from_buffer,
}
_IGNORED = ("PROTO", "FRAME", "STOP")
_VALUES: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING"}
_LITERALS |= {"BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_LITERALS |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_METHODS: Mapping[str, Callable[[_Reader], Any]] = {
    "TUPLE1": lambda reader: reader.stack.append(tuple(reader.last(1))),
    "TUPLE2": lambda reader: reader.stack.append(tuple(reader.last(2))),
    "TUPLE3": lambda reader: reader.stack.append(tuple(reader.last(3))),
    "TUPLE": lambda reader: reader.stack.append(tuple(reader.marked())),
    "LIST": lambda reader: reader.stack.append(reader.marked()),
    "DICT": _Reader.dictionary,
    "APPEND": lambda reader: reader.append(reader.last(1)),
    "APPENDS": lambda reader: reader.append(reader.marked()),
    "SETITEM": lambda reader: reader.update(reader.last(2)),
    "SETITEMS": lambda reader: reader.update(reader.marked()),
    "POP": lambda reader: reader.stack.pop(),
    "POP_MARK": _Reader.marked,
    "DUP": lambda reader: reader.stack.append(reader.stack[-1]),
    "REDUCE": _Reader.reduce,
    "BUILD": _Reader.build,
}
