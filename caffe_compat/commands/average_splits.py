"""Bring the evaluations of a data set's splits together: average precision of each class and split, and their means.

    tools/average_splits.py output/default/jhmdb_flow_split1_test/NET output/default/jhmdb_flow_split2_test/NET \\
        output/default/jhmdb_flow_split3_test/NET --output table7_flow

Each RUN is a folder in which test_net.py or reval.py left eval.json, or such a file.  What they say by one rule is
averaged: the mean over classes of each split, then over the splits.  --output writes STEM.json, .csv and .png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import EVALUATION, NEW_FILE
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable


def make_parser() -> argparse.ArgumentParser:
    """Which evaluations, and where to."""
    p = Parser(__doc__)
    p.add_argument("runs", type=EVALUATION, nargs="+", metavar="RUN", help="folder with eval.json, or the file")
    p.add_argument("-o", "--output", type=NEW_FILE.path(), metavar="STEM", help="write STEM.json, STEM.csv, STEM.png")
    return p


def main(argv: list[str] | None = None) -> int:
    """Read, print the table, write."""
    args = make_parser().parse_args(argv)
    from caffe_compat.evaluation.splits import mean_over_splits, splits_table, write_splits

    found = mean_over_splits(args.runs)
    print(printable(splits_table(found)))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        written = write_splits(Path(args.output), found)
        print(printable(f"wrote {', '.join(map(str, written))}"))
    return 0
