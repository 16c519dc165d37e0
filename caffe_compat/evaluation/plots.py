"""Precision against recall, drawn."""

from __future__ import annotations

import math
import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from caffe_compat.evaluation.result import Evaluation
from caffe_compat.files import atomic_write

__all__ = ["draw_curves", "write_plot"]

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


def write_plot(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Write :func:`draw_curves` as a PNG, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    figure = draw_curves(evaluation)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
