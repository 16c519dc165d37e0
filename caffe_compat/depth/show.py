"""One picture of a depth frame and of everything HHA makes of it, to see at a glance whether unit, camera and ground
are right."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.checks import resolve_camera
from caffe_compat.depth.gravity import TILT_LIMIT
from caffe_compat.depth.hha_image import GROUND_DEFAULT_CM, HHA, hha
from caffe_compat.errors import DataError, UsageError
from caffe_compat.files import atomic_write

__all__ = ["Summary", "draw_frame", "save_figure", "summarize"]

GROUND_BAND = 0.10
"""Metres above or below the ground within which a pixel is drawn as ground."""
SCATTER_POINTS = 8000
"""Points of the side and front views."""
DPI = 120
MISSING_COLOR, GROUND_COLOR, GRAVITY_COLOR, CAMERA_COLOR = "#ff00c8", "#00d25a", "#ffd400", "#0060c0"
DEPTH_MAP, HEIGHT_MAP, ANGLE_MAP = "viridis", "cividis", "coolwarm"
PANEL, PITCH, LEFT, VIEW_HEIGHT = 2.75, 3.62, 0.25, 2.6
"""Inches: a panel's width, from panel to panel, the left margin, the height of side and front view."""
DISPARITY_TICKS = {31: "31: 10 m", 62: "62: 5 m", 103: "103: 3 m", 155: "155: 2 m", 255: "255: near"}
BAR = (1.02, 0.0, 0.035, 1.0)
"""A colour bar's place beside its panel, in fractions of the panel."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """The figures of a frame.

    Attributes:
        gravity: unit vector pointing down, camera axes (X right, Y down, Z forward).
        tilt: degrees between gravity and the image's downward axis.
        pitch: degrees the camera looks below the horizon (negative: above).
        roll: degrees that down is turned in the image from its bottom towards its right edge.
        camera_height: metres from the ground up to the camera.
        ground_assumed: nothing lies low enough to be the ground, so HHA took 1.30 m.
        missing: share of pixels without a measurement, 0 to 1.
        nearest, farthest: metres of the measured pixels.
    """

    gravity: tuple[float, float, float]
    tilt: float
    pitch: float
    roll: float
    camera_height: float
    ground_assumed: bool
    missing: float
    nearest: float
    farthest: float

    def lines(self) -> list[str]:
        """The figures as short lines of text."""
        x, y, z = (value + 0.0 for value in np.round(self.gravity, 4).tolist())  # + 0.0: no "-0.0000"
        doubt = f" (over {TILT_LIMIT:.0f}: doubtful)" if self.tilt > TILT_LIMIT else ""
        direction = "upwards" if self.pitch < 0 else "downwards"
        ground = "assumed, nothing lies 0.9 m below" if self.ground_assumed else "its lowest point"
        return [
            f"gravity: ({x:.4f}, {y:.4f}, {z:.4f})",
            f"tilt: {self.tilt:.1f} degrees{doubt}; {abs(self.pitch):.1f} {direction}, roll {self.roll:.1f}",
            f"ground: {self.camera_height:.3f} m below the camera ({ground})",
            f"missing: {100 * self.missing:.1f} % of the pixels",
            f"depth: {self.nearest:.3f} to {self.farthest:.3f} m",
        ]


def summarize(depth: np.ndarray, parts: HHA, missing: np.ndarray | None = None) -> Summary:
    """The figures of a frame [H, W] in metres, from what ``hha(depth, camera, missing, parts=True)`` returned."""
    known = depth[~_hidden(depth, missing)]
    x, y, z = (float(value) for value in parts.gravity)
    return Summary(
        gravity=(x, y, z),
        tilt=math.degrees(math.acos(max(-1.0, min(1.0, y)))),
        pitch=math.degrees(math.asin(max(-1.0, min(1.0, z)))),
        roll=math.degrees(math.atan2(x, y)),
        camera_height=-float(parts.ground),
        ground_assumed=float(parts.ground) == GROUND_DEFAULT_CM / 100,
        missing=1 - known.size / depth.size,
        nearest=float(known.min()),
        farthest=float(known.max()),
    )


def draw_frame(
    depth: np.ndarray,
    camera: Camera | str,
    missing: np.ndarray | None = None,
    color: np.ndarray | None = None,
    *,
    title: str = "",
    parts: HHA | None = None,
) -> Figure:
    """Draw colour, depth, HHA and its channels, normals, gravity, ground and a side view of the upright points.

    Args:
        depth: [H, W] floating point metres, holes filled (see :func:`caffe_compat.depth.complete`).
        camera: the camera that made it, or the name of a preset.
        missing: bool [H, W], pixels without a measurement; zeros in ``depth`` are accepted only under it.
        color: uint8 [H, W, 3] RGB, registered to ``depth``.
        title: stands above the picture.
        parts: ``hha(depth, camera, missing, parts=True)``, where the caller has it already.

    Raises:
        DataError: depth, camera, missing or colour that cannot be used (see :func:`caffe_compat.depth.hha`).

    Warns:
        UserWarning: gravity was found more than 45 degrees off the image's downward axis.
    """
    if not isinstance(depth, np.ndarray) or depth.ndim != 2:
        raise DataError(f"depth is {_kind(depth)}, expected a NumPy array H x W (one frame)")
    if color is not None and (
        not isinstance(color, np.ndarray) or color.dtype != np.uint8 or color.shape != (*depth.shape, 3)
    ):
        raise DataError(f"colour is {_kind(color)}, expected uint8 {depth.shape[0]} x {depth.shape[1]} x 3, as depth")
    camera = resolve_camera(camera)
    parts = hha(depth, camera, missing, parts=True) if parts is None else parts
    hidden = _hidden(depth, missing)
    summary = summarize(depth, parts, missing)
    figure, panels, views, notes = _layout(depth.shape[0] / depth.shape[1], title)
    _draw_color(panels[0], color, depth.shape)
    _draw_depth(panels[1], depth, hidden, summary)
    _draw_picture(panels[2], "HHA (R disparity, G height, B angle)", parts.image)
    bare = np.isnan(parts.normals).any(-1)
    _draw_normals(panels[3], parts.normals, bare)
    _draw_channels(panels[4:7], parts.image, bare)
    ground = (np.abs(parts.height) <= GROUND_BAND) & ~hidden
    _draw_ground(panels[7], depth, color, ground)
    _draw_gravity(panels[7], parts.gravity, camera, depth.shape, float(np.median(depth[~hidden])))
    _draw_views(views, parts, ~hidden, camera)
    _draw_notes(notes, summary, camera, depth.shape)
    return figure


def save_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as png; the same figure gives the same bytes.

    Raises:
        UsageError: the name does not end in .png.
        CaffeCompatError: the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{os.fspath(path)}: the picture is a png, expected a name that ends in .png")
    with atomic_write(path) as stream:
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


def _hidden(depth: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
    """Pixels that were not measured."""
    return np.asarray(depth == 0) if missing is None else missing | (depth == 0)


def _layout(aspect: float, title: str) -> tuple[Figure, list[Axes], list[Axes], Axes]:
    """Two rows of four panels of height / width ``aspect``, below them the two views and the text."""
    image = PANEL * min(max(aspect, 0.4), 1.8)
    tops = (0.7, 0.7 + image + 0.4, 0.7 + 2 * image + 0.4 + 0.45)
    width, height = LEFT + 3 * PITCH + PANEL + 0.2, tops[2] + VIEW_HEIGHT + 0.5
    figure = Figure(figsize=(width, height), dpi=DPI)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        """Axes at inches from the left and from the top."""
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    panels = [place(LEFT + column * PITCH, top, PANEL, image) for top in tops[:2] for column in range(4)]
    views = [place(LEFT + 0.35, tops[2], 5.9, VIEW_HEIGHT), place(LEFT + 6.8, tops[2], 3.35, VIEW_HEIGHT)]
    notes = place(LEFT + 3 * PITCH, tops[2], PANEL, VIEW_HEIGHT)
    short = title if len(title) <= 130 else f"...{title[-127:]}"
    figure.text(LEFT / width, 1 - 0.28 / height, short, fontsize=12, weight="bold", va="center", parse_math=False)
    return figure, panels, views, notes


def _draw_picture(axes: Axes, name: str, picture: np.ndarray) -> None:
    axes.set_title(name, fontsize=10, loc="left", pad=4)
    axes.imshow(picture)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_values(axes: Axes, name: str, values: np.ndarray, colors: Colormap, limits: tuple[float, float]) -> Colorbar:
    """A picture of numbers with its colour bar."""
    axes.set_title(name, fontsize=10, loc="left", pad=4)
    shown = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], interpolation_stage="rgba")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes(BAR))
    bar.ax.tick_params(labelsize=8, length=2, pad=2)
    return bar


def _draw_color(axes: Axes, color: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if color is not None:
        _draw_picture(axes, "colour", color)
        return
    _draw_picture(axes, "colour", np.full((*shape, 3), 230, np.uint8))
    axes.text(0.5, 0.5, "no colour", color="0.4", ha="center", va="center", transform=axes.transAxes)


def _draw_depth(axes: Axes, depth: np.ndarray, hidden: np.ndarray, summary: Summary) -> None:
    name = f"depth; magenta: missing {100 * summary.missing:.1f} %" if hidden.any() else "depth, nothing missing"
    colors = colormaps[DEPTH_MAP].with_extremes(bad=MISSING_COLOR)
    limits = (summary.nearest, max(summary.farthest, summary.nearest + 0.01))
    bar = _draw_values(axes, name, np.ma.array(depth, mask=hidden), colors, limits)
    bar.ax.set_title("m", fontsize=8, pad=4)


def _draw_normals(axes: Axes, normals: np.ndarray, bare: np.ndarray) -> None:
    colors = np.where(bare[..., None], 0.0, (np.nan_to_num(normals) + 1) / 2)
    _draw_picture(axes, "normals, (n + 1) / 2" + ("; black: none" if bare.any() else ""), np.clip(colors, 0, 1))


def _draw_channels(panels: list[Axes], image: np.ndarray, bare: np.ndarray) -> None:
    """The three channels in the units they stand for."""
    bar = _draw_values(panels[0], "disparity: 31000 / depth in cm", image[..., 0], colormaps[DEPTH_MAP], (0, 255))
    bar.set_ticks(list(DISPARITY_TICKS), labels=list(DISPARITY_TICKS.values()))
    bar = _draw_values(panels[1], "height above ground", image[..., 1], colormaps[HEIGHT_MAP], (0, 255))
    bar.set_ticks([0, 50, 100, 150, 200, 255], labels=["0 cm", "50", "100", "150", "200", "255 up"])
    name = "angle of normal to gravity" + ("; black: none" if bare.any() else "")
    degrees = np.ma.array(image[..., 2].astype(float) - (128 - 90), mask=bare)
    bar = _draw_values(panels[2], name, degrees, colormaps[ANGLE_MAP].with_extremes(bad="black"), (0, 180))
    bar.set_ticks(
        [0, 45, 90, 135, 180], labels=["0\u00b0 floor", "45\u00b0", "90\u00b0 wall", "135\u00b0", "180\u00b0"]
    )


def _draw_ground(axes: Axes, depth: np.ndarray, color: np.ndarray | None, ground: np.ndarray) -> None:
    """The frame in grey, the pixels near the ground tinted."""
    if color is None:
        grey = 1 - depth / depth.max()
    else:
        grey = color @ np.array([0.299, 0.587, 0.114]) / 255
    picture = np.repeat(grey[..., None], 3, axis=-1)
    picture[ground] = 0.5 * picture[ground] + 0.5 * np.array(to_rgb(GROUND_COLOR))
    _draw_picture(axes, "gravity, and ground within 10 cm", np.clip(picture, 0, 1))


def _draw_gravity(axes: Axes, gravity: np.ndarray, camera: Camera, shape: tuple[int, ...], distance: float) -> None:
    """Down, as an arrow of the scene seen by the camera: it begins on the ray of the image's centre."""
    height, width = shape
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    focal = np.array([camera.fx, camera.fy])
    middle = np.array([camera.cx, camera.cy]) - camera.origin
    start = np.append((center - middle) / focal, 1.0) * distance
    end = start + gravity * distance * min(0.5, 0.3 * height / camera.fy)
    tip = end[:2] / end[2] * focal + middle
    arrow = FancyArrowPatch(
        (center[0], center[1]), (tip[0], tip[1]), arrowstyle="-|>", mutation_scale=18, color=GRAVITY_COLOR,
        linewidth=3, shrinkA=0, shrinkB=0, path_effects=[withStroke(linewidth=5, foreground="black")],
    )  # fmt: skip
    axes.add_patch(arrow)
    axes.plot(*center, "o", color=GRAVITY_COLOR, markeredgecolor="black", markersize=7)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _draw_views(views: list[Axes], parts: HHA, known: np.ndarray, camera: Camera) -> None:
    """Some measured points seen from the side and from behind the camera, turned upright, with the ground at 0."""
    chosen = np.flatnonzero(known)
    if chosen.size > SCATTER_POINTS:
        chosen = np.random.default_rng(0).choice(chosen, SCATTER_POINTS, replace=False)
    right, _, forward = (parts.points.reshape(-1, 3)[chosen] @ parts.rotation).T
    height, eye = parts.height.reshape(-1)[chosen], -float(parts.ground)
    colors = np.where(np.abs(height) <= GROUND_BAND, "#009e44", "0.35")
    for axes, across in zip(views, (forward, right), strict=True):
        axes.axhspan(-GROUND_BAND, GROUND_BAND, color=GROUND_COLOR, alpha=0.2, linewidth=0)
        axes.axhline(0, color=GROUND_COLOR, linewidth=1.5)
        axes.scatter(across, height, s=2, c=colors, linewidths=0)
        axes.plot(0, eye, "s", color=CAMERA_COLOR, markersize=6)
        axes.grid(linewidth=0.4, color="0.85")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    _draw_sight(views[0], parts.rotation, eye, camera, known.shape)
    _set_limits(views[0], forward, height, eye, centered=False)
    _set_limits(views[1], right, height, eye, centered=True)
    views[0].set_title("side: forward and height, m; blue: camera, its axis and rows", fontsize=10, loc="left", pad=4)
    views[1].set_title("from behind: right and height, m", fontsize=10, loc="left", pad=4)


