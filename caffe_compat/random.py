"""Where fillers, dropout and the seeds of data layers come from.

As in Caffe, threads do not share a stream of random numbers.  A solver has one of its own while it builds and trains
its nets.  Outside of a solver it is torch's default generator (``torch.manual_seed``), or in a thread that was given a
seed (:func:`seed_thread`) the thread's own.

A :class:`Stream` makes seeds, not numbers: each draw has a fresh generator.  So what is drawn does not depend on the
device of earlier draws, and a draw can be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import torch

__all__ = ["Draw", "Stream", "generator", "initial_seed", "next_seed", "repeating", "seed_thread"]


class Stream:
    """Seeds that are a function of the stream's own seed, the chapter, and how many were made in the chapter.

    Args:
        seed: of all of them; by default drawn from the stream that is in use now.

    Attributes:
        initial_seed: what data layers make their seeds of.  Without ``seed`` that of the stream in use: it does not
            depend on what else was drawn from it.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.initial_seed = initial_seed() if seed is None else seed
        self._seed = next_seed() if seed is None else seed
        self._chapter: object = None
        self._drawn = 0

    def turn_to(self, chapter: object) -> None:
        """Begin a chapter, e.g. an iteration: what is drawn in it does not depend on other chapters."""
        self._chapter, self._drawn = chapter, 0

    def next_seed(self) -> int:
        """A fresh seed, 0 to 2^63 - 1."""
        self._drawn += 1
        text = f"{self._seed}/{self._chapter}/{self._drawn}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1

    @contextlib.contextmanager
    def use(self) -> Iterator[Stream]:
        """Let everything in this thread draw from this stream within the block."""
        token = _stream.set(self)
        try:
            yield self
        finally:
            _stream.reset(token)


_stream: ContextVar[Stream | None] = ContextVar("stream", default=None)
_repeating: ContextVar[bool] = ContextVar("repeating", default=False)


def seed_thread(seed: int) -> None:
    """Seed what this thread draws from outside of solvers: in the main thread torch's default generator."""
    if threading.current_thread() is threading.main_thread():
        torch.manual_seed(seed)
    else:
        _stream.set(Stream(seed))


def initial_seed() -> int:
    """The seed of the stream in use, or that of torch's default generator."""
    stream = _stream.get()
    return torch.initial_seed() if stream is None else stream.initial_seed


def next_seed() -> int:
    """A fresh seed from the stream in use, or from torch's default generator."""
    stream = _stream.get()
    return int(torch.randint(2**63 - 1, ())) if stream is None else stream.next_seed()


def generator(device: torch.device) -> torch.Generator | None:
    """What ``torch.Tensor.normal_`` and its kin take as ``generator``; None is torch's default one."""
    return None if _stream.get() is None else _generator(next_seed(), device)


@contextlib.contextmanager
def repeating() -> Iterator[None]:
    """Within the block every :class:`Draw` of this thread draws again what it drew last."""
    token = _repeating.set(True)
    try:
        yield
    finally:
        _repeating.reset(token)


class Draw:
    """The random numbers of one layer: new ones at every pass, the last ones where a pass is computed again."""

    def __init__(self) -> None:
        self._seed: int | None = None

    def generator(self, device: torch.device) -> torch.Generator | None:
        """The generator for the numbers of a pass; a compiled net draws from torch's default one."""
        if torch.compiler.is_compiling():
            return None
        if self._seed is None or not _repeating.get():
            self._seed = next_seed()
        return _generator(self._seed, device)


def _generator(seed: int, device: torch.device) -> torch.Generator | None:
    return None if device.type == "meta" else torch.Generator(device).manual_seed(seed)
