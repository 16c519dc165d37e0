"""What is printed of a contest between runtimes of one net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from caffe_compat.commands.measurements.contest import Contestant, Result, contest
from caffe_compat.compare import difference

__all__ = ["EAGER", "Call", "Row", "ratio_row", "rows_of"]

Row = tuple[str, float, float, float, str]
Call = Callable[[], Any]
"""Computes once and gives the outputs in the entry's order: arrays or tensors, in a list or by name."""
EAGER = "torch, eager"
"""The one whose outputs are taken for right."""


def rows_of(what: str, calls: Mapping[str, Call], images: int, seconds: float) -> Iterator[Row | str]:
    """Percentiles of all, and how far their outputs are off; our ratio to each of the others.

    Args:
        calls: by label; the first is ours, the second what it has to reach, and one is ``EAGER``.
        images: that a call takes.
    """
    outputs = {label: _flat(call()) for label, call in calls.items()}
    results = contest([Contestant(label, call) for label, call in calls.items()], seconds)
    yield f"{what}, {len(results[0].seconds)} rounds"
    for result in results:
        pairs = zip(outputs[result.label], outputs[EAGER], strict=True)
        far = max(difference(got, expected).relative for got, expected in pairs)
        yield result.line(images) + ("" if result.label == EAGER else f", {far:.0e} off")
    for number, peer in enumerate(results[1:]):
        yield ratio_row(results[0], peer, "" if number else "<= 1.00")


def ratio_row(ours: Result, peer: Result, target: str) -> Row:
    """The line of a ratio: its median over the rounds, with quartiles, and those of shortest times and of CPU time."""
    low, high = ours.quartiles(peer)
    more = f"{low:.2f} to {high:.2f}, minima {ours.best_ratio(peer):.2f}, CPU {ours.cpu_ratio(peer):.2f}"
    label = f"  by {peer.label} ({more})"
    return label, ours.median, peer.median, ours.ratio(peer), target


def _flat(found: Mapping[str, Any] | Sequence[Any]) -> list[np.ndarray]:
    values = found.values() if isinstance(found, Mapping) else found
    return [np.ravel(value.cpu().numpy() if isinstance(value, Tensor) else value) for value in values]
