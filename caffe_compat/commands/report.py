"""Report of one training or several: one HTML page that holds everything, and its text, numbers and curves apart.

    tools/report.py output/my_transfer
    tools/report.py output/seed1 output/seed2 output/seed3 --output output/three_seeds

RUN is the folder of a run's snapshots or its file of metrics.  Runs that differ only by their seed are one curve: its
mean, standard deviation, and a band from the lowest to the highest.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.commands.inputs import LIST, NEW_FOLDER, RUN
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.resources import program

if TYPE_CHECKING:
    from caffe_compat.transfer.runs import Run


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument(
        "runs", type=RUN, nargs="+", metavar="RUN", help="folder of a run's snapshots, or its ..metrics.jsonl"
    )
    p.add_argument(
        "--output", type=NEW_FOLDER, default="", help="folder for the report (that of the run, if it is one)"
    )
    p.add_argument(
        "--tests", type=int, default=500, metavar="N", help="test pictures that a classifier is shown again, for its "
        "confusion matrix and sample predictions; 0: none (default: %(default)s)"
    )  # fmt: skip
    p.add_argument("--classes", type=LIST, metavar="FILE", help="names of the labels, one a line, for these")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write it and say how the runs went."""
    arguments = make_parser().parse_args(argv)
    from caffe_compat.commands.classifying import class_names
    from caffe_compat.reports.page import More, write_page
    from caffe_compat.transfer.report import write_report
    from caffe_compat.transfer.runs import named_apart, read_run

    if arguments.tests < 0:
        raise UsageError(f"--tests {arguments.tests}: expected 0 or more")
    names = tuple(class_names(arguments.classes)) if arguments.classes else ()
    runs = named_apart([read_run(path) for path in arguments.runs])
    if len({run.prefix for run in runs}) < len(runs):
        raise UsageError("a run is named twice")
    if len(runs) > 1 and not arguments.output:
        raise UsageError(f"{len(runs)} runs: expected --output, the folder for their report")
    following = commands_after(runs[0]) if len(runs) == 1 else []
    folder = arguments.output or runs[0].folder
    written = write_report(runs, folder, "", following)
    written.insert(0, write_page(runs, folder, More("", tuple(following), arguments.tests, names)))
    print("\n".join(f"wrote {name}" for name in written))
    print("\n".join(["next:", *(f"  {command}" for command in following)]) if following else f"see {written[0]}")
    return 0


def commands_after(run: Run) -> list[str]:
    """What may be run next about a run: what its files allow, and a report together with other seeds."""
    from caffe_compat.transfer.files import after_training

    folder = Path(run.solver_path).parent
    model = f"{run.prefix}_iter_{run.iterations}.caffemodel"
    commands = []
    if run.solver_path and (folder / "student_deploy.prototxt").exists() and os.path.exists(model):
        commands = after_training(folder, model, (folder / "surgery.json").exists())
    name = run.folder
    return [*commands, f"{program('report')} {name} {name}_seed2 --output {name}_seeds  # with runs of other seeds"]
