"""What came of the rows: means, spreads, and the table of an experiment as text and as numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from typing import Any

from caffe_compat.documents import read_json
from caffe_compat.errors import DataError
from caffe_compat.experiments.declarations import Experiment, Setting
from caffe_compat.experiments.stages import Stage

__all__ = ["Found", "RowResult", "read_result", "render", "summary"]


@dataclass(frozen=True)
class Found:
    """What a test gave: mean average precision and those of the classes, in %; NaN where there is none."""

    mean: float
    classes: Mapping[str, float]


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


def read_result(stage: Stage, classes: Sequence[str] = ()) -> Found:
    """What a finished test stage found.

    Args:
        stage: of kind test.
        classes: the mean is over these; none: the evaluation's own.

    Raises:
        DataError: there is no evaluation, or it lacks a class.
    """
    files = glob(f"{stage.folder}/*/*/eval.json")
    if len(files) != 1:
        raise DataError(f"{stage.folder}: {len(files)} evaluations, expected one, */*/eval.json")
    document = read_json(files[0])
    every = {name: _percent(entry["ap"]) for name, entry in document["classes"].items()}
    lacking = [name for name in classes if name not in every]
    if lacking:
        raise DataError(f"{files[0]}: no class '{lacking[0]}', it has {', '.join(every)}")
    if not classes:
        return Found(_percent(document["mean"]), every)
    chosen = {name: every[name] for name in classes}
    return Found(statistics.fmean(chosen.values()), chosen)


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def summary(experiment: Experiment, setting: Setting, rows: Sequence[RowResult]) -> dict[str, Any]:
    """The table in JSON's terms."""
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "data": setting.title,
        "about": setting.about.strip(),
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
    head = ["row", "what it is", "paper, NYUD2", "ours, mean", "least to greatest", "deviation", "seeds", "seconds"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in ruled
    ]
    reasons = [f"{row.name}: {row.reason}" for row in rows if row.reason]
    title = f"{experiment.title}; ours on: {setting.title}"
    return "\n".join([title, "", *text, "", *reasons, *([""] if reasons else []), setting.about.strip()]) + "\n"


def _cells(row: RowResult) -> list[str]:
    values = row.values
    spread = f"{min(values):.1f} to {max(values):.1f}" if values else ""
    deviation = f"{_deviation(values):.1f}" if len(values) > 1 else ""
    mean = f"{_mean(values):.1f}" if values else "-"
    seconds = f"{row.seconds:.0f}" if values else ""
    paper = "" if row.paper is None else f"{row.paper:.1f}"
    return [row.name, row.what, paper, mean, spread, deviation, str(len(values)), seconds]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
