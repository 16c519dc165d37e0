"""Which rows and columns of a layer's bottom some of its top depend on: what receptive fields are made of."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NOTHING", "Span", "Spans", "window_reach"]

Span = tuple[int, int]
"""First and last row, or column; beyond the map where a window reaches into padding.  None if the last is smaller."""
Spans = tuple[Span, Span]
"""Rows and columns."""
NOTHING: Spans = ((0, -1), (0, -1))


def window_reach(spans: Spans, extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> Spans:
    """What windows read that slide over height and width, at the positions ``spans``.

    Args:
        extent: pixels from a window's first to its last, per axis; dilation counted.
        stride, pad: of the positions, and how far the first lies before the map.
    """
    rows, columns = (
        (first * step - before, last * step - before + side - 1)
        for (first, last), side, step, before in zip(spans, extent, stride, pad, strict=True)
    )
    return rows, columns
