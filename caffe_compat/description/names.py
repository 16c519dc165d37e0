"""Names that nothing has yet."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["UniqueNames"]


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
