"""Sections of a page that come from what trainings wrote: scores, curves, settings, machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from caffe_compat.proto import format_text
from caffe_compat.reports.html import code, folded, group, items, paragraph, picture, table
from caffe_compat.transfer.curves import Group
from caffe_compat.transfer.report_page import summary
from caffe_compat.transfer.report_plot import curves_svg
from caffe_compat.transfer.runs import Run
from caffe_compat.version import __version__

__all__ = ["commands", "configuration", "curves", "environment", "head", "runs_table"]

ROWS = 12
"""Rows of the table of a curve."""
OWN = ("net", "train_net", "snapshot_prefix")
"""Fields of a solver that every run has for itself."""
SETTINGS = ("config.yml", "preprocessing.json", "measured.json")
"""Files beside a run's snapshots or solver that belong to how it was set up."""


def head(said: Mapping[str, Any]) -> list[str]:
    """How the score went, in sentences."""
    return [paragraph(text) for text in summary(said)]


def curves(groups: Sequence[Group], said: Mapping[str, Any]) -> list[str]:
    """The drawing, and its numbers as tables."""
    names = ", ".join(one.name for one in groups)
    alt = f"Curves over the iterations: {', '.join(_shown(said))}, of {names}; the numbers are in the tables below"
    band = " A band goes from the lowest to the highest of runs that differ only by their seed."
    caption = f"Curves of {names}.{band if any(len(one.runs) > 1 for one in groups) else ''}"
    tables = [_curve_table(one) for one in said["groups"]]
    return [picture(curves_svg(groups), "svg", alt, caption), folded("The numbers", *filter(None, tables))]


def runs_table(said: Mapping[str, Any]) -> list[str]:
    """What every run came to: first, last and best of every score."""
    rows = []
    for run in _runs(said):
        end = f"{run['iterations']} of {run['max_iter']}" if run["max_iter"] else str(run["iterations"])
        seed = "" if run["seed"] is None else str(run["seed"])
        rows.append([run["name"], seed, _number(run["base_lr"]), end, f"{run['seconds']:.0f}"])
    parts = [table(["run", "seed", "base_lr", "iterations", "seconds"], rows, "How far they came")]
    for name in _scores(said):
        ends = [(run["name"], run["scores"].get(name) or {}) for run in _runs(said)]
        keys = ("first", "last", "best", "best_at")
        lines = [[who, *(_number(found.get(key)) for key in keys)] for who, found in ends if found]
        parts.append(table(["run", "first", "last", "highest", "at iteration"], lines, name))
    return [part for part in parts if part]


def configuration(groups: Sequence[Group], said: Mapping[str, Any]) -> list[str]:
    """Solver, recipe, lists; of several groups first what they do not have in common."""
    parts = [_differences(groups)] if len(groups) > 1 else []
    for one, told in zip(groups, said["groups"], strict=True):
        run = one.runs[0]
        inner = [_measured(told), _lists(told)]
        if run.solver is not None:
            inner.append(folded("solver", paragraph(run.solver_path), code(format_text(run.solver))))
        inner += [folded(name, code(text)) for name, text in _settings(run)]
        if any(inner):
            parts.append(group(one.name if len(groups) > 1 else "", *filter(None, inner)))
    return [part for part in parts if part]


def commands(said: Mapping[str, Any]) -> list[str]:
    """What was run, and what comes next."""
    made = [said["command"]] if said["command"] else []
    made += dict.fromkeys(command for one in said["groups"] for command in one["commands"][:1])
    parts = [group("What made them", code("\n".join(made)))] if made else []
    return parts + ([group("Next", code("\n".join(said["next"])))] if said["next"] else [])


