"""A table of differences in the order of a net, and the verdict: the first that is beyond the tolerance."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_compat.compare.arrays import Difference

__all__ = ["Comparison", "Row"]


@dataclass(frozen=True)
class Row:
    """One blob right after one layer."""

    layer: str
    type: str
    blob: str
    difference: Difference

    @property
    def place(self) -> str:
        """For messages."""
        return f"layer '{self.layer}' ({self.type}), blob '{self.blob}'"


@dataclass(frozen=True)
class Comparison:
    """All rows in the order of the net."""

    rows: tuple[Row, ...]
    tolerance: float

    @property
    def first(self) -> Row | None:
        """The first blob beyond the tolerance; None if all agree."""
        return next((row for row in self.rows if not row.difference.within(self.tolerance)), None)

    def lines(self) -> list[str]:
        """A table, and the verdict."""
        width = max((len(row.layer) for row in self.rows), default=0)
        blob_width = max((len(row.blob) for row in self.rows), default=0)
        lines = [f"{'layer':<{width}}  {'blob':<{blob_width}}  {'max abs':>9}  {'max rel':>9}"]
        for row in self.rows:
            found = row.difference
            mark = "" if found.within(self.tolerance) else "  <- " + (found.note or "beyond the tolerance")
            numbers = f"{found.absolute:9.3g}  {found.relative:9.3g}"
            lines.append(f"{row.layer:<{width}}  {row.blob:<{blob_width}}  {numbers}{mark}")
        first = self.first
        if first is None:
            return [*lines, f"{len(self.rows)} blobs agree within {self.tolerance:g}"]
        return [*lines, f"first divergence: {first.place}: {first.difference} (tolerance {self.tolerance:g})"]
