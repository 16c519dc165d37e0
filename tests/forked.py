"""Commands as several processes: copies of this one, which import nothing anew, each with torchrun's variables."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch
from program import Done, call

__all__ = ["ranked", "together"]


def ranked(world: int, name: str, *words: object, folder: Path) -> list[Done]:
    """Run a command as so many processes, and wait for all; the first is rank 0."""
    return together([lambda: call(name, *words)] * world, folder)


def together(works: list[Callable[[], Done]], folder: Path) -> list[Done]:
    """Run functions at the same time, function K as rank K of all."""
    notes = [folder / f"rank{rank}.txt" for rank in range(len(works))]
    with _one_thread():
        children = [_fork(rank, works, note) for rank, note in enumerate(notes)]
    done = []
    for child, note in zip(children, notes, strict=True):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out, _, err = note.read_text().partition("\0") if note.exists() else ("", "", "")
        note.unlink(missing_ok=True)
        done.append(Done(status, out, err))
    return done


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Copies have none of this process's threads, so that libraries must not count on any of them."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _fork(rank: int, works: list[Callable[[], Done]], note: Path) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        signal.alarm(120)  # whatever happens, it does not stay
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(len(works)), "LOCAL_RANK": str(rank)}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                done = works[rank]()
            except BaseException:
                done = Done(status, "", traceback.format_exc())
        note.write_text(f"{out.getvalue()}{done.stdout}\0{err.getvalue()}{done.stderr}")
        status = done.status
    finally:
        os._exit(status)