def _draw_sight(axes: Axes, rotation: np.ndarray, eye: float, camera: Camera, shape: tuple[int, ...]) -> None:
    """The optical axis, and the rays of the first and last row at the principal column."""
    first, last = ((row + camera.origin - camera.cy) / camera.fy for row in (0, shape[0] - 1))
    for slope, style in ((first, ":"), (0.0, "--"), (last, ":")):
        down, ahead = (np.array([0.0, slope, 1.0]) @ rotation)[1:]
        far = 100 / math.hypot(down, ahead)
        axes.plot([0, far * ahead], [eye, eye - far * down], style, color=CAMERA_COLOR, linewidth=1, scalex=False)


def _set_limits(axes: Axes, across: np.ndarray, height: np.ndarray, eye: float, *, centered: bool) -> None:
    """One scale for both axes, holding the camera and all but the outermost points; spare room goes right and up."""
    (left, right), (low, high) = (np.percentile(values, (0.2, 99.8)) for values in (across, height))
    left, right, low, high = min(left, 0) - 0.2, max(right, 0) + 0.2, min(low, 0) - 0.2, max(high, eye) + 0.2
    box = axes.bbox.size
    scale = max((right - left) / box[0], (high - low) / box[1])
    spare = scale * box[0] - (right - left)
    left -= spare / 2 if centered else 0
    axes.set_xlim(left, left + scale * box[0])
    axes.set_ylim(low, low + scale * box[1])


def _draw_notes(axes: Axes, summary: Summary, camera: Camera, shape: tuple[int, ...]) -> None:
    axes.set_axis_off()
    gravity, tilt, ground, missing, depth = summary.lines()
    lines = [
        gravity,
        *tilt.split("; "),
        *ground.replace(" (", "\n  (").split("\n"),
        missing,
        depth,
        f"size: {shape[1]} x {shape[0]}",
        f"camera: fx {camera.fx:.2f}, fy {camera.fy:.2f}",
        f"  cx {camera.cx:.2f}, cy {camera.cy:.2f}, from {camera.origin}",
    ]
    for index, line in enumerate(lines):
        color = "#d00000" if "doubtful" in line or "assumed" in line else "black"
        axes.text(0, 1 - 0.085 * index, line, fontsize=9, va="top", color=color, transform=axes.transAxes)