def environment(said: Mapping[str, Any]) -> list[str]:
    """Where the runs ran, what this page was made with, and the files of a single run."""
    keys = ("iteration", "device", "threads", "torch", "random_seed")
    rows = [
        [run["name"], *("" if start.get(key) is None else str(start[key]) for key in keys)]
        for run in _runs(said)
        for start in run["starts"]
    ]
    versions = {
        "caffe_compat": __version__,
        "Python interpreter": platform.python_version(),
        "torch": torch.__version__,
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    parts = [
        table(["run", "from iteration", "device", "threads", "torch", "random_seed"], rows, "The runs"),
        table(["what", "version"], [list(pair) for pair in versions.items()], "This page was made with"),
    ]
    runs = _runs(said)
    if len(runs) == 1:  # of several their own reports list them
        parts.append(folded("Files", items(f"{one['path']} ({one['bytes']:,} bytes)" for one in runs[0]["files"])))
    return [part for part in parts if part]


# -- parts ----------------------------------------------------------------------------------------------------


def _runs(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [run for one in said["groups"] for run in one["runs"]]


def _scores(said: Mapping[str, Any]) -> list[str]:
    """Names of the scores that all tests have."""
    return [name for name in said["groups"][0]["curves"] if name not in ("loss", "lr")]


def _shown(said: Mapping[str, Any]) -> list[str]:
    return [*_scores(said), "loss", "learning rate"]


def _curve_table(told: Mapping[str, Any]) -> str:
    held = {name: {point["iteration"]: point for point in points} for name, points in told["curves"].items() if points}
    iterations = _some(sorted(set().union(*held.values())))
    rows = [[str(at), *(_value(held[name][at]) if at in held[name] else "" for name in held)] for at in iterations]
    return table(["iteration", *held], rows, told["name"])


def _some(values: Sequence[int]) -> list[int]:
    """At most :data:`ROWS` of them, first and last included."""
    if len(values) <= ROWS:
        return list(values)
    return [values[round(index * (len(values) - 1) / (ROWS - 1))] for index in range(ROWS)]


def _value(point: Mapping[str, Any]) -> str:
    return f"{point['mean']:.4g}" + (f" ± {point['std']:.2g}" if point.get("std") is not None else "")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _fields(run: Run) -> dict[str, str]:
    """The fields of a solver as text."""
    held = run.solver.ListFields() if run.solver is not None else ()
    return {
        field.name: ", ".join(map(_text, value)) if hasattr(value, "append") else _text(value)
        for field, value in held
        if field.name not in OWN
    }


def _text(value: Any) -> str:
    """A value as a prototxt would have it; floats without the digits that float32 does not hold."""
    return f"{value:.7g}" if isinstance(value, float) else str(value).strip()


def _differences(groups: Sequence[Group]) -> str:
    fields = [_fields(one.runs[0]) for one in groups]
    names = dict.fromkeys(name for one in fields for name in one)
    rows = [
        [name, *(one.get(name, "") for one in fields)] for name in names if len({one.get(name) for one in fields}) > 1
    ]
    return table(["solver", *(one.name for one in groups)], rows, "What their solvers do not have in common")


def _measured(told: Mapping[str, Any]) -> str:
    """What was measured before the training, of the first run that has it: the recipe's numbers."""
    run = next((run for run in told["runs"] if run["measured"]), None)
    if run is None:
        return ""
    found = run["measured"]
    keys = ("mean_norm", "scale", "adapt_std", "adapt_bias", "alpha", "tau")
    rows = [[one["layer"], *(_number(one.get(key)) for key in keys)] for one in found.get("features", [])]
    names = ["feature", "mean norm", "scale on it", "adaptation: std", "bias", "alpha", "tau"]
    rates = [
        [*(_number(one.get(key)) for key in ("rate", "first", "last", "largest")), str(one.get("reason") or "stable")]
        for one in found.get("rates", [])
    ]
    more = {"standard deviation of the student's first weights": "first_std", "gradients clipped at": "clip_gradients"}
    said = [f"{what}: {_number(found[key])}" for what, key in more.items() if found.get(key) is not None]
    return "\n".join(
        [
            table(names, rows, "The recipe: what was measured on the training pairs"),
            table(["rate", "loss first", "last", "largest", ""], rates, "Learning rates that were tried"),
            items(said) if said else "",
        ]
    ).strip()


def _lists(told: Mapping[str, Any]) -> str:
    rows = [
        [one["path"], one["phase"], "not there" if one["pairs"] is None else str(one["pairs"])] for one in told["lists"]
    ]
    return table(["list", "phase", "pairs"], rows, "Pairs")


def _settings(run: Run) -> Iterable[tuple[str, str]]:
    """Names and text of the small files that say how a run was set up."""
    for name in SETTINGS:
        path = run.folder / name
        if path.is_file():
            yield name, path.read_text(encoding="utf-8", errors="replace")
