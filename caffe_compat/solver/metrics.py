"""What a training said of itself, for programs: ``PREFIX_metrics.jsonl``, one JSON object a line, beside the snapshots.

``{"phase": "start", "iteration": 0, ...}`` stands where a run began or went on: the solver file and what it ran on.
``{"phase": "train", "iteration": 20, "loss": .., "lr": .., "outputs": {..}, "seconds": ..}`` is a displayed iteration,
``{"phase": "test", "iteration": 50, "net": 0, "loss": .., "scores": {..}, "seconds": ..}`` a test.  Losses of training
are smoothed as in the log; a number that is not finite is null; outputs of more than :data:`MOST` numbers are left out;
seconds count from the start, over all runs.

Where TensorBoard is installed, the same goes into events for it, in ``PREFIX_tensorboard``, unless that is not wanted.

A run that goes on from iteration N drops the lines from N on, which it writes again, and what a killed run left of a
last line.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat.documents import parse_json
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.files import append_part, open_existing, write_file
from caffe_compat.solver.scores import Scores, outputs
from caffe_compat.solver.solver import Solver
from caffe_compat.solver.tensorboard import Events, events_path

__all__ = ["Metrics", "metrics_path", "read_metrics", "record_metrics"]

MOST = 100
"""Numbers of an output that are kept."""
PHASES = ("start", "train", "test")
NUMBERS, COUNTS = ("seconds", "loss", "lr"), ("random_seed", "max_iter", "threads", "net")
WORDS, TABLES = ("solver", "device", "torch", "amp"), ("scores", "outputs")
LAST, LARGEST = 1 << 53, 1e300


class Metrics:
    """The file of one training.

    Args:
        path: of the file.
        start: iteration that the run starts at; lines from there on are dropped at the first that is written.
    """

    def __init__(self, path: str | os.PathLike[str], start: int) -> None:
        self.path = Path(path)
        kept = [] if start == 0 or not self.path.exists() else list(_kept(self.path, start))
        self._size = sum(len(line) for line, _ in kept)
        self._before = max((record.get("seconds") or 0.0 for _, record in kept), default=0.0)
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time of training until now, over all runs; what was lost with dropped lines does not count."""
        return self._before + time.perf_counter() - self._clock

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a line.

        Raises:
            WriteError: it cannot be written.
        """
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        if self._size:
            with append_part(self.path, self._size) as stream:
                stream.write(line)
        else:
            write_file(self.path, line)
        self._size += len(line)


def metrics_path(prefix: str) -> Path:
    """Where a training with this ``snapshot_prefix`` writes its metrics."""
    return Path(f"{prefix}_metrics.jsonl")


def record_metrics(solver: Solver, about: Mapping[str, Any], tensorboard: bool = True) -> Metrics | None:
    """Have a solver, which stands where its run starts, write what it displays and tests.

    Args:
        about: goes into the line that says where a run began.
        tensorboard: whether events for TensorBoard are written, where it is installed.

    Returns:
        None if the solver writes no snapshots, and so has no place of its own: then nothing is recorded.
    """
    param = solver.param
    if not param.snapshot_prefix or not (param.snapshot or param.snapshot_after_train):
        return None
    metrics = Metrics(metrics_path(param.snapshot_prefix), solver.iter)
    events = Events(events_path(param.snapshot_prefix), solver.iter) if tensorboard else None
    first = [{"phase": "start", "iteration": solver.iter, **_machine(solver), **about}]

    def append(record: Mapping[str, Any]) -> None:
        while first:  # once the solver has begun: it holds the lock on its prefix
            metrics.append(first.pop())
        metrics.append({**record, "seconds": round(metrics.seconds, 3)})
        if events is not None:
            events.append(record)

    def display(rate: float) -> None:
        engine = solver.engine
        named = {engine.names[blob]: values for blob, values in outputs(engine).items()}
        record = {"phase": "train", "iteration": solver.iter, "loss": solver.shown_loss, "lr": rate}
        append({**record, "outputs": _small(named)})

    def test(index: int, scores: Scores) -> None:
        record = {"phase": "test", "iteration": solver.iter, "net": index, "loss": scores.loss()}
        append({**record, "scores": _small(scores.named())})

    solver.on_display, solver.on_test = display, test
    return metrics


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of such a file, in order; null stands for a number that was not finite.

    Raises:
        MissingFileError: there is none.
        DataError: a line that is not one of its.
    """
    return [record for _, record in _lines(path, _refuse)]


def _refuse(path: str | os.PathLike[str], number: int) -> None:
    raise DataError(
        f"{os.fspath(path)}: line {number}: expected an object with phase, iteration and what train_net writes there"
    )


def _kept(path: Path, start: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines before the first of an iteration from ``start`` on, or that is damaged."""
    for line, record in _lines(path, lambda path, number: None):
        if record["iteration"] >= start:
            return
        yield line, record


def _lines(
    path: str | os.PathLike[str], damaged: Callable[[str | os.PathLike[str], int], None]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Whole lines and what they hold, up to the first that is damaged, of which the function is told."""
    with open_existing(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):  # a run that was killed, or that is writing
                return
            record = _parsed(line)
            if record is None:
                damaged(path, number)
                return
            yield line, record


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if that is not a line of such a file."""
    try:
        record = parse_json(line, "")
    except CaffeCompatError:
        return None
    if not isinstance(record, dict) or record.get("phase") not in PHASES:
        return None
    iteration = record.get("iteration")
    if not isinstance(iteration, int) or not _is_count(iteration) or iteration < 0:
        return None
    fits = (
        all(_is_number(record.get(name)) for name in NUMBERS),
        all(record.get(name) is None or _is_count(record[name]) for name in COUNTS),
        all(isinstance(record.get(name, ""), str) for name in WORDS),
        all(_is_table(record.get(name, {})) for name in TABLES),
    )
    return record if all(fits) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LAST


def _is_number(value: Any) -> bool:
    """Whether it is null or a number that a float holds."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(inner) or isinstance(inner, list) for inner in value.values())


def _machine(solver: Solver) -> dict[str, Any]:
    device = solver.device
    return {
        "random_seed": solver.param.random_seed,
        "max_iter": solver.param.max_iter,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": solver.group.ranks.world,
        "torch": torch.__version__,
    }


def _small(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if np.size(value) <= MOST}


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
