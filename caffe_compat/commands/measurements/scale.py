"""What more of everything costs: a table with an exponent for each curve, and a picture."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.commands.measurements.curve import Curve, Measured, head, measure, row
from caffe_compat.commands.measurements.curves_layers import layer_curves
from caffe_compat.commands.measurements.curves_lists import list_curves
from caffe_compat.commands.measurements.curves_regions import file_curves, picture_curves, region_curves
from caffe_compat.commands.measurements.settings import ScaleSettings
from caffe_compat.errors import UsageError, nearest
from caffe_compat.figures.save import check_name, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["chosen_curves", "draw", "scale"]


def chosen_curves(groups: Sequence[str]) -> list[Curve]:
    """The curves of some groups, or all.

    Raises:
        UsageError: no such group.
    """
    every = list(chain(region_curves(), picture_curves(), file_curves(), layer_curves(), list_curves()))
    known = tuple(dict.fromkeys(curve.group for curve in every))
    for group in groups:
        if group not in known:
            raise UsageError(f"no group of curves '{group}', expected {', '.join(known)}{nearest(group, known)}")
    return [curve for curve in every if not groups or curve.group in groups]


def scale(settings: ScaleSettings, most: float) -> Iterator[str]:
    """Measure curve by curve: lines of a table, and last where the picture is.

    Args:
        most: seconds that a size may take.

    Raises:
        UsageError: no such group; a picture of another kind.
        WriteError: the picture cannot be written.
    """
    curves = chosen_curves(settings.groups)
    if settings.plot:
        check_name(settings.plot)
    found = []
    yield head()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drawn nets that were never trained, and their like
        for number, curve in enumerate(curves):
            found.append(measure(curve, Path(folder) / str(number), most))
            yield row(found[-1])
    if settings.plot:
        write_figure(settings.plot, draw(found))
        yield f"wrote {settings.plot}"


def draw(found: Sequence[Measured]) -> Figure:
    """A column for each group: seconds over memory, both axes logarithmic; dotted what would be linear."""
    from matplotlib.figure import Figure

    groups: dict[str, list[Measured]] = {}
    for one in found:
        groups.setdefault(one.curve.group, []).append(one)
    figure = Figure(figsize=(5.5 * len(groups), 9), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(groups), squeeze=False)
    for column, (group, members) in enumerate(groups.items()):
        for kind, axis in enumerate(axes[:, column]):
            _fill(axis, members, memory=bool(kind))
            axis.set_xlabel(f"{group}: {' or '.join(dict.fromkeys(one.curve.unit for one in members))}")
            axis.set_ylabel("bytes" if kind else "seconds of the processor")
        axes[0, column].set_title(group)
    return figure


def _fill(axis: Axes, members: Sequence[Measured], memory: bool) -> None:
    for number, one in enumerate(members):
        costs = one.memory if memory else one.seconds
        growth = one.memory_growth if memory else one.growth
        told = "" if growth != growth else f" ({growth:.2f})"
        points = [(size, cost) for size, cost in zip(one.sizes, costs, strict=True) if cost > 0]
        if points:
            style = ("-", "--", ":")[number // 10 % 3]
            axis.plot(
                *zip(*points, strict=True), style, color=f"C{number % 10}", marker=".", label=one.curve.label + told
            )
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    left, right = axis.get_xlim()
    axis.plot([left, right], [low, low * right / left], ":", color="0.6", linewidth=1, label="linear")
    axis.set_xlim(left, right)
    axis.set_ylim(low, high)
    axis.legend(fontsize=6)
