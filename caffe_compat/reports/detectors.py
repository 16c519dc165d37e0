"""Section of a page about detectors: what their tests stored, see :mod:`caffe_compat.evaluation.reports`."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.reports.html import group, picture, table
from caffe_compat.transfer.runs import Run

__all__ = ["Stored", "detections", "find_evaluations", "read_evaluation"]

KEYS = ("classes", "ap", "mean", "class_index", "precision", "recall", "ground_truth")
SHEETS = 4
"""Sheets of pictures that are shown of an evaluation."""
POINTS = 400
"""Of a curve that are drawn."""


@dataclass(frozen=True, eq=False)
class Stored:
    """An evaluation that was stored as ``eval*.npz``.

    Attributes:
        name: whose it is.
        classes: names.
        ap: float [C], NaN without ground truth.
        mean: of them.
        curves: of every class recall and precision.
        sheets: pictures of right and wrong detections.
    """

    name: str
    classes: tuple[str, ...]
    ap: np.ndarray
    mean: float
    ground_truth: np.ndarray
    curves: tuple[tuple[np.ndarray, np.ndarray], ...]
    sheets: tuple[Path, ...]


def find_evaluations(run: Run) -> list[Path]:
    """The evaluations of a run's snapshots: below its folder, and where ``test_net`` puts them, beside it."""
    name = Path(run.prefix).name
    inside = run.folder.glob("**/eval*.npz")
    beside = run.folder.parent.glob(f"*/{name}_iter_*/eval*.npz")
    return sorted({path.resolve(): path for path in (*inside, *beside)}.values())


def read_evaluation(path: Path, name: str) -> Stored:
    """Read one.

    Raises:
        DataError: it is not what an evaluation stores; names it.
    """
    try:
        with open_existing(path) as stream, np.load(stream, allow_pickle=False) as held:
            found = {key: np.asarray(held[key]) for key in KEYS}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected what test_net or reval stores of an evaluation ({error})") from error
    classes, index = tuple(map(str, found["classes"])), found["class_index"]
    if len(found["ap"]) != len(classes) or not len(index) == len(found["precision"]) == len(found["recall"]):
        raise DataError(
            f"{path}: {len(classes)} classes, {len(found['ap'])} average precisions: they do not go together"
        )
    curves = tuple((found["recall"][index == k], found["precision"][index == k]) for k in range(len(classes)))
    sheets = tuple(sorted(path.with_name(f"{path.stem}_pictures").glob("*.png")))
    return Stored(name, classes, found["ap"], float(found["mean"]), found["ground_truth"], curves, sheets)


def detections(runs: Sequence[Run]) -> list[str]:
    """Average precision, curves, and pictures, of all evaluations that are found."""
    stored = []
    for run in runs:
        paths = find_evaluations(run)
        for path in paths:
            more = "" if len(paths) == 1 else f", {path.parent.name}/{path.stem}"
            stored.append(read_evaluation(path, f"{run.name}{more}"))
    if not stored:
        return []
    names = list(dict.fromkeys(name for one in stored for name in one.classes))
    rows = [[name, *(_average(one, name) for one in stored)] for name in names]
    rows.append(["mean", *(_percent(one.mean) for one in stored)])
    head = ["class", *(one.name for one in stored)]
    alt = f"Precision against recall of {len(names)} classes, of {', '.join(one.name for one in stored)}"
    parts = [
        table(head, rows, "Average precision, %"),
        picture(_draw(stored, names), "svg", alt, f"{alt}. The number beside a class is its average precision, %."),
    ]
    return [*parts, *_sheets(stored)]


def _average(one: Stored, name: str) -> str:
    return _percent(float(one.ap[one.classes.index(name)])) if name in one.classes else ""


def _percent(value: float) -> str:
    return "no objects" if math.isnan(value) else f"{100 * value:.1f}"


def _sheets(stored: Iterable[Stored]) -> list[str]:
    parts = []
    for one in stored:
        for path in one.sheets[:SHEETS]:
            alt = f"Right, wrong and missed detections of {one.name}: {path.stem.partition('_')[2]}"
            parts.append(picture(path.read_bytes(), "png", alt, alt))
    return [group("Sample predictions", *parts)] if parts else []


def _draw(stored: Sequence[Stored], names: Sequence[str]) -> bytes:
    """A panel for each class, with the curves of all evaluations over each other."""
    columns = max(1, min(len(names), math.ceil(math.sqrt(len(names) * 1.3))))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.2 * columns, 2.2 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for name, panel in zip(names, panels.flat, strict=False):
        for number, one in enumerate(stored):
            if name in one.classes:
                recall, precision = one.curves[one.classes.index(name)]
                kept = np.unique(np.linspace(0, max(len(recall) - 1, 0), min(len(recall), POINTS)).astype(int))
                panel.plot(recall[kept], precision[kept], color=f"C{number}", linewidth=1.2, label=one.name)
        shown = f"  {_average(stored[0], name)}" if len(stored) == 1 else ""
        panel.set_title(f"{name}{shown}", fontsize=8)
        panel.set(xlim=(0, 1.02), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        panel.tick_params(labelsize=7)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    if len(stored) > 1:
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", fontsize=7)
    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "precision"}):
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return stream.getvalue()
