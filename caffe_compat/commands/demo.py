"""Supervision transfer end to end on a generated data set, with the project's own tools.

A small net learns solid shapes from labelled colour pictures; its pool5 teaches a net for depth (HHA) on unlabelled
pairs; student below and teacher above then label depth pictures that nobody ever labelled, also in ONNX Runtime.

Files go to data/demo and output/demo, of the checkout or, where the package is installed, of the current folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from caffe_compat.commands.flags import add_amp
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.ranks import require_alone
from caffe_compat.resources import checkout


def make_parser() -> argparse.ArgumentParser:
    """How often."""
    p = Parser(__doc__)
    p.add_argument("--seeds", type=int, default=1, help="how many seeds to run (default: %(default)s)")
    p.add_argument("--small", action="store_true", help="few pictures and iterations, in a minute: shows that all "
                   "steps run here, not what supervision transfer reaches")  # fmt: skip
    add_amp(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run all steps and print the table; 1 if the transfer gained less than it should."""
    require_alone("demo")
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.demo_run import FIRST_SEED, FULL, SMALL, Demo, table

    if args.seeds < 1:
        raise UsageError(f"--seeds is {args.seeds}, expected 1 or more")
    start = time.perf_counter()
    folder = checkout() or Path.cwd()
    demos = [Demo(folder, FIRST_SEED + index, SMALL if args.small else FULL, args.amp) for index in range(args.seeds)]
    results = [demo.run() for demo in demos]
    print(f"\n{table(results)}")
    output = folder / demos[0].output
    output = output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output
    print(f"Filters: {output / 'conv1.png'}   ONNX: {output / 'franken.onnx'}")
    print(f"{time.perf_counter() - start:.0f} s")
    margin = min(result.franken - result.copied for result in results)
    if margin < 0.2 and not args.small:
        print(f"the franken net beats the copied weights by {100 * margin:.1f} points only", file=sys.stderr)
        return 1
    return 0
