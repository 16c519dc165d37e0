"""Classify pictures as Caffe's classify.py does, and write the scores.

    tools/classify.py picture.jpg scores.npy --model_def deploy.prototxt --pretrained_model net.caffemodel
    tools/classify.py folder/ scores.npy --model_def deploy.prototxt --pretrained_model net.caffemodel \\
        --mean_file mean.npy --center_only --labels names.txt

The input is a picture, a folder of pictures, or an .npy array of pictures [N, H, W, 3].  Pixels go into the net as
Caffe's script feeds them: red, green, blue from 0 to 1, cut from a resized picture, channels swapped (--channel_swap),
times --raw_scale, minus the mean, times --input_scale; ten crops, whose scores are averaged, unless --center_only.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import LIST, MEAN, MODEL, NET, NEW_FILE, PICTURES_OR_ARRAY
from caffe_compat.commands.parser import Parser

if TYPE_CHECKING:
    import numpy as np


def make_parser() -> argparse.ArgumentParser:
    """Caffe's arguments, and names of classes."""
    p = Parser(__doc__)
    p.add_argument("input_file", type=PICTURES_OR_ARRAY, metavar="INPUT", help="picture, folder of pictures, or .npy")
    p.add_argument("output_file", type=NEW_FILE, metavar="OUTPUT", help="scores [N, classes], .npy")
    p.add_argument("--model_def", type=NET, required=True, metavar="PROTOTXT", help="deploy net")
    p.add_argument("--pretrained_model", type=MODEL, required=True, metavar="MODEL", help="its weights")
    p.add_argument("--center_only", action="store_true", help="the middle crop only, not ten")
    p.add_argument("--images_dim", default="256,256", metavar="H,W", help="pictures are resized to (%(default)s)")
    p.add_argument("--mean_file", type=MEAN, default="", metavar="MEAN", help=".npy or .binaryproto [C, H, W] or [C], "
                   "in the net's order; resized to the net's input")  # fmt: skip
    p.add_argument("--input_scale", type=float, help="multiplies what goes in, after the mean")
    p.add_argument("--raw_scale", type=float, default=255.0, help="multiplies pixels, before the mean (%(default)s)")
    p.add_argument("--channel_swap", default="2,1,0", metavar="C,C,C", help="order of the channels (%(default)s: blue "
                   "first)")  # fmt: skip
    p.add_argument("--ext", default="jpg", help="ending of the pictures of a folder (%(default)s)")
    p.add_argument("--labels", type=LIST, metavar="NAMES", help="class names, one a line: the best five are printed")
    add_gpu(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Classify."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.classifying import class_names, classify, write_scores

    names = class_names(args.labels) if args.labels else None
    pictures, scores = classify(args)
    write_scores(args.output_file, scores)
    if names:
        for picture, row in zip(pictures, scores, strict=True):
            print(f"{picture}: {best(names, row)}")
    print(f"wrote {args.output_file}: {' x '.join(map(str, scores.shape))}")
    return 0


def best(names: list[str], row: np.ndarray, count: int = 5) -> str:
    """The best classes with their scores."""
    order = row.argsort()[::-1][:count]
    return ", ".join(f"{names[index] if index < len(names) else index} {row[index]:.4f}" for index in order)
