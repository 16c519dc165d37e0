"""Curves of trainings, drawn: what the tests say, the loss, dead units, and the learning rate."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caffe_compat.files import atomic_write
from caffe_compat.transfer.curves import Group, curve, names_of_scores
from caffe_compat.transfer.runs import Run

__all__ = ["curves_svg", "draw_runs", "write_curves"]

DEAD = "dead_units_"
EXPLAINED = "explained_variance_"
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class _Panel:
    """What one panel shows: curves by name, with what each is called in its legend."""

    title: str
    curves: dict[str, str]
    percent: bool = False


def draw_runs(groups: Sequence[Group]) -> Figure:
    """Four panels; every group has a colour: its mean, a band from the lowest to the highest, and its runs, thin."""
    runs = [run for group in groups for run in group.runs]
    panels = _panels(runs)
    figure = Figure(figsize=(10, 3.4 * ((len(panels) + 1) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for panel, axis in zip(panels, axes.flat, strict=False):
        for number, group in enumerate(groups):
            for style, (name, label) in enumerate(panel.curves.items()):
                words = [group.name if len(groups) > 1 else "", label if len(panel.curves) > 1 else ""]
                look = {"color": f"C{number}", "linestyle": STYLES[style % len(STYLES)]}
                _draw(axis, group, name, 100 if panel.percent else 1, look | {"label": ", ".join(filter(None, words))})
        axis.set_title(panel.title, fontsize=10)
        axis.set_xlabel("iteration", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if any(label for label in axis.get_legend_handles_labels()[1]):
            axis.legend(fontsize=7)
    return figure


def write_curves(path: str | os.PathLike[str], groups: Sequence[Group]) -> None:
    """Write :func:`draw_runs` as a PNG, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    figure = draw_runs(groups)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})


def curves_svg(groups: Sequence[Group]) -> bytes:
    """:func:`draw_runs` as a file of SVG; the same runs give the same bytes."""
    stream = io.BytesIO()
    figure = draw_runs(groups)
    with rc_context({"svg.hashsalt": "curves"}):
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _panels(runs: Sequence[Run]) -> list[_Panel]:
    explained, dead = names_of_scores(runs, EXPLAINED), names_of_scores(runs, DEAD)
    others = [name for name in names_of_scores(runs) if not name.startswith((EXPLAINED, DEAD, "loss"))]
    panels = []
    if explained:
        named = {name: name.removeprefix(EXPLAINED) for name in explained}
        panels.append(_Panel("explained variance on held-out pairs", named))
    panels.append(_Panel("loss", {"loss": "training, as logged", "test loss": "test"}))
    if dead:
        named = {name: name.removeprefix(DEAD) for name in dead}
        panels.append(_Panel("dead units of the adaptation, % (held-out pairs)", named, percent=True))
    if others:
        panels.append(_Panel("tests", {name: name for name in others}))
    return [*panels, _Panel("learning rate", {"lr": ""})]


def _draw(axis: Any, group: Group, name: str, factor: float, look: dict[str, Any]) -> None:
    points = group.points(name)
    across = [point.iteration for point in points]
    drawstyle = "steps-post" if name == "lr" else "default"
    width = 1.0 if name == "loss" else 1.6
    axis.plot(across, [factor * point.mean for point in points], linewidth=width, drawstyle=drawstyle, **look,
              marker="o" if len(points) == 1 else "")  # fmt: skip
    if len(group.runs) == 1:
        return
    low, high = [factor * point.low for point in points], [factor * point.high for point in points]
    axis.fill_between(across, low, high, color=look["color"], alpha=0.2, linewidth=0)
    for run in group.runs:
        one = curve(run, name)
        values = [factor * value for value in one.values()]
        axis.plot(list(one), values, linewidth=0.5, color=look["color"], alpha=0.6, drawstyle=drawstyle)
