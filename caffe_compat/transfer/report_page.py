"""A report of trainings as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["page", "summary", "title"]

ROWS = 12
"""Rows of the table of a curve."""


def page(said: Mapping[str, Any]) -> str:
    """The page of what :func:`caffe_compat.transfer.report.contents` says."""
    parts = [_head(said), ["![curves](curve.png)", ""]]
    for group in said["groups"]:
        title = [f"## {group['name']}", ""] if len(said["groups"]) > 1 else []
        parts += [title, _curve(said["score"], group), _runs(said["score"], group), _measured(group), _data(group)]
    parts += [_commands(said), _machine(said), _files(said)]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def title(said: Mapping[str, Any]) -> str:
    """Of the page: the names of the groups."""
    return " and ".join(group["name"] for group in said["groups"])


def summary(said: Mapping[str, Any]) -> list[str]:
    """How the score went in every group, and what it means: sentences."""
    lines = []
    score = said["score"]
    for group in said["groups"]:
        points = group["curves"].get(score, [])
        if not points:
            continue
        first, last = points[0], points[-1]
        who = f"{group['name']}: " if len(said["groups"]) > 1 else ""
        count = f" (mean and standard deviation of {len(group['runs'])} runs)" if len(group["runs"]) > 1 else ""
        line = (
            f"{who}{score} goes from {_value(first)} at iteration {first['iteration']} to {_value(last)} at "
            f"{last['iteration']}{count}."
        )
        if score in group["rising"]:
            line += "\nIt was still rising at the end: more iterations would probably give more."
        lines.append(line)
    if score.startswith("explained_variance"):
        lines.append(
            "1 is the teacher's feature itself, 0 what its mean over the test would give; it is measured on pairs "
            "that training did not see."
        )
    return lines


def _head(said: Mapping[str, Any]) -> list[str]:
    return [f"# {title(said)}", "", *(line for text in summary(said) for line in (text, ""))]


def _value(point: Mapping[str, Any]) -> str:
    return f"{point['mean']:.3f}" + (f" ± {point['std']:.3f}" if point.get("std") is not None else "")


def _curve(score: str, group: Mapping[str, Any]) -> list[str]:
    """The score and what else the tests say, at some of the iterations."""
    names = [score, *(name for name in group["curves"] if name not in (score, "loss", "lr"))]
    held = {name: {point["iteration"]: point for point in group["curves"].get(name, [])} for name in names}
    iterations = _some(sorted(held[score]))
    if not iterations:
        return []
    rows = [[str(at), *(_value(held[name][at]) if at in held[name] else "" for name in names)] for at in iterations]
    return [*_table(["iteration", *names], rows), ""]


def _some(values: Sequence[int]) -> list[int]:
    """At most :data:`ROWS` of them, first and last included."""
    if len(values) <= ROWS:
        return list(values)
    return [values[round(index * (len(values) - 1) / (ROWS - 1))] for index in range(ROWS)]


def _runs(score: str, group: Mapping[str, Any]) -> list[str]:
    rows = []
    for run in group["runs"]:
        ends = run["scores"].get(score) or {}
        end = f"{run['iterations']} of {run['max_iter']}" if run["max_iter"] else str(run["iterations"])
        best = f"{ends['best']:.3f} at {ends['best_at']}" if ends else ""
        last = f"{ends['last']:.3f}" if ends else ""
        seed = "" if run["seed"] is None else str(run["seed"])
        rows.append([run["name"], seed, _number(run["base_lr"]), end, last, best, f"{run['seconds']:.0f}"])
    head = ["run", "seed", "base_lr", "iterations", "last", "best", "seconds"]
    return [*_table(head, rows), ""]


def _measured(group: Mapping[str, Any]) -> list[str]:
    """What was measured before the training, of the first run that has it."""
    run = next((run for run in group["runs"] if run["measured"]), None)
    if run is None:
        return []
    found = run["measured"]
    lines = ["### Measured on the training pairs" + (f" ({run['name']})" if len(group["runs"]) > 1 else ""), ""]
    keys = ("mean_norm", "scale", "adapt_std", "adapt_bias", "alpha", "tau")
    rows = [[one["layer"], *(_number(one.get(key)) for key in keys)] for one in found.get("features", [])]
    lines += [*_table(["feature", "mean norm", "scale on it", "adaptation: std", "bias", "alpha", "tau"], rows), ""]
    rest = (
        ("first_std", "standard deviation of the student's first weights"),
        ("clip_gradients", "gradients clipped at"),
    )
    lines += [f"- {what}: {_number(found[key])}" for key, what in rest if found.get(key) is not None]
    rates = [_rate(rate) for rate in found.get("rates", [])]
    lines += [f"- base_lr: {_number(found.get('base_lr'))}, of those below"] if rates else []
    table = _table(["rate", "loss first", "last", "largest", "gradient", "dead", ""], rates) if rates else []
    return [*lines, "", *table, ""]


def _rate(rate: Mapping[str, Any]) -> list[str]:
    """A row of the table of rates that were tried."""
    numbers = [_number(rate.get(key)) for key in ("rate", "first", "last", "largest", "gradient")]
    return [*numbers, _number(rate.get("dead")), str(rate.get("reason") or "stable")]


def _data(group: Mapping[str, Any]) -> list[str]:
    rows = [[one["phase"], f"`{one['path']}`", "not there" if one["pairs"] is None else str(one["pairs"])]
            for one in group["lists"]]  # fmt: skip
    return [*_table(["phase", "list", "pairs"], rows), ""] if rows else []


def _commands(said: Mapping[str, Any]) -> list[str]:
    lines = []
    if said["command"]:
        lines += ["## Command", "", *_code([said["command"]])]
    written = list(dict.fromkeys(command for group in said["groups"] for command in group["commands"][:1]))
    if written:
        lines += ["The nets and the solver, with what was measured as numbers:", "", *_code(written)]
    if said["next"]:
        lines += ["## Next", "", *_code(said["next"])]
    return lines


def _machine(said: Mapping[str, Any]) -> list[str]:
    rows = []
    for run in (run for group in said["groups"] for run in group["runs"]):
        for start in run["starts"]:
            keys = ("iteration", "device", "threads", "torch")
            rows.append([run["name"], *("" if start.get(key) is None else str(start[key]) for key in keys)])
    if not rows:
        return []
    return ["## Machine", "", *_table(["run", "from iteration", "device", "threads", "torch"], rows), ""]


def _files(said: Mapping[str, Any]) -> list[str]:
    runs = [run for group in said["groups"] for run in group["runs"]]
    if len(runs) > 1:  # their own reports list them
        return []
    return ["## Files", "", *(f"- `{file['path']}` ({_size(file['bytes'])})" for file in runs[0]["files"]), ""]


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _code(lines: Iterable[str]) -> list[str]:
    return ["```", *lines, "```", ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, without the columns that are empty in every row."""
    rows = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    cut = [[row[index] for index in kept] for row in (head, ["---"] * len(head), *rows)]
    return [f"| {' | '.join(row)} |" for row in cut]
