"""What trainings were, what they measured, and what came of them: a page of Markdown, the same as JSON, and curves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffe_compat.files import write_file
from caffe_compat.transfer.curves import Group, Point, curve, group_runs, names_of_scores, rising
from caffe_compat.transfer.report_page import page
from caffe_compat.transfer.report_plot import EXPLAINED, write_curves
from caffe_compat.transfer.runs import Run

__all__ = ["FILES", "PAGE", "contents", "write_report"]

FILES = ("report.md", "report.json", "curve.png")
PAGE = "report.html"
"""Stands beside them, where :mod:`caffe_compat.reports` wrote it."""
ABOUT = ("device", "threads", "torch", "random_seed")


def write_report(
    runs: Sequence[Run], folder: str | os.PathLike[str], command: str = "", following: Sequence[str] = ()
) -> list[str]:
    """Write :data:`FILES` about some runs.

    Args:
        folder: is made if it is not there.
        command: that made the runs, where there was one.
        following: commands that come next.

    Returns:
        Their paths.

    Raises:
        WriteError: one cannot be written.
    """
    groups = group_runs(runs)
    said = contents(groups, command, following)
    paths = [str(Path(folder) / name) for name in FILES]
    write_curves(paths[2], groups)
    write_file(paths[1], json.dumps(said, indent=1, allow_nan=False) + "\n")
    write_file(paths[0], page(said))
    return paths


def contents(groups: Sequence[Group], command: str = "", following: Sequence[str] = ()) -> dict[str, Any]:
    """What a report says, as JSON holds it; of several groups only what their tests have in common."""
    runs = [run for group in groups for run in group.runs]
    names = names_of_scores(runs)
    return {
        "score": next((name for name in names if name.startswith(EXPLAINED)), names[0] if names else ""),
        "groups": [_group(group, names) for group in groups],
        "command": command,
        "next": list(following),
    }


def _group(group: Group, names: Sequence[str]) -> dict[str, Any]:
    first = group.runs[0]
    curves = {name: group.points(name) for name in [*names, "loss", "lr"]}
    return {
        "name": group.name,
        "runs": [_run(run, names) for run in group.runs],
        "rising": [name for name in names if name.startswith(EXPLAINED) and rising(curves[name])],
        "curves": {name: [_point(point) for point in points] for name, points in curves.items()},
        "commands": list(first.commands),
        "lists": [{"phase": one.phase, "path": one.path, "pairs": one.pairs} for one in first.lists],
    }


def _run(run: Run, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "solver": run.solver_path,
        "prefix": run.prefix,
        "seed": run.seed,
        "iterations": run.iterations,
        "max_iter": run.starts[-1].get("max_iter") if run.starts else None,
        "base_lr": None if run.solver is None else run.solver.base_lr,
        "seconds": run.seconds,
        "scores": {name: _ends(run, name) for name in names},
        "starts": [{key: start.get(key) for key in ("iteration", *ABOUT)} for start in run.starts],
        "measured": run.measured,
        "files": _files(run),
    }


def _ends(run: Run, name: str) -> dict[str, Any]:
    """First, last and highest value of a score."""
    found = curve(run, name)
    if not found:
        return {}
    last, best = max(found), max(found, key=lambda iteration: found[iteration])
    return {"first": found[min(found)], "last": found[last], "best": found[best], "best_at": best}


def _point(point: Point) -> dict[str, Any]:
    several = {"std": point.std, "low": point.low, "high": point.high} if point.count > 1 else {}
    return {"iteration": point.iteration, "mean": point.mean, **several}


def _files(run: Run) -> list[dict[str, Any]]:
    """The files of a run with their sizes in bytes, without those of a report."""
    folders = {run.folder, *([Path(run.solver_path).parent] if run.solver_path else [])}
    found = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    kept = [path for path in found if path.name not in (*FILES, PAGE) and not path.name.startswith(".")]
    return [{"path": str(path), "bytes": path.stat().st_size} for path in sorted(kept) if path.suffix != ".lock"]
