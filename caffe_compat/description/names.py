"""Names: fresh ones, and those that nets of a supervision transfer give to what they add."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["UniqueNames", "adaptation_of", "adapted", "scaled"]

_ADAPTATION, _SCALE = "adapt_", "scale_"


def adapted(feature: str) -> str:
    """The layer and the blob that take a student's feature to the teacher's: 1 x 1 convolution, then ReLU."""
    return _ADAPTATION + feature


def adaptation_of(name: str) -> str:
    """The teacher's feature that an adaptation of this name makes; empty: the name is of no adaptation."""
    return name.removeprefix(_ADAPTATION) if name.startswith(_ADAPTATION) else ""


def scaled(feature: str) -> str:
    """The layer and the blob that make a teacher's feature as large as one of the student's architecture."""
    return _SCALE + feature


class UniqueNames:
    """Gives every one a name of its own; the cost does not grow with how many asked for the same.

    Args:
        taken: names that are not free.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """``base`` itself if it is free, else ``base__2``, ``base__3``, ..."""
        name = base
        while name in self._taken:
            self._numbers[base] = self._numbers.get(base, 1) + 1
            name = f"{base}__{self._numbers[base]}"
        self._taken.add(name)
        return name
