"""Worker processes that read batches, seen from the parent.

They are fresh Python processes of this package, not forks: torch's threads and CUDA do not survive a fork, and a script
without ``if __name__ == "__main__":`` is not run again.  They import what their readers need, which is no torch.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np

from caffe_compat.batches.reader import Reader
from caffe_compat.batches.slots import Link, Mapped, can_share
from caffe_compat.batches.worker import Answer, Request
from caffe_compat.devices import cores
from caffe_compat.errors import CaffeCompatError, UsageError

__all__ = ["WORKERS", "Client", "Crew", "WorkerEnded", "crew_of", "parse_workers", "usual_workers"]

WORKERS = "CAFFE_COMPAT_WORKERS"
"""Environment variable: worker processes that data layers read with, a number or ``auto``; 0 (default): threads."""
_SIDE_BY_SIDE = "LOCAL_WORLD_SIZE"
"""Environment variable of torchrun: processes of one training on this machine, which share its cores."""
_PROGRAM = "from caffe_compat.batches.worker import main; main({connection}, {parent})"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def parse_workers(text: str, who: str = "--workers") -> int:
    """The number of worker processes that a user asks for; ``auto`` leaves a core to each process that trains here.

    Raises:
        UsageError: it is no such number, or this system cannot do it.
    """
    if text == "auto":
        share = cores() // max(1, int(os.environ.get(_SIDE_BY_SIDE, "") or "1"))
        return max(1, share - 1) if can_share() else 0
    if not text.isascii() or not text.isdecimal() or len(text) > 4:
        raise UsageError(f"{who} is '{text}', expected 0 (threads of this process), a number of processes, or auto")
    if int(text) and not can_share():
        raise UsageError(f"{who} is {text}: only Linux has what worker processes need, expected 0")
    return int(text)


def usual_workers() -> int:
    """What the environment asks for.

    Raises:
        UsageError: it is no number.
    """
    return parse_workers(os.environ.get(WORKERS, "") or "0", WORKERS)


class WorkerEnded(CaffeCompatError):
    """A worker process that ended while it read.

    Args:
        how: its signal or status.
    """

    def __init__(self, how: str) -> None:
        super().__init__(f"a worker process ended ({how})")
        self.how = how


class _Worker:
    """One process, started when there is something to read."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._mapped = Mapped()
        self._known: set[int] = set()
        self.in_step = True  #: whether nothing that was asked is still to be answered

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return None if self._process is None else self._process.pid

    def _start(self) -> Link:
        ours, theirs = socket.socketpair()
        program = _PROGRAM.format(connection=theirs.fileno(), parent=os.getpid())
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": paths},
                start_new_session=True,  # Ctrl-C is the parent's affair
            )
        self._link = Link(ours)
        return self._link

    def read(self, client: Client, job: Any, forgotten: set[int]) -> tuple[np.ndarray, ...]:
        """What :meth:`Crew.read` does."""
        link = self._link or self._start()
        reader = None if client.number in self._known else client.reader
        gone = list(self._known & forgotten)
        request = Request(client.number, reader, job, _folder(), self._mapped.released(), gone)
        try:
            link.send(request)
            self.in_step = False
            self._known = (self._known | {client.number}) - set(gone)
            answer = link.receive()
            if isinstance(answer, Answer) and answer.size:
                self._mapped.map(answer.slot, link.receive_file(), answer.size)
            self.in_step = True
        except (EOFError, ConnectionError) as error:
            self.in_step = False
            raise WorkerEnded(self._how()) from error
        if isinstance(answer, Answer):
            return self._mapped.arrays(answer.slot, answer.placed)
        raise answer

    def _how(self) -> str:
        if self._process is None:
            return "it never started"
        status = self._process.wait()
        if status >= 0:
            return f"status {status}"
        name = signal.Signals(-status).name
        return f"signal {name}{', for want of memory?' if name == 'SIGKILL' else ''}"

    def end(self) -> None:
        """End it now: it has nothing to lose."""
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _folder() -> str:
    """The working directory; empty if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _end(workers: list[_Worker], owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the parent
        for worker in workers:
            worker.end()


class Crew:
    """Worker processes.  They end with the crew, with its process however that ends, or by :meth:`close`.

    Args:
        count: how many; each starts when it is needed.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers = [_Worker() for _ in range(count)]
        self._idle: queue.LifoQueue[int] = queue.LifoQueue()
        for number in reversed(range(count)):
            self._idle.put(number)
        self._forgotten: set[int] = set()
        self._numbers = itertools.count()
        self._finalizer = weakref.finalize(self, _end, self._workers, os.getpid())

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def client(self, reader: Reader[Any]) -> Client:
        """Have the workers read with a reader, as long as what is returned is there."""
        client = Client(self, next(self._numbers), reader.one_of(self.count))
        weakref.finalize(client, self._forgotten.add, client.number).atexit = False
        return client

    def read(self, client: Client, job: Any) -> tuple[np.ndarray, ...]:
        """What the reader makes of a job, in memory that is shared with the worker; waits until one is free.

        Raises:
            WorkerEnded: its process ended.
            Exception: what the reader raises.
        """
        number = self._idle.get()
        try:
            return self._workers[number].read(client, job, self._forgotten)
        finally:
            if not self._workers[number].in_step:
                self._workers[number].end()
                self._workers[number] = _Worker()
            self._idle.put(number)

    def close(self) -> None:
        """End the processes."""
        self._finalizer()


class Client:
    """A reader in the hands of a crew.

    Attributes:
        number: by which its workers know it.
        reader: as they have it.
    """

    def __init__(self, crew: Crew, number: int, reader: Reader[Any]) -> None:
        self.crew, self.number, self.reader = crew, number, reader

    def read(self, job: Any) -> tuple[np.ndarray, ...]:
        """As :meth:`Crew.read`."""
        return self.crew.read(self, job)


# the layers of a process share its workers, as long as one of them is there
_crews: weakref.WeakValueDictionary[tuple[int, int], Crew] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def crew_of(count: int) -> Crew:
    """The crew of ``count`` processes that data layers of this process share."""
    with _lock:
        crew = _crews.get((os.getpid(), count))
        if crew is None:
            crew = _crews[os.getpid(), count] = Crew(count)
        return crew
