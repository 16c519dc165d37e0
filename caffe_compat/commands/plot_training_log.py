"""Draw a curve of one training log or several, as Caffe's plot_training_log.py does.

    tools/plot_training_log.py 6 loss.png first.log second.log

The chart is one of
    0  test accuracy over iterations        1  test accuracy over seconds
    2  test loss over iterations            3  test loss over seconds
    4  learning rate over iterations        5  learning rate over seconds
    6  train loss over iterations           7  train loss over seconds
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffe_compat.commands.inputs import LOG, NEW_FILE
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from caffe_compat.commands.log_tables import LogTables

CHARTS = (("test", "acc"), ("test", "loss"), ("train", "LearningRate"), ("train", "loss"))
"""Which table, and what stands in the name of the column."""
SHOWN = {"acc": "accuracy", "loss": "loss", "LearningRate": "learning rate"}


def make_parser() -> argparse.ArgumentParser:
    """Caffe's arguments."""
    p = Parser(__doc__)
    p.add_argument("chart", type=int, choices=range(2 * len(CHARTS)), metavar="CHART", help="0 to 7")
    p.add_argument("output", type=NEW_FILE, metavar="PICTURE", help="picture to write, .png or .pdf")
    p.add_argument("logs", type=LOG, nargs="+", metavar="LOG", help="what training wrote on standard error")
    return p


def main(argv: list[str] | None = None) -> int:
    """Draw."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.log_tables import read_log
    from caffe_compat.figures.save import check_name, write_figure

    check_name(args.output)
    write_figure(args.output, draw([read_log(path) for path in args.logs], args.chart))
    print(f"wrote {args.output}")
    return 0


def draw(logs: list[LogTables], chart: int) -> Figure:
    """A curve for each log.

    Raises:
        DataError: a log that has no such values; names those that it has.
    """
    from matplotlib.figure import Figure

    (kind, part), across = CHARTS[chart // 2], ("NumIters", "Seconds")[chart % 2]
    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for log in logs:
        rows = log.train if kind == "train" else log.test
        names = list(dict.fromkeys(name for row in rows for name in row))
        column = next((name for name in names if part.lower() in name.lower()), None)
        if column is None:
            known = ", ".join(name for name in names if name not in ("NumIters", "Seconds")) or "none"
            raise DataError(f"{log.path}: no {kind} output is called like '{part}'; it has {known}")
        some = [row for row in rows if column in row]
        axes.plot([row[across] for row in some], [row[column] for row in some], label=f"{log.path}: {column}")
    axes.set_xlabel("iterations" if across == "NumIters" else "seconds")
    axes.set_ylabel(SHOWN[part])
    axes.set_title(f"{kind} {SHOWN[part]}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
