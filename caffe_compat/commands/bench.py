"""How fast the package is: ratios against a peer measured in the same run.

    tools/bench.py                      all measurements
    tools/bench.py forward weights      some of them

A ratio is our time by the peer's; each is the median of alternating runs.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.measurements import BENCHMARKS, report


def make_parser() -> argparse.ArgumentParser:
    """What to measure, and how often."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("which", nargs="*", metavar="WHICH", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    p.add_argument("--rounds", type=int, default=7, help="alternating runs (default: %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the measurements and print a table."""
    args = make_parser().parse_args(argv)
    return report(args.which, args.rounds, args.threads)
