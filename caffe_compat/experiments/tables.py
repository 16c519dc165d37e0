"""What came of the rows: means, spreads, and the table of an experiment as text and as numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from caffe_compat.documents import read_json
from caffe_compat.errors import DataError
from caffe_compat.experiments.declarations import Experiment, Setting
from caffe_compat.experiments.stages import Stage, in_order
from caffe_compat.solver.metrics import read_metrics

__all__ = ["Found", "RowResult", "read_result", "render", "schedules", "summary"]

VARIANCE = "explained_variance_"


@dataclass(frozen=True)
class Found:
    """What a test gave.

    Args:
        mean: average precision in %, over classes; NaN: there is none.
        classes: that of each class.
        variance: explained variance of the teacher's feature on validation pairs at the end of the transfer, by
            feature.
        folders: of all stages that it took.
    """

    mean: float
    classes: Mapping[str, float]
    variance: Mapping[str, float] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowResult:
    """A row: what was found for each seed, how long it took, and why it could not be made."""

    name: str
    what: str
    paper: float | None
    found: Mapping[int, Found] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    @property
    def values(self) -> list[float]:
        """The means of the seeds."""
        return [found.mean for found in self.found.values()]


def read_result(stage: Stage, classes: Sequence[str] = (), overlap: float = 0.0) -> Found:
    """What a finished test stage found.

    Args:
        stage: of kind test.
        classes: the mean is over these; none: the evaluation's own.
        overlap: of masks, at which an object is found; 0: boxes were tested.

    Raises:
        DataError: there is no evaluation, or it lacks a class or an overlap.
    """
    name = "segm_eval.json" if overlap else "eval.json"
    files = glob(f"{stage.folder}/*/*/{name}")
    if len(files) != 1:
        raise DataError(f"{stage.folder}: {len(files)} evaluations, expected one, */*/{name}")
    document = read_json(files[0])
    if overlap:
        every_overlap = {entry["threshold"]: entry for entry in document["thresholds"]}
        if overlap not in every_overlap:
            raise DataError(f"{files[0]}: no overlap {overlap:g}, it has {', '.join(map(str, every_overlap))}")
        document = every_overlap[overlap]
    every = {name: _percent(entry["ap"]) for name, entry in document["classes"].items()}
    lacking = [name for name in classes if name not in every]
    if lacking:
        raise DataError(f"{files[0]}: no class '{lacking[0]}', it has {', '.join(every)}")
    chosen = {name: every[name] for name in classes} or every
    mean = statistics.fmean(chosen.values()) if classes else _percent(document["mean"])
    stages = in_order([stage])
    return Found(mean, chosen, _variance(stages), tuple(one.folder for one in stages))


def _variance(stages: Sequence[Stage]) -> dict[str, float]:
    """The last test of the last transfer."""
    found: dict[str, float] = {}
    for stage in stages:
        path = Path(stage.folder) / "transfer_metrics.jsonl"
        if stage.kind == "transfer" and path.exists():
            tests = [record["scores"] for record in read_metrics(path) if record["phase"] == "test"]
            scores = tests[-1] if tests else {}
            found = {
                name.removeprefix(VARIANCE): float(value)
                for name, value in scores.items()
                if name.startswith(VARIANCE) and value is not None
            }
    return found


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def summary(experiment: Experiment, setting: Setting, rows: Sequence[RowResult]) -> dict[str, Any]:
    """The table in JSON's terms."""
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "data": setting.title,
        "paper_data": experiment.data,
        "about": setting.about.strip(),
        "schedules": {name: dict(vars(timing)) for name, timing in setting.schedules.items()},
        "rows": [
            {
                "row": row.name,
                "what": row.what,
                "paper": row.paper,
                "mean": _number(_mean(row.values)),
                "least": _number(min(row.values, default=math.nan)),
                "greatest": _number(max(row.values, default=math.nan)),
                "deviation": _number(_deviation(row.values)),
                "seeds": {
                    str(seed): {
                        "mean": _number(found.mean),
                        "classes": {name: _number(value) for name, value in found.classes.items()},
                        "explained_variance": {name: round(value, 4) for name, value in found.variance.items()},
                        "stages": list(found.folders),
                    }
                    for seed, found in row.found.items()
                },
                "seconds": round(row.seconds, 1),
                "reason": row.reason,
            }
            for row in rows
        ],
    }


def render(experiment: Experiment, setting: Setting, rows: Sequence[RowResult]) -> str:
    """The table as Markdown, columns aligned."""
    head = ["row", "what it is", f"paper, {experiment.data}", "ours, mean", "least to greatest", "deviation", "seeds"]
    head += ["explained variance", "seconds"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in ruled
    ]
    reasons = [f"{row.name}: {row.reason}" for row in rows if row.reason]
    title = f"{experiment.title}; ours on: {setting.title}"
    below = [setting.about.strip(), schedules(setting)]
    return "\n".join([title, "", *text, "", *reasons, *([""] if reasons else []), *below]) + "\n"


def schedules(setting: Setting) -> str:
    """One line on how long everything is trained."""
    entries = [f"{name} {timing.iters} at {timing.base_lr:g}" for name, timing in setting.schedules.items()]
    return f"Iterations at the first learning rate: {', '.join(entries)} (transfers: at most)."


def _cells(row: RowResult) -> list[str]:
    values = row.values
    spread = f"{min(values):.1f} to {max(values):.1f}" if values else ""
    deviation = f"{_deviation(values):.1f}" if len(values) > 1 else ""
    mean = f"{_mean(values):.1f}" if values else "-"
    seconds = f"{row.seconds:.0f}" if values else ""
    paper = "" if row.paper is None else f"{row.paper:.1f}"
    every = [found.variance for found in row.found.values() if found.variance]
    names = every[0] if every else ()
    variance = ", ".join(f"{statistics.fmean(found[name] for found in every):.2f}" for name in names)
    return [row.name, row.what, paper, mean, spread, deviation, str(len(values)), variance, seconds]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
