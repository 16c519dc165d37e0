"""Tables as text: what ``print(net)`` and ``describe`` show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

__all__ = ["aligned", "sizes"]

WIDEST = 400
"""Characters that a column has at most: a cell with the thousand bottoms of one layer does not widen all rows."""


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """Columns as wide as their widest cell, under a ruled head; one line a row, with a newline after the last.

    A cell beyond :data:`WIDEST` pushes the rest of its line to the right.

    Args:
        numbers: columns that are written at the right.
    """
    widths = [min(max(len(row[column]) for row in [head, *rows]), WIDEST) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines) + "\n"


def sizes(shapes: Iterable[Sequence[int]], once: bool = False) -> str:
    """Shapes as ``10x3x227x227, 10``; a shape without axes is ``scalar``.

    Args:
        once: name a shape that several have one time.
    """
    texts = ["x".join(map(str, shape)) or "scalar" for shape in shapes]
    return ", ".join(dict.fromkeys(texts) if once else texts)
