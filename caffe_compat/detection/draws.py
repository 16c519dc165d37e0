"""Batches drawn one after another from a seed, so that batch ``n`` is a function of the seed and ``n``."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

import numpy as np

__all__ = ["Draws"]

T = TypeVar("T")
_KEPT = 2048
"""Batches that stay known after they were drawn: threads that read ahead ask for them out of order, where processes
take turns one in so many."""


class Draws(Generic[T]):
    """What draws batches with numpy's legacy generator; a subclass implements :meth:`_draw`.

    Args:
        seed: of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        """Be as before the first draw."""
        self._random = np.random.RandomState(self._seed)
        self._drawn: dict[int, T] = {}
        self._next = 0

    def _draw(self) -> T:
        """The next batch."""
        raise NotImplementedError

    def batch(self, number: int) -> T:
        """Batch ``number``, counted from 0; may be asked for in any order, by several threads."""
        with self._lock:
            if number not in self._drawn:
                if number < self._next:
                    self._begin()
                while self._next <= number:
                    self._drawn[self._next] = self._draw()
                    self._drawn.pop(self._next - _KEPT, None)
                    self._next += 1
            return self._drawn[number]
