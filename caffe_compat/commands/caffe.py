"""Caffe's command line: train, test, time, device_query.

    tools/caffe.py train --solver=solver.prototxt [--weights=a.caffemodel,b.caffemodel] [--snapshot=x.solverstate]
    tools/caffe.py test --model=net.prototxt --weights=net.caffemodel [--iterations=50]
    tools/caffe.py time --model=net.prototxt [--phase=TEST] [--iterations=50]
    tools/caffe.py device_query --gpu=all

The log on standard error has Caffe's form, so its log parsers read it.  Ctrl-C or SIGTERM finish the running iteration,
write a snapshot and end (--sigint_effect), with status 0 as in Caffe; train_net.py has a status that tells it apart.
"""

from __future__ import annotations

import sys

from caffe_compat.commands.flags import WORKERS_HELP, FlagParser
from caffe_compat.commands.inputs import NET, SOLVER, STATE, WEIGHTS
from caffe_compat.proto.forks import DIALECTS
from caffe_compat.ranks import here, told_by_first


def make_parser() -> FlagParser:
    """Caffe's flags; they may stand before or after the command, with one dash or two."""
    parser = FlagParser(__doc__)
    parser.add_argument("command", nargs="?", help="train, test, time or device_query")
    parser.flag("gpu", "", "CUDA devices: 0, or 0,1, or all (default: the CPU; train: what the solver says)")
    parser.flag("processes", 0, "train: processes on this machine (default: one for each GPU that --gpu names)")
    parser.flag("solver", "", "train: the solver prototxt", SOLVER)
    parser.flag("model", "", "test, time: the net prototxt", NET)
    parser.flag("weights", "", "train, test: weights to start from, separated by commas", WEIGHTS.later())
    parser.flag("snapshot", "", "train: solver state to go on from", STATE.later())
    parser.flag("iterations", 50, "test, time: how many")
    parser.flag("phase", "", "time: TRAIN or TEST; empty means TRAIN")
    parser.flag("level", 0, "level of the net's state")
    parser.flag("stage", "", "stages of the net's state, separated by commas")
    parser.flag("dialect", "", f"which forks names of several meanings are of: {', '.join(DIALECTS)}")
    parser.flag("amp", "", "train: mixed precision: bf16 or fp16; empty means float32")
    parser.flag("workers", "", f"{WORKERS_HELP}; empty: $CAFFE_COMPAT_WORKERS")
    parser.flag("sigint_effect", "stop", "train, at Ctrl-C: stop, snapshot or none")
    parser.flag("sighup_effect", "snapshot", "train, at SIGHUP: stop, snapshot or none")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; without one print the help, as Caffe does."""
    parser = make_parser()
    words = sys.argv[1:] if argv is None else argv
    with told_by_first():
        options = vars(parser.parse(argv if here().is_first else words))
    command = options.pop("command")
    if command is None:
        parser.print_help()
        return 0
    from caffe_compat.commands.processes import launched

    processes = options["processes"] or None
    with told_by_first():
        status = launched("caffe", words, options["gpu"], processes) if command == "train" else None
    if status is not None:
        return status
    from caffe_compat.commands.caffe_actions import CaffeOptions, caffe

    return caffe(command, CaffeOptions(**options))
