"""Snapshots of detectors: ``.caffemodel`` with deltas that are not normalised, and what goes on needs of the rest.

Nets learn normalised targets.  As in the ``distillation`` branch (``fast_rcnn/train.py``), the weights of the layers
named in TRAIN.BBOX_PRED_PARAM_NAMES are written as they give deltas directly: W std, b std + mean.  That cannot be
undone bit by bit, so these layers as they were trained stand beside it, in ``NAME_iter_N.regression.npz``:

=====================  ===========================================================================
array                  holds
=====================  ===========================================================================
means, stds            float64 [C, 4], of dx, dy, dw, dh for each label; label 0 is the background
counts                 int64 [C], examples of each label
raw/LAYER/0, /1        float32, the weights and biases that normalised targets were learned with
settings               JSON text, the options on which the minibatches depend, with the seeds
=====================  ===========================================================================
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.detection.targets import TargetStatistics
from caffe_compat.errors import SolverError, UsageError, one_line
from caffe_compat.files import ZIP_ERRORS, atomic_write, open_existing
from caffe_compat.net import Net
from caffe_compat.solver import Solver
from caffe_compat.stamps import parse_stamp, stamp_text

__all__ = [
    "Regression",
    "RegressionSnapshots",
    "check_regression",
    "check_settings",
    "read_regression",
    "regression_path",
    "unnormalised",
    "write_regression",
]

Blobs = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Regression:
    """The content of such a file.

    Args:
        statistics: of the targets.
        raw: weights and biases by layer, as trained.
        settings: as JSON holds them.
    """

    statistics: TargetStatistics
    raw: Mapping[str, Blobs]
    settings: Mapping[str, Any]


def regression_path(path: str | os.PathLike[str]) -> str:
    """The file that belongs to a snapshot.

    Args:
        path: of its state or weights, or what both begin with.
    """
    base = os.fspath(path).removesuffix(".h5")
    return base.removesuffix(".solverstate").removesuffix(".caffemodel") + ".regression.npz"


def write_regression(path: str | os.PathLike[str], content: Regression) -> None:
    """Write such a file, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    arrays = {
        "means": content.statistics.means,
        "stds": content.statistics.stds,
        "counts": content.statistics.counts,
        "settings": np.array(stamp_text(content.settings)),
    }
    for layer, blobs in content.raw.items():
        arrays |= {f"raw/{layer}/{index}": blob for index, blob in enumerate(blobs)}
    with atomic_write(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_regression(path: str | os.PathLike[str]) -> Regression:
    """Read such a file; nothing in it is executed.

    Raises:
        MissingFileError: no such file.
        SolverError: not such a file.
    """
    where = os.fspath(path)
    with open_existing(path, "of a detector's snapshot; the state alone does not hold what was trained") as stream:
        try:
            with np.load(stream, allow_pickle=False) as stored:
                held = {name: np.asarray(stored[name]) for name in stored.files}
        except (*ZIP_ERRORS, MemoryError, TypeError, SyntaxError, ArithmeticError) as error:
            raise SolverError(f"{where}: is no .npz file of plain arrays: {one_line(error)}") from error
    shape = held["means"].shape if "means" in held else ()
    for name, wanted in (("means", shape), ("stds", shape), ("counts", shape[:1]), ("settings", ())):
        if name not in held or held[name].shape != wanted or (name == "means" and shape[1:] != (4,)):
            raise SolverError(f"{where}: has no array {name} as beside a detector's snapshot")
    raw: dict[str, Blobs] = {}
    for name in sorted(name for name in held if name.startswith("raw/")):  # weights before biases
        layer = name.removeprefix("raw/").rpartition("/")[0]
        raw[layer] = (*raw.get(layer, ()), held[name])
    statistics = TargetStatistics(held["means"], held["stds"], held["counts"])
    return Regression(statistics, raw, parse_stamp(str(held["settings"]), f"{where}: settings"))


def check_regression(path: str) -> None:
    """Read what stands beside a state, given its path.

    Raises:
        MissingFileError, SolverError: it is missing or damaged.
    """
    read_regression(regression_path(path))


def unnormalised(blobs: Sequence[np.ndarray], statistics: TargetStatistics) -> Blobs:
    """Weights [4 C, ...] and biases [4 C] that give deltas directly, float32."""
    weights, biases = blobs
    means, stds = statistics.means.ravel(), statistics.stds.ravel()
    scaled = weights * stds.reshape(-1, *[1] * (weights.ndim - 1))
    return scaled.astype(np.float32), (biases * stds + means).astype(np.float32)


class RegressionSnapshots:
    """Has a solver write, and go on from, snapshots of a detector.

    Args:
        layers: names of the layers that are written for targets that are not normalised.
        statistics: of the targets.
        settings: on which the minibatches depend; a snapshot with others is refused.
    """

    def __init__(
        self, solver: Solver, layers: Sequence[str], statistics: TargetStatistics, settings: Mapping[str, Any]
    ) -> None:
        self.net, self.layers, self.statistics, self.settings = solver.net, tuple(layers), statistics, settings
        solver.around_snapshot, solver.on_restore = self.around, self.restore

    @contextlib.contextmanager
    def around(self, stem: str) -> Iterator[None]:
        """Within the block the net gives deltas that are not normalised; ``stem.regression.npz`` is written first."""
        raw = {name: _blobs(self.net, name) for name in self.layers}
        write_regression(regression_path(stem), Regression(self.statistics, raw, self.settings))
        try:
            for name, blobs in raw.items():
                _put(self.net, name, unnormalised(blobs, self.statistics))
            yield
        finally:
            for name, blobs in raw.items():
                _put(self.net, name, blobs)

    def restore(self, path: str) -> None:
        """After the weights of a snapshot are in the net: put those layers back as they were trained.

        Raises:
            MissingFileError, SolverError: their file is missing, or belongs to another snapshot, net or data set.
            UsageError: minibatches would be others than before.
        """
        file = regression_path(path)
        found = read_regression(file)
        check_settings(found.settings, self.settings, file)
        own = (self.statistics.means, self.statistics.stds)
        theirs = (found.statistics.means, found.statistics.stds)
        if any(a.shape != b.shape or (a != b).any() for a, b in zip(own, theirs, strict=True)):
            raise SolverError(f"{file}: its regression targets have other means or deviations: the images have changed")
        if set(found.raw) != set(self.layers):
            names = ", ".join(sorted(found.raw)) or "none"
            raise SolverError(f"{file}: holds the layers {names}, the net has {', '.join(self.layers) or 'none'}")
        for name, blobs in found.raw.items():
            now = _blobs(self.net, name)
            if [blob.shape for blob in blobs] != [blob.shape for blob in now]:
                raise SolverError(f"{file}: layer '{name}' has blobs of other shapes than in this net")
            if any((a != b).any() for a, b in zip(unnormalised(blobs, found.statistics), now, strict=True)):
                raise SolverError(f"{file}: layer '{name}' is not that of the weights beside it: of two snapshots")
            _put(self.net, name, blobs)
        log.info(f"Restoring normalised {', '.join(self.layers)} from {file}", "train.py:0")


def check_settings(theirs: Mapping[str, Any], own: Mapping[str, Any], file: str) -> None:
    """Refuse to go on from a snapshot whose minibatches depend on other settings; ``file`` holds its.

    Raises:
        UsageError: one differs.
    """
    for key in sorted({*theirs, *own}):
        if theirs.get(key) != own.get(key):
            raise UsageError(
                f"{file}: was made with {key} {theirs.get(key)}, here it is {own.get(key)}; go on with the same, or "
                "start anew with --weights"
            )


def _blobs(net: Net, name: str) -> Blobs:
    return tuple(blob.detach().cpu().numpy().copy() for blob in net.layer(name).blobs)


def _put(net: Net, name: str, blobs: Blobs) -> None:
    with torch.no_grad():
        for blob, values in zip(net.layer(name).blobs, blobs, strict=True):
            blob.copy_(torch.from_numpy(values))
