"""Two ways of doing one thing, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["alternate"]


def alternate(ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, run in turns after one warm-up each, and the median of the per-round ratios."""
    ours(), peer()
    mine: list[float] = []
    theirs: list[float] = []
    for index in range(rounds):
        pair = [(ours, mine), (peer, theirs)]
        for function, times in pair if index % 2 == 0 else reversed(pair):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return statistics.median(mine), statistics.median(theirs), ratio
