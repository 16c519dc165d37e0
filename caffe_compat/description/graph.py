"""Passes over what computes something out of something: layers and blobs, nodes and values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

__all__ = ["ancestors"]

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def ancestors(
    items: Sequence[Item],
    wanted: Iterable[Key],
    makes: Callable[[Item], Iterable[Key]],
    reads: Callable[[Item], Iterable[Key]],
) -> tuple[list[Item], set[Key]]:
    """The items that some keys depend on, in order, and all keys that these read, with those that were wanted.

    Args:
        items: in the order of computation; of several that make one key all count.
        makes, reads: the keys that an item computes, and those it needs for that.
    """
    needed = set(wanted)
    found = []
    for item in reversed(items):
        if not needed.isdisjoint(makes(item)):
            found.append(item)
            needed.update(reads(item))
    return found[::-1], needed
