"""Measurements behind ``tools/bench.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from caffe_compat.commands.measurements.help_times import help_times
from caffe_compat.commands.measurements.settings import OnnxSettings
from caffe_compat.errors import UsageError, nearest

__all__ = ["BENCHMARKS", "OnnxSettings", "report"]

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
)


def report(which: Sequence[str], rounds: int, threads: int = 0, settings: OnnxSettings | None = None) -> int:
    """Run the benchmarks named (all by default) and print a line for each measurement."""
    import torch

    from caffe_compat.commands.measurements import measure

    for name in which:
        if name not in BENCHMARKS:
            raise UsageError(f"no benchmark '{name}', expected {', '.join(BENCHMARKS)}{nearest(name, BENCHMARKS)}")
    if rounds < 1:
        raise UsageError(f"--rounds is {rounds}, expected 1 or more")
    if threads:
        torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'measurement':56s} {'ours':>9s} {'peer':>9s} {'ratio':>7s}  target")
    settings = settings or OnnxSettings()
    onnx = partial(measure.onnx if settings.gpu is None else measure.onnx_gpu, wanted=settings)
    own: dict[str, Callable[[int], Iterable[Any]]] = {"onnx": onnx, "help": help_times}
    for name in which or BENCHMARKS:
        function = own.get(name) or getattr(measure, name)
        for found in function(rounds):
            if isinstance(found, str):
                print(found, flush=True)
                continue
            label, mine, theirs, ratio, target = found
            print(f"{label:56s} {mine:8.4f}s {theirs:8.4f}s {ratio:7.3f}  {target}", flush=True)
    return 0
