"""Train a net from a solver prototxt.

    tools/train_net.py --solver prototxt/demo/teacher/solver.prototxt
    tools/train_net.py --solver S --weights teacher.caffemodel,other.caffemodel
    tools/train_net.py --solver S --snapshot output/x_iter_100.solverstate
    tools/train_net.py --solver S --weights W --imdb nyud2_hha_2015_trainval --cfg config.prototxt.hha --iters 40000
    tools/train_net.py --solver S --weights teacher.caffemodel --resume
    tools/train_net.py --solver S --gpu 0,1
    torchrun --nproc-per-node 2 tools/train_net.py --solver S

A detector (--imdb) is written to output/EXP_DIR/IMDB/: fast_rcnn_iter_N.caffemodel, which gives boxes directly, beside
it what a run goes on from, and the options used.  Log lines on standard error have Caffe's form.  Ctrl-C or SIGTERM
finish the running iteration, write a snapshot and end with status 130 or 143.
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.commands.flags import add_amp, add_dialect, add_tensorboard, add_workers
from caffe_compat.commands.inputs import OPTIONS, PROPOSALS, SOLVER, STATE, WEIGHTS
from caffe_compat.commands.parser import Parser
from caffe_compat.ranks import here, told_by_first


def make_parser() -> argparse.ArgumentParser:
    """The flags of the fork's train_net.py, and those of ``caffe train``."""
    p = Parser(__doc__)
    p.add_argument("--solver", type=SOLVER, required=True, help="solver prototxt")
    p.add_argument(
        "--gpu", metavar="N", help="train on this CUDA device, counted from 0, on several (0,1) or on all; -1: on the "
        "CPU (default: what solver_mode asks for, if present)",
    )  # fmt: skip
    p.add_argument(
        "--processes", type=int, metavar="N", help="train with N processes on this machine, each with batches of its "
        "own (default: one for each GPU that --gpu names)",
    )  # fmt: skip
    p.add_argument("--iters", type=int, help="stop after this many iterations instead of max_iter")
    p.add_argument(
        "--weights", type=WEIGHTS, help="weights to start from, comma separated; replaces the solver's own field"
    )
    p.add_argument("--snapshot", type=STATE, help="solver state to go on from")
    p.add_argument(
        "--resume", action="store_true", help="go on from the newest whole snapshot of the solver's snapshot_prefix; "
        "where there is none, start from the beginning",
    )  # fmt: skip
    p.add_argument("--cfg", type=OPTIONS, help="YAML file with options of the fast-rcnn tools")
    p.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    p.add_argument("--imdb", help="train a detector on this image database, such as nyud2_hha_2015_trainval")
    p.add_argument(
        "--proposals", type=PROPOSALS, help="of a detector: a file, or 'builtin' (default: the database's own)"
    )
    p.add_argument("--parity", action="store_true", help="of a detector: sample as the released code did, quirks too")
    p.add_argument("--rand", action="store_true", help="do not seed from RNG_SEED")
    add_dialect(p)
    add_amp(p)
    add_tensorboard(p)
    add_workers(p)
    p.add_argument("--sigint_effect", default="stop", help="stop, snapshot or none")
    p.add_argument("--sighup_effect", default="snapshot", help="stop, snapshot or none")
    return p


def main(argv: list[str] | None = None) -> int:
    """Train; 0 when done, 128 and the signal's number when stopped (130 by Ctrl-C, 143 by SIGTERM)."""
    words = sys.argv[1:] if argv is None else argv
    with told_by_first():
        options = vars(make_parser().parse_args(argv if here().is_first else words))
    from caffe_compat.commands.processes import launched

    with told_by_first():
        status = launched("train_net", words, options["gpu"] or "", options.pop("processes"))
    if status is not None:
        return status
    from caffe_compat.commands.training import TrainOptions, train

    return train(TrainOptions(**options))
