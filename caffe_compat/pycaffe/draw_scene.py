"""Drawings of nets without Graphviz: what is drawn where, and the same as SVG.

A layer is a box in the colour that it has with Graphviz, a blob a rounded one.  Layers that work in place stand
directly under their blob, dashed, in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from caffe_compat.pycaffe.layered import Point, arrange

__all__ = ["FONT", "LINE", "PAD", "SMALL", "Node", "Part", "Scene", "place", "svg_text"]

LINE = 15.0
"""Pixels from one line of text to the next."""
FONT, SMALL = 12.0, 10.5
"""Pixels: a part's first line, which is bold, and those below it."""
PAD, MARGIN, ARROW = 8.0, 16.0, 6.0
NARROW, WIDE = set("ijlIftr.,:;|!'()[]/ -"), set("mwMW%@")


@dataclass(frozen=True)
class Part:
    """A box with text.

    Attributes:
        lines: of text.
        fill: colour.
        round: a blob's.
        dashed: that of a layer in place.
    """

    lines: tuple[str, ...]
    fill: str
    round: bool = False
    dashed: bool = False

    @property
    def size(self) -> Point:
        """Width and height in pixels; the width suits every common font without serifs."""
        widths = [_width(line, SMALL if number else FONT * 1.1) for number, line in enumerate(self.lines)]
        return max(widths, default=0.0) + 2 * PAD, LINE * len(self.lines) + PAD


Node = Sequence[Part]
"""Parts that stand on each other."""


@dataclass(frozen=True)
class Scene:
    """What is drawn where, in pixels from the left and from the top.

    Attributes:
        parts: with left, top, width and height.
        ways: of the edges: a start, and for every further point the two control points and the point itself of a
            Bezier curve.
        heads: the triangles at the ends of the edges.
    """

    width: float
    height: float
    parts: tuple[tuple[Part, float, float, float, float], ...]
    ways: tuple[tuple[Point, ...], ...]
    heads: tuple[tuple[Point, Point, Point], ...]


def place(nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]], rankdir: str) -> Scene:
    """Lay nodes and edges out.

    Args:
        rankdir: where the graph runs to: LR, RL, TB or BT.
    """
    across_first = rankdir in ("TB", "BT")
    sizes = {name: _size(node) for name, node in nodes.items()}
    found = arrange({name: size if across_first else size[::-1] for name, size in sizes.items()}, edges)
    turned = rankdir in ("BT", "RL")

    def at(across: float, along: float) -> Point:
        along = found.length - along if turned else along
        x, y = (across, along) if across_first else (along, across)
        return x + MARGIN, y + MARGIN

    parts = []
    for name, box in found.boxes.items():
        x, y = at(box.across, box.along + box.length / 2)
        width, height = sizes[name]
        top = y - height / 2
        for part in nodes[name]:
            parts.append((part, x - width / 2, top, width, part.size[1]))
            top += part.size[1]
    ways, heads = [], []
    for way in found.ways:
        backwards = way[-1][1] < way[0][1]  # an edge of a cycle
        tip = -ARROW if backwards else ARROW
        end = (way[-1][0], way[-1][1] - tip)
        ways.append(tuple(at(*point) for point in _curve([*way[:-1], end])))
        sides = [(way[-1][0] + side * ARROW / 2, end[1]) for side in (-1, 1)]
        heads.append((at(*way[-1]), at(*sides[0]), at(*sides[1])))
    width, height = (found.breadth, found.length) if across_first else (found.length, found.breadth)
    return Scene(width + 2 * MARGIN, height + 2 * MARGIN, tuple(parts), tuple(ways), tuple(heads))


def svg_text(scene: Scene, title: str) -> str:
    """A scene as SVG, which holds nothing but shapes and text; ``title`` says what it is to those who do not see it."""
    width, height = f"{scene.width:.0f}", f"{scene.height:.0f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="DejaVu Sans, Verdana, Arial, sans-serif" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<g fill="none" stroke="#444" stroke-width="1.2">',
        *(f'<path d="{_path(way)}"/>' for way in scene.ways),
        "</g>",
        '<g fill="#444">',
        *(f'<path d="M{" L".join(_point(point) for point in head)} Z"/>' for head in scene.heads),
        "</g>",
    ]
    for part, left, top, width_, height_ in scene.parts:
        dashed = ' stroke-dasharray="4 3"' if part.dashed else ""
        corner = height_ / 2 if part.round else 3
        lines.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width_:.1f}" height="{height_:.1f}" rx="{corner:.1f}" '
            f'fill="{part.fill}" stroke="#222"{dashed}/>'
        )
        for number, text in enumerate(part.lines):
            look = f'font-size="{SMALL if number else FONT}"' + ("" if number else ' font-weight="bold"')
            y = top + PAD / 2 + LINE * (number + 0.75)
            lines.append(f'<text x="{left + width_ / 2:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _size(node: Node) -> Point:
    sizes = [part.size for part in node]
    return max(width for width, _ in sizes), sum(height for _, height in sizes)


def _width(text: str, size: float) -> float:
    """Pixels that text takes, or a little more."""
    units = sum(0.42 if one in NARROW else 0.98 if one in WIDE else 0.78 if one.isupper() else 0.65 for one in text)
    return units * size


def _curve(points: Sequence[Point]) -> Iterable[Point]:
    """A way with control points: it leaves and meets every point along the ranks."""
    yield points[0]
    for (across, along), (to_across, to_along) in zip(points, points[1:], strict=False):
        middle = (along + to_along) / 2
        yield from ((across, middle), (to_across, middle), (to_across, to_along))


def _path(way: Sequence[Point]) -> str:
    curves = [" ".join(map(_point, way[number : number + 3])) for number in range(1, len(way), 3)]
    return f"M{_point(way[0])} " + " ".join(f"C{curve}" for curve in curves)


def _point(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
