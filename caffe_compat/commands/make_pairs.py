"""Lists of pairs of images, for training and for validation, as transfer reads them.

    tools/make_pairs.py --folders visible infrared --output output/thermal --hold-out 5

Images are paired by their names without the ending.  Every N-th pair, in the order of the names, is held out: where
images come from one video, neighbours are then on both sides.  --block keeps so many that follow each other together:
every N-th block is held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import FOLDER, NEW_FOLDER
from caffe_compat.commands.pairing import add_pairs, split_pairs
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.resources import program


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    add_pairs(p)
    p.add_argument(
        "--root-folder", type=FOLDER, default="", help="what paths in --pairs are relative to, if not to the list"
    )
    p.add_argument("--output", type=NEW_FOLDER, required=True, help="folder for train_pairs.txt and val_pairs.txt")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the lists and say what to do with them."""
    arguments = make_parser().parse_args(argv)
    from caffe_compat.media import check_pairs, read_pair_list

    found = split_pairs(arguments, Path(arguments.output))
    if found is None:
        raise UsageError("give --folders or --pairs")
    for path, count in found:
        check_pairs(path, read_pair_list(path))
        print(f"wrote {path}: {count} pairs")
    lists = f"--source {found[0][0]} --val-source {found[1][0]}"
    nets = "--teacher TEACHER.prototxt --teacher-weights TEACHER.caffemodel --student STUDENT.prototxt --layer BLOB"
    print(f"next: {program('transfer')} {nets} {lists} --output {Path(arguments.output, 'transfer')}")
    return 0
