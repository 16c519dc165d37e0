"""Reading batches ahead of their use."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from caffe_compat.devices import cores

__all__ = ["Prefetcher", "cores", "usual_depth"]

T = TypeVar("T")


def usual_depth() -> int:
    """Batches to read ahead where nobody says: one a core, 4 to 16.  A GPU wants one every few milliseconds."""
    return max(4, min(16, cores()))


class Prefetcher(Generic[T]):
    """Calls ``read(n)`` for the batches that come next while the last one is in use.

    Because batch ``n`` depends on nothing but ``n``, threads may read several at once and in any order; the caller gets
    them in the order it asks for.  What ``read`` raises is raised by :meth:`take` of that batch.  The threads end when
    the prefetcher is closed, garbage collected, or the program ends.

    Args:
        read: makes batch ``n``; called from several threads.  A method of the owner of the prefetcher, which does not
            keep the owner alive.

    Attributes:
        depth: how many batches to read ahead; 0 reads each when it is asked for.
        threads: at most so many do it; counts when they start, with the first :meth:`take` or that after a
            :meth:`close`.
        waited: seconds that callers of :meth:`take` have waited.
    """

    def __init__(self, read: Callable[[int], T]) -> None:
        self._method = weakref.WeakMethod(read)
        self.depth, self.threads = 0, 1
        self._pending: dict[int, Future[T]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._finalizer: weakref.finalize[..., Prefetcher[T]] | None = None
        self.waited = 0.0

    def take(self, number: int) -> T:
        """Batch ``number``, waiting for it if need be, while the following ones are being read."""
        start = time.perf_counter()
        try:
            return self._take(number)
        finally:
            self.waited += time.perf_counter() - start

    def _take(self, number: int) -> T:
        read = self._method()
        assert read is not None  # the owner is calling
        if self.depth == 0:
            return read(number)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(1, min(self.depth, self.threads)), thread_name_prefix="caffe_compat")
            self._finalizer = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        wanted = range(number, number + self.depth + 1)
        for other in [key for key in self._pending if key not in wanted]:
            self._pending.pop(other).cancel()
        for ahead in wanted:
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(read, ahead)
        return self._pending.pop(number).result()

    def close(self) -> None:
        """Forget what was read ahead and end the threads; a later :meth:`take` starts them again."""
        for future in self._pending.values():
            future.cancel()
        self._pending.clear()
        if self._pool is not None and self._finalizer is not None:
            self._finalizer.detach()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
