"""Measurements behind ``tools/bench.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from caffe_compat.commands.measurements.help_times import help_times
from caffe_compat.commands.measurements.machine import machine
from caffe_compat.commands.measurements.settings import OnnxSettings, ScaleSettings
from caffe_compat.errors import UsageError, nearest

__all__ = ["BENCHMARKS", "OnnxSettings", "ScaleSettings", "report"]

BENCHMARKS = (
    "forward",
    "compile",
    "transfer",
    "transfer_gpu",
    "solver",
    "weights",
    "onnx",
    "roi",
    "build",
    "hha",
    "flow",
    "evaluation",
    "loader",
    "detector",
    "testing",
    "proposals",
    "sds",
    "help",
    "scale",
)
ALONE, AMONG = 20.0, 2.0
"""Seconds that a size of a curve may take, if curves are all that is measured, and among other benchmarks."""

HEAD = f"{'measurement':56s} {'ours':>9s} {'peer':>9s} {'ratio':>7s}  target"


def report(
    which: Sequence[str],
    rounds: int,
    threads: int = 0,
    settings: OnnxSettings | None = None,
    curves: ScaleSettings | None = None,
) -> int:
    """Run the benchmarks named (all by default), print a line for each measurement, and last a table of all ratios
    with what they were measured on."""
    import torch

    for name in which:
        if name not in BENCHMARKS:
            raise UsageError(f"no benchmark '{name}', expected {', '.join(BENCHMARKS)}{nearest(name, BENCHMARKS)}")
    if rounds < 1:
        raise UsageError(f"--rounds is {rounds}, expected 1 or more")
    if threads:
        torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(HEAD)
    functions = _functions(settings or OnnxSettings(), curves or ScaleSettings(), alone=tuple(which) == ("scale",))
    lines = []
    for name in which or BENCHMARKS:
        for found in functions[name](rounds):
            if isinstance(found, str):
                print(found, flush=True)
                continue
            label, mine, theirs, ratio, target = found
            lines.append(f"{label:56s} {mine:8.4f}s {theirs:8.4f}s {ratio:7.3f}  {target}")
            print(lines[-1], flush=True)
    print(f"\nmeasured on {machine()}, {torch.get_num_threads()} threads")
    if len(which) != 1 and lines:
        print("\n".join([HEAD, *lines]))
    return 0


def _functions(
    settings: OnnxSettings, curves: ScaleSettings, alone: bool
) -> Mapping[str, Callable[[int], Iterable[Any]]]:
    """What each benchmark runs, given the number of rounds."""
    from caffe_compat.commands.measurements import measure
    from caffe_compat.commands.measurements.scale import scale

    most = (ALONE if alone else AMONG) if curves.seconds is None else curves.seconds
    own: dict[str, Callable[[int], Iterable[Any]]] = {
        "onnx": partial(measure.onnx if settings.gpu is None else measure.onnx_gpu, wanted=settings),
        "help": help_times,
        "scale": lambda rounds: scale(curves, most),
    }
    return {name: own.get(name) or getattr(measure, name) for name in BENCHMARKS}
