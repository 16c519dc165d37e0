"""Measurements behind ``tools/bench.py``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from caffe_compat.errors import UsageError, nearest

__all__ = ["BENCHMARKS", "alternate", "report"]

BENCHMARKS = ("forward", "transfer", "solver", "weights", "onnx", "build", "hha")


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


def report(which: Sequence[str], rounds: int, threads: int = 0) -> int:
    """Run the benchmarks named (all by default) and print a line for each measurement."""
    import torch

    from caffe_compat.bench import measure

    for name in which:
        if name not in BENCHMARKS:
            raise UsageError(f"no benchmark '{name}', expected {', '.join(BENCHMARKS)}{nearest(name, BENCHMARKS)}")
    if rounds < 1:
        raise UsageError(f"--rounds is {rounds}, expected 1 or more")
    if threads:
        torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'measurement':56s} {'ours':>9s} {'peer':>9s} {'ratio':>7s}  target")
    for name in which or BENCHMARKS:
        for label, mine, theirs, ratio, target in getattr(measure, name)(rounds):
            print(f"{label:56s} {mine:8.4f}s {theirs:8.4f}s {ratio:7.3f}  {target}", flush=True)
    return 0
