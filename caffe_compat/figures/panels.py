"""Pictures side by side, each with a title: filters of several nets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from caffe_compat.errors import UsageError
from caffe_compat.figures.filters import Filters, columns_for, mosaic

__all__ = ["Look", "Page", "draw_filters", "draw_panels", "sorted_like", "text_width", "wrap"]

FONT = 9.0
"""Points."""
GAP = 0.016
"""Inches between the tiles of a mosaic."""
LINE, ROOM, MARGIN = 0.17, 0.22, 0.06
"""Inches: a line of a title, between panels, around all of them."""


@dataclass(frozen=True)
class Look:
    """How panels are laid out.

    Attributes:
        width: inches of a panel, about: numbers are drawn as squares of a whole number of dots.
        columns: panels in a row; 0: all.
        dpi: dots per inch.

    Raises:
        UsageError: a number that makes no sense.
    """

    width: float = 2.2
    columns: int = 0
    dpi: int = 300

    def __post_init__(self) -> None:
        if not 0.2 <= self.width <= 40:
            raise UsageError(f"a panel is {self.width:g} inches wide, expected 0.2 to 40")
        if self.columns < 0:
            raise UsageError(f"{self.columns} columns, expected a positive number")
        if not 20 <= self.dpi <= 1200:
            raise UsageError(f"{self.dpi} dots per inch, expected 20 to 1200")


def draw_filters(filters: Sequence[Filters], look: Look | None = None, same_scale: str = "") -> Figure:
    """The filters of several nets side by side.

    Args:
        filters: of each net.
        same_scale: empty: every filter by itself, from its smallest to its largest number; ``net``: white, grey and
            black are the same numbers for all filters of a net, ``all``: of all nets.
    """
    largest: list[float | None] = [None] * len(filters)
    if same_scale:
        own = [float(np.abs(one.weight).max()) for one in filters]
        largest = [*own] if same_scale == "net" else [max(own)] * len(own)
    look = look or Look()
    pictures = [_mosaic(one.weight, most, look) for one, most in zip(filters, largest, strict=True)]
    return draw_panels(pictures, [one.title for one in filters], look)


def _mosaic(weight: np.ndarray, largest: float | None, look: Look) -> np.ndarray:
    """About as many dots wide as a panel is to be; a number is a square of a whole number of dots."""
    gap = max(1, round(GAP * look.dpi))
    channels, width = weight.shape[1], weight.shape[3]
    columns = columns_for(weight.shape, 20, gap)
    numbers = columns * (1 if channels == 3 else channels)
    times = max(1, round((look.width * look.dpi / numbers - gap) / width))
    return mosaic(weight, largest, columns=columns, times=times, gap=gap)


def sorted_like(filters: Sequence[Filters], first: bool = False) -> list[Filters]:
    """The filters of every net with the largest norms first.

    Args:
        first: in the order of the first net, so that filters that belong together stay in one place.

    Raises:
        UsageError: ``first``, and the nets have different numbers of filters.
    """
    counts = [len(one.weight) for one in filters]
    if first and len(set(counts)) > 1:
        raise UsageError(f"the nets have {', '.join(map(str, counts))} filters, expected equal numbers for one order")
    orders = [np.argsort(-np.square(one.weight).sum((1, 2, 3)), kind="stable") for one in filters]
    return [
        Filters(one.title, one.weight[orders[0] if first else order], one.layer, one.note)
        for one, order in zip(filters, orders, strict=True)
    ]


def draw_panels(pictures: Sequence[np.ndarray], titles: Sequence[str], look: Look) -> Figure:
    """Pictures in rows, each under its title.

    Args:
        pictures: float [H, W, 3], 0 to 1, or uint8; a pixel becomes a dot.
    """
    line, room, margin = (round(length * look.dpi) for length in (LINE, ROOM, MARGIN))
    columns = min(look.columns or len(pictures), len(pictures))
    wide = [max(picture.shape[1] for picture in pictures[column::columns]) for column in range(columns)]
    wrapped = [wrap(title, wide[number % columns], look.dpi) for number, title in enumerate(titles)]
    for number, lines in enumerate(wrapped):
        wide[number % columns] = max([wide[number % columns], *(text_width(words, look.dpi) for words in lines)])
    rows = range(0, len(pictures), columns)
    heads = [max(len(lines) for lines in wrapped[row : row + columns]) * line + margin for row in rows]
    tall = [max(picture.shape[0] for picture in pictures[row : row + columns]) for row in rows]
    page = Page(
        sum(wide) + room * (columns - 1) + 2 * margin,
        sum(heads) + sum(tall) + room * (len(rows) - 1) + 2 * margin,
        look,
    )
    top = margin
    for row, head, high in zip(rows, heads, tall, strict=True):
        left = margin
        for number in range(row, min(row + columns, len(pictures))):
            width = wide[number - row]
            page.show(pictures[number], left + (width - pictures[number].shape[1]) // 2, top + head)
            page.write("\n".join(wrapped[number]), left + width / 2, top + head - margin, ha="center", va="bottom")
            left += width + room
        top += head + high + room
    return page.figure


class Page:
    """A figure on which things are placed by dots, from the left and from the top."""

    def __init__(self, width: int, height: int, look: Look) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / look.dpi, height / look.dpi), dpi=look.dpi)

    def show(self, picture: np.ndarray, left: int, top: int) -> None:
        """A picture, a dot for each pixel."""
        high, wide = picture.shape[:2]
        axes = self.figure.add_axes(
            (left / self.width, 1 - (top + high) / self.height, wide / self.width, high / self.height)
        )
        axes.imshow(picture, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    def write(self, text: str, x: float, y: float, **how: Any) -> None:
        """Text as it is: a dollar sign is one."""
        how = {"fontsize": FONT, **how}
        self.figure.text(x / self.width, 1 - y / self.height, text, parse_math=False, **how)


def text_width(text: str, dpi: int, size: float = FONT) -> int:
    """Dots that a line of text is wide."""
    if not text.strip():
        return 0
    points = float(TextPath((0, 0), text, size=size).get_extents().x1)
    return math.ceil(points * dpi / 72) + 1


def wrap(text: str, width: int, dpi: int) -> list[str]:
    """Lines that are at most so many dots wide, if no word is wider."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, dpi) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
