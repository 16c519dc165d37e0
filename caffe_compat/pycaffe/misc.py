"""What remains of Caffe's Python module: seeds, logs, timers, and what it says about several solvers."""

from __future__ import annotations

import logging
import time

import torch

from caffe_compat import log as glog
from caffe_compat.errors import UsageError
from caffe_compat.layers import registered
from caffe_compat.random import seed_thread
from caffe_compat.ranks import here

__all__ = [
    "NCCL",
    "Timer",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]

_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def layer_type_list() -> list[str]:
    """All layer types, sorted."""
    return list(registered())


def set_random_seed(seed: int) -> None:
    """Make fillers, dropout and data layers of this thread repeatable (other numbers than Caffe's)."""
    seed_thread(int(seed))


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Show the log on standard error: from level 0 (information), 1 (warnings), 2 (errors) or 3 on.

    Raises:
        UsageError: another level, or a log that is not to be shown (Caffe would write it to a file).
    """
    if level not in range(len(_LEVELS)):
        raise UsageError(f"init_log({level}): expected a level from 0 to {len(_LEVELS) - 1}")
    if not stderr:
        raise UsageError("init_log(stderr=False): log files are not written; give the logger 'caffe_compat' a handler")
    glog.to_stderr(_LEVELS[level])


def log(message: str) -> None:
    """Write a line to the log."""
    glog.info(str(message), "_caffe.cpp:60")


class Timer:
    """A stop watch; on a GPU it waits for what was started there."""

    def __init__(self) -> None:
        self._start = self._seconds = 0.0

    def start(self) -> None:
        """Start from zero."""
        self._start = self._now()

    def stop(self) -> None:
        """Stop."""
        self._seconds = self._now() - self._start

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop."""
        return self._seconds * 1e3

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()


# -- several solvers: one process has one here -------------------------------------------------------------------


def has_nccl() -> bool:
    """Whether several solvers can be coupled through NCCL: no."""
    return False


class NCCL:
    """Not available: a solver here uses one device."""

    def __init__(self, *args: object) -> None:
        raise UsageError("caffe.NCCL is not available (has_nccl() is False): a solver uses one device")

    @staticmethod
    def new_uid() -> bytes:
        """Not available either."""
        raise UsageError("caffe.NCCL is not available (has_nccl() is False): a solver uses one device")


def solver_count() -> int:
    """Number of processes that torchrun has started with this one, which train_net.py trains together; else 1."""
    return here().world


def solver_rank() -> int:
    """Which of them this is, counted from 0."""
    return here().rank


def _only(name: str, given: int, possible: int) -> None:
    if given != possible:
        raise UsageError(f"{name}({given}): only {possible} is possible, a solver uses one device")


def set_solver_count(count: int) -> None:
    """Accepts :func:`solver_count` only."""
    _only("set_solver_count", count, solver_count())


def set_solver_rank(rank: int) -> None:
    """Accepts :func:`solver_rank` only."""
    _only("set_solver_rank", rank, solver_rank())


def set_multiprocess(multiprocess: bool) -> None:
    """Accepts False only."""
    _only("set_multiprocess", multiprocess, False)
