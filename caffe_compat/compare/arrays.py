"""How far two arrays are apart; the rules that every comparison of the package follows.

A difference is taken relative to the largest magnitude of what was expected, so that one tolerance serves blobs of any
scale.  NaN equals nothing, not even NaN: two nets that both compute it agree about nothing.  An infinity equals itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["TOLERANCE", "Difference", "difference", "nan_in", "worst"]

TOLERANCE = 1e-4
"""Largest relative difference of two right implementations in float32, by default."""


@dataclass(frozen=True)
class Difference:
    """How far an array is from what was expected.

    Attributes:
        absolute: largest absolute difference; infinite for another shape, a NaN, or an infinity on one side only.
        relative: the same divided by the largest finite magnitude of what was expected.
        shapes: the shapes that were compared.
        note: what makes the difference infinite, such as how many values are NaN; else empty.
    """

    absolute: float
    relative: float
    shapes: tuple[tuple[int, ...], ...] = ()
    note: str = ""

    def within(self, tolerance: float) -> bool:
        """Whether the arrays agree; never if one holds NaN, whatever the tolerance."""
        return not self.note and self.relative <= tolerance

    def __str__(self) -> str:
        return self.note or f"{self.absolute:.3g} absolute, {self.relative:.3g} relative"


def difference(got: np.ndarray, expected: np.ndarray) -> Difference:
    """Compare two arrays of numbers."""
    if got.shape != expected.shape:
        note = f"shape {list(got.shape)}, the reference has {list(expected.shape)}"
        return Difference(np.inf, np.inf, (got.shape,), note)
    mine, theirs = got.astype(np.float64), expected.astype(np.float64)
    note = _nan_note(mine, theirs) or _infinity_note(mine, theirs)
    if note:
        return Difference(np.inf, np.inf, (got.shape,), note)
    with np.errstate(invalid="ignore"):  # equal infinities
        absolute = float(np.where(mine == theirs, 0.0, np.abs(mine - theirs)).max(initial=0.0))
    largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0))
    return Difference(absolute, absolute / largest if largest else absolute, (got.shape,))


def nan_in(values: np.ndarray) -> Difference | None:
    """What is wrong with values that nothing is known about: that some are NaN; None if none is."""
    number = int(np.isnan(values).sum())
    return Difference(np.inf, np.inf, (values.shape,), f"{number} of {values.size} values are NaN") if number else None


def worst(found: Sequence[Difference]) -> Difference:
    """The largest of some differences of one thing, with the shapes of all and the first note.

    Raises:
        ValueError: there is none.
    """
    return Difference(
        max(one.absolute for one in found),
        max(one.relative for one in found),
        tuple(shape for one in found for shape in one.shapes),
        next((one.note for one in found if one.note), ""),
    )


def _nan_note(mine: np.ndarray, theirs: np.ndarray) -> str:
    counts = int(np.isnan(mine).sum()), int(np.isnan(theirs).sum())
    return f"{counts[0]} of {mine.size} values are NaN, in the reference {counts[1]}" if any(counts) else ""


def _infinity_note(mine: np.ndarray, theirs: np.ndarray) -> str:
    apart = int(((np.isinf(mine) | np.isinf(theirs)) & (mine != theirs)).sum())
    return f"inf absolute: {apart} of {mine.size} values are infinite on one side only" if apart else ""
