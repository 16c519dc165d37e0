"""Pictures that stay in memory once they are decoded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from caffe_compat.memory import available_memory

__all__ = ["Kept"]

SHARE = 4
"""At most one such part of the memory that is free at first is used."""


class Kept:
    """Keeps arrays until a quarter of the memory that was free is used; those that come later are made every time.

    Nothing is thrown out for them: where all of a list is read epoch after epoch, whatever goes is missed as much as
    what comes instead.  Several threads may ask at once.

    Args:
        limit: bytes; None: a quarter of what is free when the first comes.
        parts: how many processes share that quarter.
    """

    def __init__(self, limit: int | None = None, parts: int = 1) -> None:
        self._limit, self._parts = limit, parts
        self._arrays: dict[Hashable, tuple[np.ndarray, ...]] = {}
        self._used = 0

    def get(self, key: Hashable, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """The arrays of ``key``, made if they are not here; nobody may write into them."""
        found = self._arrays.get(key)
        if found is not None:
            return found
        if self._limit is None:
            self._limit = available_memory() // (SHARE * self._parts)
        made = make()
        for array in made:
            array.setflags(write=False)
        size = sum(array.nbytes for array in made)
        if self._used + size <= self._limit and self._arrays.setdefault(key, made) is made:
            self._used += size
        return made

    def one_of(self, count: int) -> Kept:
        """An empty one that keeps no more than its part if ``count`` processes have one each."""
        return Kept(None if self._limit is None else self._limit // count, count)

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self._limit, self._parts)  # another process has memory of its own
