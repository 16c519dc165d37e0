"""Trainings that are done or under way, read back from their files: for reports, and for comparing runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.files import open_existing
from caffe_compat.media import read_pair_list
from caffe_compat.proto import format_text, read_net, read_solver
from caffe_compat.solver.metrics import metrics_path, read_metrics
from caffe_compat.transfer.measured import read_measured

__all__ = ["PairList", "Run", "named_apart", "read_run"]

ENDING = metrics_path("").name


@dataclass(frozen=True)
class PairList:
    """A list of pairs that a net reads: its phase, path, and how many pairs it has (None: it is not there now)."""

    phase: str
    path: str
    pairs: int | None


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        prefix: of its snapshots.
        starts, train, tests: the lines of its metrics; tests are those of the first test net.
        solver: the ``SolverParameter``, or None where the file is gone.
        solver_path: as the run was given it; may be empty.
        commands: at the head of the solver: what wrote it, and what was to be run then.
        measured: what was measured for its nets; empty if nothing was.
        lists: the lists of pairs that it reads.
        setting: a digest of all that decides what a run does but for its seed, its place and what was measured.
        label: a name that tells it from others; empty: that of its folder.
    """

    prefix: str
    starts: tuple[dict[str, Any], ...]
    train: tuple[dict[str, Any], ...]
    tests: tuple[dict[str, Any], ...]
    solver: Any
    solver_path: str
    commands: tuple[str, ...]
    measured: dict[str, Any]
    lists: tuple[PairList, ...]
    setting: str
    label: str = ""

    @property
    def folder(self) -> Path:
        """Where its snapshots are."""
        return Path(self.prefix).parent

    @property
    def name(self) -> str:
        """A short one: its folder's, or its label."""
        return self.label or self.folder.resolve().name

    @property
    def seed(self) -> int | None:
        """The ``random_seed``, None where there was none."""
        seed = self.starts[-1].get("random_seed") if self.starts else None
        return seed if isinstance(seed, int) and seed >= 0 else None

    @property
    def iterations(self) -> int:
        """How far it is known to have come."""
        return max(int(record["iteration"]) for record in (*self.starts, *self.train, *self.tests))

    @property
    def seconds(self) -> float:
        """Time of training, tests included, over all times that it was started."""
        return max((record.get("seconds") or 0.0 for record in (*self.train, *self.tests)), default=0.0)


def read_run(path: str | os.PathLike[str]) -> Run:
    """A training, given its folder or its file of metrics.

    Raises:
        MissingFileError: there are no metrics, or several.
        DataError: they cannot be used.
        CaffeCompatError: the solver or the net is damaged.
    """
    metrics = _metrics_file(Path(path))
    records = read_metrics(metrics)
    phases = {phase: tuple(record for record in records if record["phase"] == phase) for phase in ("start", "train")}
    tests = tuple(record for record in records if record["phase"] == "test" and record.get("net", 0) == 0)
    if not (phases["train"] or tests):
        raise DataError(f"{metrics}: holds no iteration and no test yet")
    starts = phases["start"]
    solver_path = str(starts[-1].get("solver", "")) if starts else ""
    if not solver_path or not os.path.exists(solver_path):
        beside = metrics.parent / "solver.prototxt"
        solver_path = str(beside) if beside.exists() else ""
    solver = read_solver(solver_path) if solver_path else None
    net = read_net(solver.net) if solver is not None and solver.net and os.path.exists(solver.net) else None
    measured = read_measured(Path(solver_path).parent) if solver_path else {}
    return Run(
        prefix=str(metrics)[: -len(ENDING)],
        starts=starts,
        train=phases["train"],
        tests=tests,
        solver=solver,
        solver_path=solver_path,
        commands=tuple(_remarks(solver_path)) if solver_path else (),
        measured=measured,
        lists=tuple(_lists(net)) if net is not None else (),
        setting=_setting(solver, net, measured, starts[:1]),
    )


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """The same runs; those whose folders are called alike get labels: what their paths do not have in common."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    paths = [Path(run.prefix).resolve().parts for run in runs]
    common = len(os.path.commonprefix(paths))
    ends = [path[common:] for path in paths]
    while all(len(end) > 1 and end[-1] == ends[0][-1] for end in ends):
        ends = [end[:-1] for end in ends]
    return [replace(run, label="/".join(end)) for run, end in zip(runs, ends, strict=True)]


def _metrics_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{ENDING}"))
    if len(found) != 1:
        names = f"{', '.join(file.name for file in found)}; name one of these files" if found else "none"
        raise MissingFileError(path, f"expected one file *{ENDING}, which train_net writes, found {names}")
    return found[0]


def _remarks(path: str) -> Iterable[str]:
    """The commands in the remarks at the head of a solver that make_transfer wrote."""
    with open_existing(path) as stream:
        for line in stream.read().decode("utf-8", "replace").splitlines():
            if not line.startswith("#"):
                return
            if line.startswith("#   "):
                yield line[4:]


def _lists(net: Any) -> Iterable[PairList]:
    for layer in net.layer:
        if layer.HasField("paired_image_data_param"):
            for phase, rows in _pairs(layer):
                param = layer.paired_image_data_param
                yield PairList(phase, param.source, None if rows is None else len(rows))


def _pairs(layer: Any) -> Iterable[tuple[str, Sequence[tuple[str, str]] | None]]:
    """Phase and pairs of a data layer."""
    param = layer.paired_image_data_param
    rules = [rule for rule in layer.include if rule.HasField("phase")]
    phases = ["TRAIN" if rule.phase == 0 else "TEST" for rule in rules] or ["both"]
    rows = None
    if os.path.exists(param.source):
        pairs = read_pair_list(param.source, param.root_folder)
        rows = [(os.path.abspath(pair.first), os.path.abspath(pair.second)) for pair in pairs]
    return [(phase, rows) for phase in phases]


def _setting(solver: Any, net: Any, measured: dict[str, Any], starts: Sequence[dict[str, Any]]) -> str:
    """See :attr:`Run.setting`; a run whose solver is gone is like no other."""
    if solver is None:
        return ""
    digest = hashlib.sha256()
    own = type(solver)()
    own.CopyFrom(solver)
    for field in ("net", "random_seed", "snapshot_prefix", "display", *(("base_lr",) if measured.get("rates") else ())):
        own.ClearField(field)
    digest.update(format_text(own).encode())
    digest.update(json.dumps([start.get("weights") for start in starts]).encode())
    digest.update("".join(start.get("amp", "") for start in starts).encode())
    if net is not None:
        digest.update(_net_setting(net, bool(measured)).encode())
    return digest.hexdigest()


def _net_setting(net: Any, measured: bool) -> str:
    """The text of a net without its name; lists stand for what they hold, and what was measured is left out."""
    own = type(net)()
    own.CopyFrom(net)
    own.ClearField("name")
    for layer in own.layer:
        if layer.HasField("paired_image_data_param"):
            rows = [rows for _, rows in _pairs(layer)]
            layer.paired_image_data_param.source = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
            layer.paired_image_data_param.ClearField("root_folder")
        if measured:
            layer.ClearField("loss_weight")
            layer.power_param.ClearField("scale")
            layer.threshold_param.ClearField("threshold")
            for filler in ("weight_filler", "bias_filler"):
                layer.convolution_param.ClearField(filler)
                layer.inner_product_param.ClearField(filler)
    return format_text(own)
