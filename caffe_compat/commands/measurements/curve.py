"""What a thing costs as it grows: seconds of the processor and bytes at several sizes, and the exponent."""

from __future__ import annotations

import ctypes
import gc
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Curve", "Measured", "exponent", "head", "measure", "row"]

ENOUGH = 0.2
"""Seconds after which a size is not repeated."""
SHORT = 2e-3
"""Seconds below which a size says nothing of an exponent: what does not grow dominates."""
SMALL = 4 << 20
"""The same of memory, in bytes: the heap of the process grows in steps."""
TOO_STEEP = 1.2
"""An exponent from which on a curve is called steeper than linear."""


@dataclass(frozen=True)
class Curve:
    """One thing that grows.

    Attributes:
        group: curves of one group share a picture.
        label: what is done.
        unit: of which there are more and more.
        sizes: how many, rising.
        prepare: makes, in a folder of its own, what is done once for a size.
    """

    group: str
    label: str
    unit: str
    sizes: tuple[int, ...]
    prepare: Callable[[int, Path], Callable[[], object]]


@dataclass
class Measured:
    """A curve with its costs.

    Attributes:
        seconds: of the processor, one for each size that was reached.
        memory: bytes by which the largest size of the process grew; NaN where that cannot be found out.
        left_out: sizes that would have taken too long.
    """

    curve: Curve
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    left_out: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those that were reached."""
        return self.curve.sizes[: len(self.seconds)]

    @property
    def growth(self) -> float:
        """The exponent of the time; NaN where it is too short to tell."""
        return exponent(self.sizes, self.seconds, SHORT)

    @property
    def memory_growth(self) -> float:
        """The exponent of the memory; NaN where it is too little to tell."""
        return exponent(self.sizes, self.memory, SMALL, 3)


def exponent(sizes: Sequence[int], costs: Sequence[float], least: float, few: int = 2) -> float:
    """p of ``cost = c * size ** p``, by least squares of the logarithms over the last (up to four) costs of ``least``
    or more; NaN of less than ``few``."""
    found = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if cost >= least][-4:]
    if len(found) < few:
        return math.nan
    across, up = np.log(np.array(found, float)).T
    return float(np.polyfit(across, up, 1)[0])


def measure(curve: Curve, folder: Path, most: float) -> Measured:
    """Run a curve, size by size, up to those that would take more than ``most`` seconds."""
    found = Measured(curve)
    for number, size in enumerate(curve.sizes):
        if number and _forecast(found, size) > most:
            found.left_out = curve.sizes[number:]
            break
        place = folder / f"{number}"
        place.mkdir(parents=True)
        run = curve.prepare(size, place)
        if not number:
            run()  # what is done once in a process is no part of the curve
        seconds, grown = _once(run)
        del run
        shutil.rmtree(place)
        found.seconds.append(seconds)
        found.memory.append(grown)
    return found


def _forecast(found: Measured, size: int) -> float:
    """Seconds that a size will take, if the curve goes on as it did."""
    slope = found.growth
    power = 1.0 if math.isnan(slope) else max(slope, 1.0)
    return float(found.seconds[-1] * (size / found.sizes[-1]) ** power)


def _once(run: Callable[[], object]) -> tuple[float, float]:
    """The least seconds of several calls, and the bytes by which the first made the process grow."""
    gc.collect()
    _trim()
    before = _status("VmRSS") if _forget_peak() else math.nan
    taken = [_timed(run)]
    grown = _status("VmHWM") - before
    while sum(taken) < ENOUGH and len(taken) < 5:
        taken.append(_timed(run))
    return min(taken), grown


def _timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    result = run()
    seconds = time.process_time() - start
    del result
    return seconds


def _trim() -> None:
    """Give free memory back to the system, so that what is taken anew is seen."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _forget_peak() -> bool:
    """Let the kernel forget how large this process was; False where it does not."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write("5")
    except OSError:
        return False
    return True


def _status(key: str) -> float:
    with open("/proc/self/status", encoding="ascii") as stream:
        return next(float(line.split()[1]) * 1024 for line in stream if line.startswith(key))


def head() -> str:
    """Of a table of curves: the sizes, the costs at the largest, what one more costs, and the exponents."""
    return (
        f"{'what grows':62s} {'from':>8s} {'to':>10s} {'seconds':>9s} {'us each':>9s} {'exponent':>8s} "
        f"{'MB':>8s} {'bytes each':>10s} {'exponent':>8s}"
    )


def row(one: Measured) -> str:
    """A curve's line of that table."""
    first, last = one.sizes[0], one.sizes[-1]
    notes = ["steeper than linear"] * (one.growth > TOO_STEEP or one.memory_growth > TOO_STEEP)
    notes += [f"left out: {', '.join(map(str, one.left_out))}"] * bool(one.left_out)
    seconds, memory = one.seconds[-1], one.memory[-1]
    what = f"{one.curve.label}, {one.curve.unit}"
    return (
        f"{what:62s} {first:8d} {last:10d} {seconds:9.4f} {1e6 * seconds / last:9.3f} "
        f"{_number(one.growth)} {_number(memory / 1e6, '8.1f')} {_number(memory / last, '10.1f')} "
        f"{_number(one.memory_growth)}  {'; '.join(notes)}"
    ).rstrip()


def _number(value: float, form: str = "8.2f") -> str:
    width = int(form.split(".")[0])
    return "-".rjust(width) if math.isnan(value) else format(value, form)
