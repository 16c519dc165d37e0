"""Command-line arguments of supervision transfers."""

from __future__ import annotations

import argparse
from typing import Any

from caffe_compat.commands.boxes_arguments import add_boxes
from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import FOLDER, LIST, MODEL, NET, NEW_FOLDER, TEACHER, TEACHER_WEIGHTS
from caffe_compat.commands.modality_arguments import add_modality
from caffe_compat.commands.teacher_arguments import TEACHER_HELP, add_foreign
from caffe_compat.media.modalities import FORK_MEAN
from caffe_compat.transfer.recipe import CLIP, Recipe, Schedule

__all__ = ["add_transfer_arguments"]


def add_transfer_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--teacher", type=TEACHER, required=True, help=TEACHER_HELP)
    add("--student", type=NET, required=True, help="prototxt of the student; it may be the teacher's")
    add("--list", action="store_true", help="only show which features of the two fit each other, and end")
    add("--layer", nargs="+", metavar="BLOB", help="feature(s) to transfer, e.g. pool5")
    add("--student-layer", nargs="+", default=[], metavar="BLOB", help="the student's, where named otherwise")
    add("--output", type=NEW_FOLDER, default="", help="folder for the files")
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--source", type=LIST.later(), default=Recipe.source, help="training pairs (%(default)s)")
    add("--val-source", type=LIST.later(), default=Recipe.val_source, help="validation pairs (%(default)s)")
    add(
        "--root-folder",
        type=FOLDER.later(),
        default="",
        help="what paths in the lists are relative to, if not to the list",
    )
    size = "of the frames as they are trained on (the smallest of the lists; 480 640 where there is none yet)"
    add("--image-size", nargs=2, type=int, metavar=("H", "W"), help=size)
    add("--crop", nargs=2, type=int, metavar=("H", "W"), help="train on random crops instead of whole frames")
    add("--short-side", type=int, help="resize frames to this shorter side")
    add("--multiple-of", type=int, default=1, help="cut frames to multiples of this")
    add("--batch-size", type=int, default=2, help="pairs per iteration (%(default)s)")
    add(
        "--mean",
        nargs="+",
        type=float,
        metavar="BGR",
        help="subtracted from the first images (what WEIGHTS.preprocessing.json says, else "
        f"{' '.join(map(str, FORK_MEAN))})",
    )
    add("--mean-second", nargs="+", type=float, default=[], metavar="BGR", help="from the second (default: the same)")
    add("--negate-x", type=int, default=-1, metavar="CHANNEL", help="channel of horizontal flow, for mirroring")
    add_modality(data)
    add_boxes(data)
    _add_loss(parser.add_argument_group("loss"))
    _add_schedule(parser.add_argument_group("solver"))
    add_foreign(parser)
    parser.add_argument("--prefix", default="da_", help="of the student's layers and blobs (%(default)s)")
    parser.add_argument("--filler", choices=("msra", "xavier"), help="for the student and the adaptation, not theirs")
    parser.add_argument("--name", default="", help="of the nets (default: the output folder's)")


def _add_loss(group: Any) -> None:
    add = group.add_argument
    add(
        "--teacher-weights",
        type=TEACHER_WEIGHTS.later(),
        help="the teacher's caffemodel, which stands in the solver; of a torch module .pth or .safetensors; or random",
    )
    add(
        "--student-weights",
        type=MODEL,
        help="weights that the student starts from, by layer name, e.g. the teacher's for a copy of it (its fillers)",
    )
    add(
        "--measure",
        metavar="LIST",
        help="measure the mean norm on these images, the first path of each line (default: the training pairs)",
    )
    add("--measure-count", type=int, default=200, help="at most so many images (%(default)s)")
    add("--no-measure", action="store_true", help="measure nothing and take the options as they are")
    add("--sweep", type=int, default=30, help="iterations at each rate that is tried; 0: --base-lr stays (%(default)s)")
    add_gpu(group, "measure")
    add("--mean-norm", nargs="+", type=float, default=[], help="the mean norm(s) instead, one per layer")
    add("--scale", nargs="+", type=float, default=[], help="factor(s) on the teacher's feature (measured)")
    add("--first-std", type=float, help="of the student's first weights, for msra or xavier (measured)")
    add("--adapt-std", nargs="+", type=float, default=[0.01], help="of its first weights (measured; else 0.01)")
    add("--adapt-bias", nargs="+", type=float, help="its first biases (measured; 1 where nothing is known, else 0)")
    add("--loss", choices=("l2", "sigmoid"), default="l2", help="squared L2, or per-unit sigmoid cross-entropy")
    add(
        "--alpha",
        nargs="+",
        default=["1"],
        help="sigmoid loss: p(x) = sigmoid(alpha x), x before the adaptation's ReLU; 4/sigma: 4 / the standard "
        "deviation of the teacher's scaled feature, measured",
    )
    add(
        "--tau",
        nargs="+",
        default=["0"],
        help="sigmoid loss: a unit of the teacher is on above this; median: of what is above 0, measured",
    )
    add("--loss-weight", default="auto", help="a number, or auto: 1 / (locations x mean norm)")


def _add_schedule(group: Any) -> None:
    add = group.add_argument
    add("--max-iter", type=int, default=Schedule.max_iter, help="(%(default)s)")
    add(
        "--base-lr",
        type=float,
        default=Schedule.base_lr,
        help="the largest rate that is tried; falls at --drops (%(default)s)",
    )
    add("--drops", nargs="+", type=float, default=list(Schedule.drops), help="parts of max-iter after which it falls")
    add("--momentum", type=float, default=Schedule.momentum, help="(%(default)s)")
    add("--weight-decay", type=float, default=Schedule.weight_decay, help="(%(default)s)")
    add("--clip-gradients", type=float, help=f"largest norm of the gradient; 0: any ({CLIP:g})")
    add("--snapshot", type=int, default=Schedule.snapshot, help="(%(default)s)")
    add("--test-interval", type=int, default=Schedule.test_interval, help="(%(default)s)")
    add("--test-iter", type=int, help=f"validation pairs per test (as many as there are, at most {Schedule.test_iter})")
    add("--display", type=int, default=Schedule.display, help="(%(default)s)")
    add("--random-seed", type=int, default=Schedule.random_seed, help="(%(default)s)")
