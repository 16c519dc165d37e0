"""Starting several processes of one command on this machine, as torchrun does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from caffe_compat.ranks import LOCAL_RANK, RANK, WORLD_SIZE

__all__ = ["launch"]

GRACE = 60.0
"""Seconds that the others have to end by themselves after one has ended with an error."""

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")


def launch(words: Sequence[str], count: int) -> int:
    """Run a program ``count`` times, each with the variables of :mod:`caffe_compat.ranks`, and wait for all.

    Signals that this process gets are passed on.  The place where the processes meet is in this one, so that those that
    live find out who died, whoever that was.  After one has ended with an error the others have a minute to end; then
    they are killed.

    Args:
        words: program and arguments.

    Returns:
        0 if all ended with 0; else the status of the first that did not, 128 + the number of the signal that killed it.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch: the place is not in rank 0
        WORLD_SIZE: str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    # as torchrun does: processes that share cores are not each as many threads wide as there are cores
    meeting["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"
    processes = []
    for rank in range(count):
        own = {**os.environ, **meeting, RANK: str(rank), LOCAL_RANK: str(rank)}
        processes.append(subprocess.Popen(list(words), env=own, start_new_session=True))
    try:
        with _passing_on(processes):
            return _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass signals on to the processes during the block."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have ended."""
    failed, since = 0, 0.0
    while None in [process.poll() for process in processes]:  # every one is asked: that is how its status becomes known
        if not failed:
            failed, since = _failure(processes), time.monotonic()
        elif time.monotonic() - since > GRACE:
            return failed
        time.sleep(0.05)
    return failed or _failure(processes)


def _failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The status of the first process that ended with another than 0."""
    for process in processes:
        if process.returncode:
            return process.returncode if process.returncode > 0 else 128 - process.returncode
    return 0
