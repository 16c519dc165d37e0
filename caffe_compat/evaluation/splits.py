"""The mean of evaluations over the splits of a data set, as JHMDB's results are given over three."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, UsageError
from caffe_compat.evaluation.plots import write_splits_plot
from caffe_compat.evaluation.result import SplitMeans
from caffe_compat.files import write_file

__all__ = ["mean_over_splits", "splits_table", "write_splits"]

PathLike = str | os.PathLike[str]


def mean_over_splits(runs: Sequence[PathLike]) -> SplitMeans:
    """Bring evaluations together.

    Args:
        runs: folders in which ``test_net`` or ``reval`` left ``eval.json``, or such files themselves.

    Raises:
        UsageError: fewer than two, or one twice.
        MissingFileError: no such file.
        DataError: it is none, or is of other classes, another rule or threshold than the first; names it.
    """
    files = [Path(run) / "eval.json" if Path(run).is_dir() else Path(run) for run in runs]
    places = [file.resolve() for file in files]
    if len(files) < 2:
        raise UsageError(f"{len(files)} evaluation, expected those of two splits or more")
    twice = [file for file, place in zip(files, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError(f"{twice[0]}: is there more than once")
    found = [_read(file) for file in files]
    first = found[0]
    for file, one in zip(files[1:], found[1:], strict=True):
        for what in ("metric", "threshold", "classes"):
            mine, others = (list(side[what]) if what == "classes" else side[what] for side in (one, first))
            if mine != others:
                raise DataError(f"{file}: {what} {_brief(mine)}, in {files[0]} {_brief(others)}: expected one rule")
    videos = [one["video"] for one in found]
    alike = all(video is not None and video["thresholds"] == videos[0]["thresholds"] for video in videos)
    areas = [[_number(value) for value in video["mean_curve"]] if alike else [] for video in videos]
    return SplitMeans(
        names=_names(files),
        classes=tuple(first["classes"]),
        metric=first["metric"],
        threshold=first["threshold"],
        ap=np.array([[_number(entry["ap"]) for entry in one["classes"].values()] for one in found], np.float64),
        means=np.array([_number(one["mean"]) for one in found]),
        video=np.array(areas, np.float64).reshape(len(files), -1),
        thresholds=tuple(videos[0]["thresholds"]) if alike else (),
    )


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path, "evaluation that test_net or reval writes")
    try:
        classes = {str(name): {"ap": entry["ap"]} for name, entry in document["classes"].items()}
        video = document.get("video")
        found = {
            "metric": str(document["metric"]),
            "threshold": document["threshold"],
            "mean": document["mean"],
            "classes": classes,
            "video": None if video is None else {name: list(video[name]) for name in ("thresholds", "mean_curve")},
        }
        if video is not None and len(video["thresholds"]) != len(video["mean_curve"]):
            raise ValueError("video has not one figure for each threshold")
        figures = [found["mean"], *(entry["ap"] for entry in classes.values())]
        figures += [] if video is None else [*video["mean_curve"], *video["thresholds"]]
        for value in figures:
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{value!r} is no part of 1")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path}: no evaluation that test_net or reval writes: {type(error).__name__}: {error}"
        ) from error
    if not classes:
        raise DataError(f"{path}: an evaluation without classes")
    return found


def _names(files: Sequence[Path]) -> tuple[str, ...]:
    """The parts of their paths in which they differ, or all of these."""
    parts = [file.resolve().parts for file in files]
    depth = min(map(len, parts))
    for place in range(2, depth + 1):
        names = tuple(path[-place] for path in parts)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, files))


def splits_table(found: SplitMeans) -> str:
    """What a terminal shows: the average precision of each class in each split and their mean, in percent."""
    width = max(len(name) for name in (*found.classes, "video AUC from 0.5"))
    numbers = [f"split {k}" for k in range(1, len(found.names) + 1)]
    lines = [f"{number}: {name}" for number, name in zip(numbers, found.names, strict=True)]
    lines.append(f"{'class':<{width}}" + "".join(f"  {number:>8}" for number in (*numbers, "mean")))
    for c, name in enumerate(found.classes):
        lines.append(_line(name, [*found.ap[:, c], found.class_means[c]], width))
    lines.append(_line("mean", [*found.means, found.mean], width))
    for k, threshold in enumerate(found.thresholds):
        areas = found.video[:, k]
        lines.append(_line(f"video AUC from {threshold:g}", [*areas, areas.mean()], width))
    overlap = f"overlap from {found.threshold:g}" if found.threshold else "several overlaps"
    lines.append(f"{found.metric} rule, {overlap}; the last column is the mean of the splits")
    return "\n".join(lines)


def _line(name: str, values: Sequence[float], width: int) -> str:
    shown = "".join(f"  {'-':>8}" if math.isnan(value) else f"  {100 * value:>8.2f}" for value in values)
    return f"{name:<{width}}{shown}"


def write_splits(stem: PathLike, found: SplitMeans) -> list[Path]:
    """Write ``STEM.json``, ``STEM.csv`` and ``STEM.png``, each whole or not at all.

    Returns:
        The files.

    Raises:
        WriteError: one cannot be written.
    """
    files = [Path(f"{os.fspath(stem)}{ending}") for ending in (".json", ".csv", ".png")]
    write_file(files[0], json.dumps(_figures(found), indent=1) + "\n")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("class", *found.names, "mean"))
    for name, values in (*zip(found.classes, found.ap.T, strict=True), ("mean", found.means)):
        last = found.mean if name == "mean" else found.class_means[found.classes.index(name)]
        rows.writerow((name, *("" if math.isnan(value) else f"{value:.6g}" for value in (*values, last))))
    write_file(files[1], text.getvalue())
    write_splits_plot(files[2], found)
    return files


def _figures(found: SplitMeans) -> Mapping[str, Any]:
    def plain(values: Sequence[float]) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        "metric": found.metric,
        "threshold": found.threshold,
        "splits": list(found.names),
        "means": plain(list(found.means)),
        "mean": plain([found.mean])[0],
        "classes": {
            name: {"ap": plain(list(found.ap[:, c])), "mean": plain([found.class_means[c]])[0]}
            for c, name in enumerate(found.classes)
        },
        "video": {
            f"{threshold:g}": {"auc": plain(list(found.video[:, k])), "mean": plain([found.video[:, k].mean()])[0]}
            for k, threshold in enumerate(found.thresholds)
        },
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _brief(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
