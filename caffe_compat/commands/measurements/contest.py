"""Several ways of doing one thing, timed in turns, and what is said of them: percentiles, throughput, ratios."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LEAST", "Contestant", "Result", "contest"]

LEAST, MOST = 3, 400
"""Rounds of a contest, however long or short one takes."""


@dataclass(frozen=True)
class Contestant:
    """One way: what it is called, and what does it once."""

    label: str
    call: Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Seconds of one way in every round: on the clock, and of the processor."""

    label: str
    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Result) -> float:
        """This one's time by the other's: the median over rounds, so that what slows both down does not count."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))

    def quartiles(self, other: Result) -> tuple[float, float]:
        """Between which half of the rounds' ratios lie."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return float(np.percentile(ratios, 25)), float(np.percentile(ratios, 75))

    def best_ratio(self, other: Result) -> float:
        """The same of the shortest times."""
        return min(self.seconds) / min(other.seconds)

    def cpu_ratio(self, other: Result) -> float:
        """The same of the processor's time, in which others that use its cores do not count."""
        return statistics.median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))

    def line(self, images: int) -> str:
        """Percentiles in milliseconds, and images per second at the median."""
        middle, ninety, last = (1e3 * float(np.percentile(self.seconds, percent)) for percent in (50, 90, 99))
        numbers = f"p50 {middle:8.2f}  p90 {ninety:8.2f}  p99 {last:8.2f} ms {images / self.median:9.1f} images/s"
        return f"  {self.label:34s} {numbers}"


def contest(contestants: Sequence[Contestant], seconds: float) -> list[Result]:
    """Time all of them, in a new order every round, for about so many seconds and at least ``LEAST`` rounds.

    Each runs once before anything counts; that round says how many fit.
    """
    start = time.perf_counter()
    for one in contestants:
        one.call()
    warm = time.perf_counter() - start
    order, shuffle = list(range(len(contestants))), random.Random(0).shuffle
    times: list[list[tuple[float, float]]] = [[] for _ in contestants]
    end = time.perf_counter() + seconds - warm
    while len(times[0]) < LEAST or (len(times[0]) < MOST and time.perf_counter() < end):
        shuffle(order)
        for index in order:
            start, cpu = time.perf_counter(), time.process_time()
            contestants[index].call()
            times[index].append((time.perf_counter() - start, time.process_time() - cpu))
    pairs = [tuple(zip(*taken, strict=True)) for taken in times]
    return [Result(one.label, seconds, cpu) for one, (seconds, cpu) in zip(contestants, pairs, strict=True)]
