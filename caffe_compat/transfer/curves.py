"""Curves of trainings: one run's, and mean and spread of runs that differ only by their seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caffe_compat.transfer.runs import Run

__all__ = ["Curve", "Group", "Point", "curve", "group_runs", "names_of_scores", "rising"]

Curve = Mapping[int, float]
"""Values by iteration, in order of these."""
RISE = 0.02
"""A curve whose last fifth adds at least this part of its whole range is not at its end."""


@dataclass(frozen=True)
class Point:
    """Values of several runs at one iteration.

    Attributes:
        std: of a sample (n - 1); None for one run.
    """

    iteration: int
    mean: float
    std: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The run's, or the first of several and how many there are."""
        return self.runs[0].name if len(self.runs) == 1 else f"{self.runs[0].name} and {len(self.runs) - 1} more"

    def points(self, name: str) -> list[Point]:
        """Mean and spread of a score at all iterations that all of the runs have."""
        curves = [curve(run, name) for run in self.runs]
        common = set(curves[0]).intersection(*curves[1:])
        return [_point(iteration, [one[iteration] for one in curves]) for iteration in sorted(common)]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs of one setting together, in the order of the first of each."""
    groups: dict[object, list[Run]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(run.setting or number, []).append(run)
    return [Group(tuple(group)) for group in groups.values()]


def curve(run: Run, name: str) -> Curve:
    """A curve of a run: a score of its tests by its name, ``loss`` or ``lr`` of training, or ``test loss``.

    Numbers that were not finite are left out.
    """
    found: dict[int, float] = {}
    if name in ("loss", "lr"):
        pairs = [(record["iteration"], record.get(name)) for record in run.train]
    elif name == "test loss":
        pairs = [(record["iteration"], record.get("loss")) for record in run.tests]
    else:
        pairs = [(record["iteration"], _scores(record).get(name)) for record in run.tests]
    for iteration, value in pairs:
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[iteration] = float(value)
    return found


def names_of_scores(runs: Sequence[Run], start: str = "") -> list[str]:
    """Names of the scores of one number that the tests of all these runs have, in the order of the first."""
    lists = []
    for run in runs:
        records = [_scores(record) for record in run.tests]
        lists.append([name for name in (records[0] if records else {}) if not isinstance(records[0][name], list)])
    return [name for name in lists[0] if name.startswith(start) and all(name in other for other in lists[1:])]


def rising(points: Sequence[Point]) -> bool:
    """Whether the last value is the highest, and the last fifth of the iterations added :data:`RISE` of the range."""
    if len(points) < 3:
        return False
    means = [point.mean for point in points]
    span, end = max(means) - min(means), points[-1].iteration
    before = [point.mean for point in points if point.iteration <= 0.8 * end]
    return bool(before) and means[-1] == max(means) and means[-1] - max(before) >= RISE * span > 0


def _point(iteration: int, values: Sequence[float]) -> Point:
    std = statistics.stdev(values) if len(values) > 1 else None
    return Point(iteration, statistics.fmean(values), std, min(values), max(values), len(values))


def _scores(record: Mapping[str, Any]) -> Mapping[str, Any]:
    scores = record.get("scores")
    return scores if isinstance(scores, dict) else {}
