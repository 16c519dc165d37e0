"""Run the paper's experiments: the rows of its tables as this project's own commands, and a table of what came out.

    tools/experiment.py --list                    (every row: the paper's figure, what it needs, whether that is there)
    tools/experiment.py table1 --on scenes --seeds 1 2 3 --rows 1B 1D
    tools/experiment.py table1 table4 --on nyud2 --gpu 0
    tools/experiment.py table1 --dry-run          (only shows the commands)

The declarations are YAML: experiments/NAME.yml has the rows, experiments/settings/NAME.yml what they run on.  What rows
share (a teacher, a transfer) is made once.  Stopped or failed, the same command goes on; what is finished is skipped,
and a changed declaration gets a folder of its own.  The table is printed and written as table.md and table.json.
The exit status is 0, 1 if a row could not be made, and 130 or 143 after Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.ranks import require_alone


def make_parser() -> argparse.ArgumentParser:
    """Which experiments, on what, and how."""
    p = Parser(__doc__)
    p.add_argument("names", nargs="*", metavar="NAME", help="experiments: table1, table4, ...; or files, NAME.yml")
    p.add_argument("--list", action="store_true", help="show the rows, and what they need")
    p.add_argument("--on", metavar="SETTING", help="nyud2, mosd, scenes, or a file .yml (default: the first of these "
                   "whose data are there)")  # fmt: skip
    p.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows (default: all)")
    p.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="N", help="(default: 1)")
    p.add_argument("--gpu", type=int, metavar="N", help="CUDA device to train and test on (default: the CPU)")
    p.add_argument("--jobs", type=int, default=1, help="stages that run at once (%(default)s)")
    p.add_argument(
        "--output", type=NEW_FOLDER.path(), default=Path("output/experiments"), metavar="FOLDER", help="(%(default)s)"
    )
    p.add_argument("--dry-run", action="store_true", help="show the commands, and end")
    return p


def main(argv: list[str] | None = None) -> int:
    """0, or 1 if a row could not be made; 128 and the signal's number when stopped."""
    require_alone("experiment")
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.experiment_actions import list_experiments, run_experiments

    if args.list or not args.names:
        return list_experiments(args)
    return run_experiments(args)
