"""Two ways of doing one thing, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["alternate"]


def alternate(
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Median seconds of both, run in turns after one warm-up each, and the median of the per-round ratios.

    Args:
        clock: ``time.process_time`` for the processor's time, which others on the machine disturb least.
    """
    ours(), peer()
    mine: list[float] = []
    theirs: list[float] = []
    for index in range(rounds):
        pair = [(ours, mine), (peer, theirs)]
        for function, times in pair if index % 2 == 0 else reversed(pair):
            start = clock()
            function()
            times.append(clock() - start)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return statistics.median(mine), statistics.median(theirs), ratio
