"""Memory that a worker process and its parent share, without a name: the system frees it when nobody maps it any more.

It is no file of ``/dev/shm``, whose size containers limit to 64 MB, and nothing is left behind whatever process dies.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe_compat.errors import CaffeCompatError

__all__ = ["Link", "Mapped", "Placed", "Slots", "can_share"]

_ALIGN = 64
_PAGE = mmap.PAGESIZE


def can_share() -> bool:
    """Whether this system has what workers need (Linux)."""
    return hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


class Link:
    """One end of a connection between two processes: messages, and open files."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._socket, self._messages = end, Connection(os.dup(end.fileno()))

    def send(self, message: object) -> None:
        """Send anything that can be pickled; one that cannot raises and sends nothing."""
        self._messages.send(message)

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError, OSError: the other end is closed.
        """
        return self._messages.recv()

    def wait(self, seconds: float) -> bool:
        """Whether a message, or the end, comes within that time."""
        return self._messages.poll(seconds)

    def send_file(self, number: int) -> None:
        """Send an open file."""
        socket.send_fds(self._socket, [b"f"], [number])

    def receive_file(self) -> int:
        """An open file.

        Raises:
            EOFError: the other end is closed.
        """
        data, found, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not data or not found:
            raise EOFError
        return found[0]

    def close(self) -> None:
        """Close this end."""
        self._messages.close()
        self._socket.close()


class Placed(NamedTuple):
    """Where an array lies in a slot."""

    start: int
    shape: tuple[int, ...]
    dtype: str


@dataclass
class _Slot:
    file: int
    size: int = 0
    used: int = 0
    map: mmap.mmap | None = None
    placed: dict[int, Placed] = field(default_factory=dict)  #: by address


class Slots:
    """The worker's side: slots of memory, each for the arrays of one batch, used again once the parent is done."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._free: list[int] = []
        self._current = -1
        self.grown = False

    def release(self, numbers: Sequence[int]) -> None:
        """Let slots be used again."""
        self._free += numbers

    @contextlib.contextmanager
    def batch(self) -> Iterator[int]:
        """Take a slot for the arrays that :meth:`new` makes within the block, which is given its number.

        If the block ends with an error the slot is free again.
        """
        if not self._free:
            self._slots.append(_Slot(os.memfd_create("caffe_compat")))
            self._free.append(len(self._slots) - 1)
        self._current, self.grown = self._free.pop(), False
        slot = self._slots[self._current]
        slot.used, slot.placed = 0, {}
        try:
            yield self._current
        except BaseException:
            self._free.append(self._current)
            raise

    def new(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> np.ndarray:
        """An array in the slot; its values are not set."""
        slot, kind = self._slots[self._current], np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        start = slot.used
        slot.used = start + -(-count * kind.itemsize // _ALIGN) * _ALIGN
        if slot.map is None or slot.used > slot.size:
            self._grow(slot)
        array = np.frombuffer(slot.map, kind, count, start).reshape(shape)  # type: ignore[arg-type]
        slot.placed[array.ctypes.data] = Placed(start, tuple(map(int, shape)), kind.str)
        return array

    def _grow(self, slot: _Slot) -> None:
        """More memory; arrays that were made before keep the old view of the same."""
        size = -(-max(slot.used, _ALIGN) // _PAGE) * _PAGE
        try:
            os.posix_fallocate(slot.file, 0, size)  # here, not where it is first written, is where there is none left
        except OSError as error:
            raise CaffeCompatError(f"no memory for a batch of {size} bytes: {error.strerror}") from error
        slot.map, slot.size, self.grown = mmap.mmap(slot.file, size), size, True

    def place(self, array: np.ndarray) -> Placed:
        """Where an array lies; one that :meth:`new` did not make is copied."""
        slot = self._slots[self._current]
        found = slot.placed.get(array.ctypes.data)
        if found is not None and found.shape == array.shape and found.dtype == array.dtype.str:
            return found
        copy = self.new(array.shape, array.dtype)
        copy[...] = array
        return slot.placed[copy.ctypes.data]

    def file(self) -> tuple[int, int]:
        """The current slot's open file and its size."""
        slot = self._slots[self._current]
        return slot.file, slot.size


class Mapped:
    """The parent's side of a worker's slots."""

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}
        self._released: list[int] = []

    def map(self, number: int, file: int, size: int) -> None:
        """Take a slot that is new or has grown; closes the file."""
        try:
            self._maps[number] = mmap.mmap(file, size)
        finally:
            os.close(file)

    def arrays(self, number: int, placed: Sequence[Placed]) -> tuple[np.ndarray, ...]:
        """The arrays in a slot, which belongs to them as long as one of them, or a tensor over one, is there."""
        whole = np.frombuffer(self._maps[number], np.uint8)
        weakref.finalize(whole, self._released.append, number).atexit = False
        found = []
        for start, shape, dtype in placed:
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            found.append(whole[start : start + size].view(dtype).reshape(shape))
        return tuple(found)

    def released(self) -> list[int]:
        """The slots whose arrays are gone since the last call."""
        found: list[int] = []
        while self._released:
            found.append(self._released.pop())
        return found
