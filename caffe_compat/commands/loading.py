"""What training waits for: how many worker processes read the data, and how long the solver waited for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from caffe_compat import log
from caffe_compat.batches.crew import parse_workers
from caffe_compat.devices import cores
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.net import Net
from caffe_compat.solver.solver import Solver

__all__ = ["Waiting", "data_layers", "set_workers"]

MUCH = 10
"""Per cent of the time that may go into waiting before something is said about it."""


def data_layers(nets: Iterable[Net]) -> Iterator[DataLayer]:
    """The layers of nets that read data."""
    for net in nets:
        for node in net.nodes:
            if isinstance(node.layer, DataLayer):
                yield node.layer


def set_workers(nets: Iterable[Net], workers: str | None) -> None:
    """Have the data layers of nets read in worker processes.

    Args:
        workers: what stands behind ``--workers``; None: what ``CAFFE_COMPAT_WORKERS`` says.

    Raises:
        UsageError: it is no number.
    """
    if not workers:
        return
    count = parse_workers(workers)
    for layer in data_layers(nets):
        layer.workers = count
        if count and not layer.workers:
            log.info(f"layer '{layer.name}' ({layer.params.type}) is read in this process", "data_layer.cpp:1")


class Waiting:
    """Has a solver say at every display how much of the time since the last it waited for data.

    The first time that it is more than :data:`MUCH` per cent, over what is not the start, it says what to do.
    """

    def __init__(self, solver: Solver) -> None:
        self._layers = list(data_layers([solver.net, *solver.test_nets]))
        self._then, self._clock, self._displays, self._told = self._waited(), time.perf_counter(), 0, False
        self._before = solver.on_display
        if self._layers:
            solver.on_display = self.display

    def _waited(self) -> list[float]:
        return [layer.waited for layer in self._layers]

    def display(self, rate: float) -> None:
        """Called at a displayed iteration."""
        self._before(rate)
        now, clock = self._waited(), time.perf_counter()
        waited = [new - old for new, old in zip(now, self._then, strict=True)]
        seconds, self._then, self._clock = clock - self._clock, now, clock
        part = 100 * sum(waited) / seconds if seconds > 0 else 0.0
        log.info(f"    Waited {part:.1f} % of the time for data", "train.py:0")
        self._displays += 1
        if part > MUCH and self._displays > 1 and not self._told:
            self._told = True
            slowest = max(range(len(waited)), key=waited.__getitem__)
            log.warning(f"{part:.0f} % of the time goes into waiting for {advice(self._layers[slowest])}", "train.py:0")


def advice(layer: DataLayer) -> str:
    """A layer that is waited for, and what helps."""
    name = f"layer '{layer.name}' ({layer.params.type})"
    if not layer.can_use_workers:
        return f"{name}, which is read in this process only"
    if layer.workers < cores() - 1:
        return f"{name}, read in {_readers(layer.workers)}: try --workers {cores() - 1}, or more"
    return f"{name}, read in {_readers(layer.workers)}, as many as this machine has cores for: smaller files would help"


def _readers(workers: int) -> str:
    return f"{workers} worker process{'es' if workers > 1 else ''}" if workers else "threads of this process"
