"""Events for TensorBoard, where it is installed: what :mod:`caffe_compat.solver.metrics` records, as curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.errors import WriteError

__all__ = ["Events", "events_path", "scalars"]


class Events:
    """The events of one training; nothing is written where TensorBoard is not installed.

    Args:
        folder: for its files, which TensorBoard names and writes itself.
        start: iteration that the run starts at; TensorBoard drops what an earlier run wrote from there on.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.folder, self._start = folder, start
        self._writer: Any = None
        self.installed = find_spec("tensorboard") is not None

    def append(self, record: Mapping[str, Any]) -> None:
        """Write what a record of the metrics holds.

        Raises:
            WriteError: it cannot be written.
        """
        if not self.installed:
            return
        try:
            if self._writer is None:
                kind = import_module("torch.utils.tensorboard").SummaryWriter
                self._writer = kind(str(self.folder), purge_step=self._start or None)
            for name, value in scalars(record):
                self._writer.add_scalar(name, value, int(record["iteration"]))
            self._writer.flush()
        except OSError as error:
            raise WriteError(self.folder, error.strerror or str(error)) from error


def events_path(prefix: str) -> Path:
    """The folder where a training with this ``snapshot_prefix`` writes its events."""
    return Path(f"{prefix}_tensorboard")


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of a record: ``train/loss``, ``train/lr``, ``test/accuracy``; further test nets by number.

    What is called as the loss of the net itself, smoothed as in the log, is left out, and so are outputs of several
    numbers.
    """
    phase = str(record["phase"])
    where = phase if not record.get("net") else f"{phase}_{record['net']}"
    held = {"loss": record.get("loss"), "lr": record.get("lr")}
    for name, value in {**(record.get("scores") or {}), **(record.get("outputs") or {}), **held}.items():
        if value is not None and np.size(value) == 1 and math.isfinite(number := float(np.asarray(value).item())):
            yield f"{where}/{name}", number
