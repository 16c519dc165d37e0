#!/usr/bin/env python3
"""Supervision transfer end to end on a generated data set, with the project's own tools.

A small net learns solid shapes from labelled colour pictures; its pool5 teaches a net for depth (HHA) on unlabelled
pairs; student below and teacher above then label depth pictures that nobody ever labelled, also in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from caffe_compat.cli import run
from caffe_compat.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Run all steps and print the table; 1 if the transfer gained less than it should."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=1, help="how many seeds to run (default: %(default)s)")
    args = p.parse_args(argv)
    from caffe_compat.transfer.demo import FIRST_SEED, Demo, table

    if args.seeds < 1:
        raise UsageError(f"--seeds is {args.seeds}, expected 1 or more")
    start = time.perf_counter()
    root = Path(__file__).resolve().parents[1]
    demos = [Demo(root, FIRST_SEED + index) for index in range(args.seeds)]
    results = [demo.run() for demo in demos]
    print(f"\n{table(results)}")
    print(f"Filters: {demos[0].output / 'conv1.png'}   ONNX: {demos[0].output / 'franken.onnx'}")
    print(f"{time.perf_counter() - start:.0f} s")
    margin = min(result.franken - result.copied for result in results)
    if margin < 0.2:
        print(f"the franken net beats the copied weights by {100 * margin:.1f} points only", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
