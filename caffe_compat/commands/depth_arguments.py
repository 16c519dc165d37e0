"""What has to be said of depth on a command line; declared without torch."""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import DEPTHS, JSON, LIST, MATLAB_FILE, NEW_FOLDER, PICTURES_OF
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.fill import FILL_METHODS
from caffe_compat.depth.io import ENCODINGS
from caffe_compat.depth.nominal import NOMINAL
from caffe_compat.depth.scale import DISPARITY_SCALE

__all__ = ["FILE_ARGUMENTS", "add_arguments", "add_file_arguments", "add_hole_arguments"]

FILE_ARGUMENTS = ("camera", "origin", "units_per_metre", "encoding", "invalid", "raw_depth", "color")
"""Arguments about single files; a data set brings its own values."""


def add_arguments(parser: argparse.ArgumentParser, kind: str) -> None:
    """Declare the arguments; a disparity image needs no camera."""
    add = parser.add_argument
    add("input", type=DEPTHS, nargs="*",
        help="depth files, folders of them, COCO-style json whose images name their depth, or one "
        "data set: nyu_depth_v2_labeled.mat, a folder of NYUD2 raw video, the folder SUNRGBD")  # fmt: skip
    add("-o", "--output", help="png (one input) or folder")
    add("--list", type=LIST, help="text file of depth files, one a line, relative to its folder")
    add("--index", type=JSON, nargs="+",
        help="JSON lists of frames: color, depth, K_fx_fy_cx_cy, depth_units_per_metre and, "
        "where wanted, rawdepth, scene, origin, encoding, invalid, gravity (tools/index.py makes one)")  # fmt: skip
    add("--stereo-motorcycle", type=NEW_FOLDER, metavar="OUTDIR", help="encode scikit-image's stereo pair")
    add_file_arguments(parser.add_argument_group("depth files"), kind)
    sets = parser.add_argument_group("data sets (they get folders color/ and the images', and pairs.txt)")
    sets.add_argument("--frames", help="of the labelled NYUD2: numbers as 5001,5010-5020 (default: all)")
    sets.add_argument("--no-crop", action="store_true", help="of the labelled NYUD2: 480 x 640, not 425 x 560")
    sets.add_argument("--count", type=int, help="of raw video: so many frames, evenly over scenes and time")
    sets.add_argument("--seed", type=int, help="with --count (default: 0)")
    sets.add_argument(
        "--exclude-nyud2", type=MATLAB_FILE.or_word("all"), nargs="?", const="all", metavar="NYUSPLITS",
        help="of SUN RGB-D: leave out the frames of "
        "NYUD2; with nyusplits.mat only those of its val and test",
    )  # fmt: skip
    sets.add_argument(
        "--sun-split",
        type=MATLAB_FILE,
        metavar="ALLSPLIT",
        help="of SUN RGB-D: split the pairs as the toolbox's allsplit.mat does",
    )
    sets.add_argument(
        "--without", metavar="JSON[,split=NAME]", help="of --index: leave out the frames that are images of this "
        "COCO-style json, such as those that a detector is tested on",
    )  # fmt: skip
    sets.add_argument("--hold-out", type=int, metavar="N", help="also split the pairs; every Nth frame validates")
    sets.add_argument("--hold-out-scenes", type=int, metavar="N", help="the same by scenes: every Nth scene validates")
    add_hole_arguments(parser)
    parser.add_argument(
        "--near", type=float, metavar="METRES", help="nearest depth of the set: scales the disparity channel so that "
        "it just does not clip (one set, and the sets its net is used on, need one scale)",
    )  # fmt: skip
    parser.add_argument(
        "--scale", type=float, help=f"of the disparity channel, over depth in cm (default {DISPARITY_SCALE:g}, the "
        "paper's, which clips nearer than 1.22 m)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=0, help="processes (default: work in this one)")
    add_gpu(parser, "compute", several=True)
    parser.add_argument("--overwrite", action="store_true", help="redo outputs that were made with other parameters")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_file_arguments(group: argparse._ActionsContainer, kind: str) -> None:
    """Declare ``FILE_ARGUMENTS``: what has to be said of a depth file."""
    if kind == "hha":
        group.add_argument("--camera", help="a name, NAME@WxH, a file, or fx,fy,cx,cy; names: "
                           f"{', '.join(sorted({*CAMERAS, *NOMINAL}))}")  # fmt: skip
        group.add_argument(
            "--origin", type=int, choices=(0, 1), help="coordinate of the first pixel (presets know it; else 0)"
        )
    group.add_argument("--units-per-metre", type=float, help="1000 for millimetres, 10000, 5000; no guess is made")
    group.add_argument("--encoding", choices=ENCODINGS, help="how the file's numbers are stored")
    group.add_argument("--invalid", type=int, nargs="*", help="codes without a measurement (default 0 65535)")
    group.add_argument(
        "--raw-depth", type=DEPTHS, help="file or folder of unfilled depth: its holes are the missing pixels"
    )
    group.add_argument(
        "--color", type=PICTURES_OF, help="registered colour: size is checked; for --fill colorization and nyud2_raw"
    )


def add_hole_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what counts as a hole, and how holes are filled."""
    parser.add_argument("--min-depth", type=float, default=0.0, metavar="METRES", help="nearer is not measured")
    parser.add_argument("--max-depth", type=float, metavar="METRES", help="farther is not measured")
    parser.add_argument("--fill", choices=(*FILL_METHODS, "none"), default="nearest", help="how holes are filled")
