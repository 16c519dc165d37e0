"""Drawings of nets without Graphviz as PNG and PDF."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from caffe_compat.pycaffe.draw_scene import FONT, LINE, PAD, SMALL, Part, Scene

__all__ = ["pdf_bytes", "png_bytes"]

DPI = 72.0
"""So that a point is a pixel."""
LARGEST = 16000.0
"""Pixels that a side of a picture may have; larger ones are made smaller."""


def png_bytes(scene: Scene) -> bytes:
    """A scene as a file of PNG, a pixel of the scene being a pixel; no side of it is longer than :data:`LARGEST`."""
    stream = io.BytesIO()
    dpi = DPI * min(1.0, LARGEST / max(scene.width, scene.height))
    FigureCanvasAgg(_figure(scene, dpi)).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def pdf_bytes(scene: Scene) -> bytes:
    """A scene as a file of PDF."""
    stream = io.BytesIO()
    FigureCanvasPdf(_figure(scene, DPI)).print_pdf(stream, metadata={"CreationDate": None, "Producer": None})
    return stream.getvalue()


def _figure(scene: Scene, dpi: float) -> Figure:
    figure = Figure(figsize=(scene.width / DPI, scene.height / DPI), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    for way in scene.ways:
        codes = [Path.MOVETO, *[Path.CURVE4] * (len(way) - 1)]
        axes.add_patch(PathPatch(Path(list(way), codes), fill=False, edgecolor="#444444", linewidth=1.2))
    for head in scene.heads:
        axes.add_patch(Polygon(head, facecolor="#444444", linewidth=0))
    for part, left, top, width, height in scene.parts:
        _draw_part(axes, part, (left, top, width, height))
    return figure


def _draw_part(axes: Axes, part: Part, place: tuple[float, float, float, float]) -> None:
    left, top, width, height = place
    style = f"round,pad=0,rounding_size={height / 2 if part.round else 3}"
    box = FancyBboxPatch(
        (left, top), width, height, boxstyle=style, facecolor=part.fill, edgecolor="#222222",
        linestyle="--" if part.dashed else "-",
    )  # fmt: skip
    axes.add_patch(box)
    for number, text in enumerate(part.lines):
        axes.text(
            left + width / 2, top + PAD / 2 + LINE * (number + 0.75), text, ha="center", va="baseline",
            fontsize=SMALL if number else FONT, weight="normal" if number else "bold", parse_math=False,
        )  # fmt: skip
