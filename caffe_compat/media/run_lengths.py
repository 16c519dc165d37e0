"""Masks as COCO's run lengths: ``{"size": [height, width], "counts": "..."}``.

Source: ``maskApi.c`` of pycocotools, which reads and writes the same.  Runs go down the columns, the first is of pixels
outside the mask.  Each length, from the fourth on less the one before the last, is written in groups of five bits, the
lowest first, a sixth says whether more follow, and 48 makes them printable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from caffe_compat.errors import DataError

__all__ = ["mask_of_runs", "run_lengths"]

_BITS, _SIGN, _MORE, _FIRST = 5, 16, 32, 48
_LAST = _FIRST + 2 * _MORE - 1
_LIMIT = 1 << 32


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask as JSON holds it.

    Args:
        mask: bool [H, W].

    Raises:
        DataError: not such an array.
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise DataError(f"a mask is {mask.dtype} of shape {mask.shape}, expected bool [H, W]")
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [int(side) for side in mask.shape], "counts": _text(counts.tolist())}


def mask_of_runs(runs: Mapping[str, Any]) -> np.ndarray:
    """The mask, bool [H, W].

    Args:
        runs: ``size``, and ``counts`` as a text or, as in COCO's own files of crowds, as a list of lengths.

    Raises:
        DataError: run lengths that are damaged, or do not fill the size.
    """
    size, counts = runs.get("size"), runs.get("counts")
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n >= 0 for n in size)):
        raise DataError(f"run lengths: size is {size!r}, expected [height, width]")
    lengths = counts if isinstance(counts, list) else _numbers(counts)
    if not all(type(n) is int and 0 <= n < _LIMIT for n in lengths) or sum(lengths) != size[0] * size[1]:
        raise DataError(f"run lengths: counts do not fill {size[1]} x {size[0]} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size, order="F")


def _text(counts: list[int]) -> str:
    found = []
    for number, count in enumerate(counts):
        left = count - counts[number - 2] if number > 2 else count
        more = True
        while more:
            group = left & (_MORE - 1)
            left >>= _BITS
            more = left != (-1 if group & _SIGN else 0)
            found.append(chr(_FIRST + group + (_MORE if more else 0)))
    return "".join(found)


def _numbers(text: Any) -> list[int]:
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not isinstance(text, str):
        raise DataError(f"run lengths: counts are {type(text).__name__}, expected a text or a list")
    found: list[int] = []
    value = shift = 0
    for letter in text:
        if not _FIRST <= ord(letter) <= _LAST:
            raise DataError(f"run lengths: counts hold {letter!r}")
        group = ord(letter) - _FIRST
        value |= (group & (_MORE - 1)) << shift
        shift += _BITS
        if not group & _MORE:
            value -= (1 << shift) if group & _SIGN else 0
            found.append(value + found[-2] if len(found) > 2 else value)
            value = shift = 0
    if shift:
        raise DataError("run lengths: counts end within a number")
    return found
