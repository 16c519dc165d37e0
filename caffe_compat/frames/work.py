"""Many jobs over processes: one bad one ends nothing, Ctrl-C ends all without harm."""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

from caffe_compat.errors import CaffeCompatError

__all__ = ["map_jobs"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int = 0,
    lost: Callable[[Job], Result] | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Do jobs, each once, and give their results as they come.

    Args:
        work: does one job; with workers it, the jobs and the results are pickled.
        jobs: taken as they are needed.
        workers: processes to use, each with one thread; 0 works in this process.
        lost: gives the result of a job whose process died (killed for memory, crashed); the others go on.  None: that
            ends everything.

    Yields:
        Job and result; with workers in no order.

    Raises:
        KeyboardInterrupt: Ctrl-C; the jobs in work are finished (but not given), the others dropped.
        CaffeCompatError: processes die that cannot be told from their jobs.
        Exception: what ``work`` raises.
    """
    if workers < 1:
        return ((job, work(job)) for job in jobs)
    return _in_workers(work, jobs, workers, lost)


def _in_workers(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int, lost: Callable[[Job], Result] | None
) -> Iterator[tuple[Job, Result]]:
    coming = iter(jobs)
    while True:
        suspects: list[Job] = []
        yield from _until_one_dies(work, coming, workers, suspects)
        if not suspects:
            return
        if lost is None:
            raise CaffeCompatError("a worker process died (out of memory?); fewer --workers may help")
        yield from _one_by_one(work, suspects, lost)


def _until_one_dies(
    work: Callable[[Job], Result], coming: Iterator[Job], workers: int, suspects: list[Job]
) -> Iterator[tuple[Job, Result]]:
    """Do the coming jobs; if a process dies, what was given to them and has no result goes into ``suspects``."""
    waiting: dict[Future[Result], Job] = {}
    with _pool(workers) as pool:
        try:
            _submit(pool, work, itertools.islice(coming, 4 * workers), waiting, suspects)
            while waiting and not suspects:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    job = waiting[future]
                    result = future.result()
                    del waiting[future]
                    yield job, result
                _submit(pool, work, itertools.islice(coming, len(done)), waiting, suspects)
        except BrokenProcessPool:
            pass
        if waiting:
            wait(waiting)
        for future, job in waiting.items():
            if isinstance(future.exception(), BrokenProcessPool):
                suspects.append(job)
            else:
                yield job, future.result()


def _submit(
    pool: ProcessPoolExecutor,
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    waiting: dict[Future[Result], Job],
    suspects: list[Job],
) -> None:
    with _no_interrupt():  # a process that starts now inherits it: from its first moment Ctrl-C is the parent's affair
        for job in jobs:
            try:
                waiting[pool.submit(work, job)] = job
            except BrokenProcessPool:
                suspects.append(job)


def _one_by_one(
    work: Callable[[Job], Result], suspects: Sequence[Job], lost: Callable[[Job], Result]
) -> Iterator[tuple[Job, Result]]:
    """One job at a time, so that a process that dies tells by which."""
    left = collections.deque(suspects)
    while left:
        with _pool(1) as pool:
            try:
                with _no_interrupt():
                    started = pool.submit(os.getpid)
                started.result()
            except BrokenProcessPool as error:
                raise CaffeCompatError(
                    "worker processes die as they start; work without --workers (a script that uses them needs "
                    "'if __name__ == \"__main__\":')"
                ) from error
            with contextlib.suppress(BrokenProcessPool):
                while left:
                    result = pool.submit(work, left[0]).result()
                    yield left.popleft(), result
            if left:
                job = left.popleft()
                yield job, lost(job)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Torch is not safe to fork once it has run.
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # it would let Ctrl-C through where a worker is being started
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        yield pool
    finally:
        with _no_interrupt():  # a second Ctrl-C would leave workers behind; they only finish the job they are at
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Put Ctrl-C off for a moment: it comes afterwards, and processes that start meanwhile never see it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    blocks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()  # is inherited
    try:
        yield
    finally:
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, share the cores, and do not outlive a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_one_thread()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _use_one_thread() -> None:
    """Each worker has a core: threads inside one cost more than they bring."""
    for library in ("OMP", "MKL"):  # torch's, which only some work imports: a second or two
        os.environ[f"{library}_NUM_THREADS"] = "1"
    import cv2  # here: the parent need not

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
