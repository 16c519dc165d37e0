"""Working on an image piece by piece, so that what is computed of a piece stays in the processor's cache."""

from __future__ import annotations

import torch

__all__ = ["image_tiles", "spans"]

ROWS, COLUMNS = 64, 800
"""Largest tile: small enough for the cache, large enough that its margins and the calls do not count."""
SPAN = 65536


def image_tiles(height: int, width: int, device: torch.device) -> list[tuple[slice, slice]]:
    """Rows and columns of the tiles that make up an image; one tile on a GPU."""
    if device.type != "cpu":
        return [(slice(0, height), slice(0, width))]
    return [(rows, columns) for rows in _parts(height, ROWS) for columns in _parts(width, COLUMNS)]


def spans(length: int, device: torch.device) -> list[slice]:
    """Pieces that make up ``length`` values; one piece on a GPU."""
    return _parts(length, SPAN if device.type == "cpu" else length)


def _parts(length: int, most: int) -> list[slice]:
    """Parts of ``length``, as few and as equal as can be with none above ``most``."""
    count = -(-length // most)
    return [slice(length * part // count, length * (part + 1) // count) for part in range(count)]
