"""Tables (csv) of what a training log says, as Caffe's parse_log.py writes them: LOG.train and LOG.test.

    tools/parse_log.py train.log .
    tools/parse_log.py train.log tables --delimiter ";" --verbose

The columns are NumIters, Seconds, LearningRate and the outputs of the net.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import LOG, NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError


def make_parser() -> argparse.ArgumentParser:
    """Caffe's arguments."""
    p = Parser(__doc__)
    p.add_argument("logfile_path", type=LOG, metavar="LOG", help="what training wrote on standard error")
    p.add_argument("output_dir", type=NEW_FOLDER, metavar="OUTPUT_DIR", help="folder for the tables")
    p.add_argument("--verbose", action="store_true", help="say what was written, and how many rows")
    p.add_argument("--delimiter", default=",", help="between columns (default: %(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the tables."""
    args = make_parser().parse_args(argv)
    if len(args.delimiter) != 1 or args.delimiter in '\r\n"':
        raise UsageError(f"--delimiter is {args.delimiter!r}, expected one character")
    from caffe_compat.commands.log_tables import read_log, write_tables

    tables = read_log(args.logfile_path)
    for path in write_tables(tables, args.output_dir, args.delimiter):
        if args.verbose:
            print(f"wrote {path}: {len(tables.train if path.endswith('.train') else tables.test)} rows")
    return 0
