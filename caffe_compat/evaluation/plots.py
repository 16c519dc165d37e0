"""Precision against recall, drawn."""

from __future__ import annotations

import math
import os

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from caffe_compat.evaluation.result import Evaluation, SplitMeans, VideoEvaluation
from caffe_compat.evaluation.tubes import FALSE_RATE
from caffe_compat.files import atomic_write

__all__ = ["draw_curves", "draw_splits", "draw_video", "write_plot", "write_splits_plot", "write_video_plot"]

_SIDE = 2.2  #: inches of a class's panel


def draw_curves(evaluation: Evaluation) -> Figure:
    """A panel for each class: its curve, and in grey the envelope whose area is the average precision.

    Where that averages over several thresholds of the overlap, the curve is that of the first.
    """
    count = len(evaluation.classes)
    columns = max(1, math.ceil(math.sqrt(count * 1.3)))
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(columns * _SIDE, rows * _SIDE), layout="constrained")
    FigureCanvasAgg(figure)
    if not count:
        return figure
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel in panels.flat[count:]:
        panel.set_axis_off()
    for k, (name, panel) in enumerate(zip(evaluation.classes, panels.flat, strict=False)):
        precision, recall = evaluation.precision[k], evaluation.recall[k]
        if evaluation.ground_truth[k] and len(precision):
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            panel.fill_between(recall, envelope, step="pre", color="0.85", linewidth=0)
            panel.plot(recall, precision, linewidth=1.2)
        ap = evaluation.ap[k]
        panel.set_title(f"{name}  {'no objects' if np.isnan(ap) else f'{100 * ap:.1f}'}", fontsize=8)
        panel.set(xlim=(0, 1), ylim=(0, 1.02))
        panel.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        panel.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
        panel.tick_params(labelsize=7)
    if not evaluation.threshold:
        figure.suptitle("curves: overlap from 0.5\nnumbers: mean over 0.5 to 0.95", fontsize=8)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


def draw_video(video: VideoEvaluation) -> Figure:
    """Found clips against wrong tubes: the mean curve at each threshold, and each class's at that nearest to 0.5."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for least, (false_rate, true_rate), area in zip(video.thresholds, video.curves, video.area_of_mean, strict=True):
        shown = "-" if np.isnan(area) else f"{100 * area:.1f}"
        left.step(false_rate, true_rate, where="pre", linewidth=1.2, label=f"from {least:g}: {shown}")
    left.set_title("mean of the classes, area in percent", fontsize=9)
    chosen = int(np.argmin(np.abs(np.array(video.thresholds) - 0.5)))
    colours = colormaps["turbo"](np.linspace(0, 1, max(len(video.classes), 2)))
    for c, name in enumerate(video.classes):
        false_rate, true_rate = video.class_curves[chosen][c]
        area = video.area[chosen, c]
        shown = "-" if np.isnan(area) else f"{100 * area:.1f}"
        right.step(
            false_rate, true_rate, where="pre", linewidth=0.9, color=colours[c], label=f"{name} {shown}",
            linestyle=("-", "--", ":")[c % 3],
        )  # fmt: skip
    right.set_title(f"each class, from {video.thresholds[chosen]:g}", fontsize=9)
    left.set(xlim=(0, FALSE_RATE), ylim=(0, 1.02), ylabel="clips found")
    left.legend(fontsize=7, loc="lower right")
    right.legend(fontsize=5, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.supxlabel("wrong tubes taken for right", fontsize=9)
    return figure


def write_video_plot(path: str | os.PathLike[str], video: VideoEvaluation) -> None:
    """Write :func:`draw_video` as a PNG, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    _write(path, draw_video(video))


def draw_splits(found: SplitMeans) -> Figure:
    """A bar for each class's mean, from the worst to the best, and a dot for each split."""
    figure = Figure(figsize=(6, 0.9 + 0.24 * len(found.classes)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    order = np.argsort(np.where(np.isnan(found.class_means), -1, found.class_means), kind="stable")
    places = np.arange(len(order))
    panel.barh(places, np.nan_to_num(100 * found.class_means[order]), color="0.8")
    for split, values in zip(found.names, found.ap, strict=True):
        panel.plot(100 * values[order], places, "o", markersize=3, label=split)
    panel.set_yticks(places, [found.classes[c] for c in order], fontsize=7)
    shown = "-" if math.isnan(found.mean) else f"{100 * found.mean:.1f}"
    panel.set(xlim=(0, 100), xlabel="average precision in %", title=f"mean {shown}")
    panel.legend(fontsize=6, loc="lower right")
    return figure


def write_splits_plot(path: str | os.PathLike[str], found: SplitMeans) -> None:
    """Write :func:`draw_splits` as a PNG, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    _write(path, draw_splits(found))


def write_plot(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Write :func:`draw_curves` as a PNG, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    _write(path, draw_curves(evaluation))


def _write(path: str | os.PathLike[str], figure: Figure) -> None:
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
