"""Score windows of pictures as Caffe's detect.py does (R-CNN): each is cut out, warped, and classified.

    tools/detect_windows.py windows.csv scores.h5 --model_def deploy.prototxt --pretrained_model net.caffemodel
    tools/detect_windows.py pictures.txt scores.csv --model_def deploy.prototxt --pretrained_model net.caffemodel \\
        --crop_mode builtin --mean_file mean.npy

The input is a .csv with a header that names the columns filename, ymin, xmin, ymax, xmax, in pixels, or a .txt with a
picture a line, of which --crop_mode finds windows: selective_search with the module selective_search_ijcv_with_python,
builtin with our own proposals (make_proposals).

Pixels go into the net as Caffe's script feeds them: red, green, blue from 0 to 1, channels swapped (--channel_swap),
times --raw_scale, minus the mean of each channel, times --input_scale; windows with --context_pad pixels around them.

The output has a row for each window: a .csv with the columns filename, ymin, xmin, ymax, xmax, class0, class1, ..., or
an .h5 with the data sets filename, window [N, 4] and prediction [N, classes].  For a Fast R-CNN net: detect.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import LIST, MEAN, MODEL, NET, NEW_FILE
from caffe_compat.commands.parser import Parser

MODES = ("list", "selective_search", "builtin")


def make_parser() -> argparse.ArgumentParser:
    """Caffe's arguments, and our proposals."""
    p = Parser(__doc__)
    p.add_argument("input_file", type=LIST, metavar="INPUT", help="windows (.csv) or pictures (.txt)")
    p.add_argument("output_file", type=NEW_FILE, metavar="OUTPUT", help="scores, .csv or .h5")
    p.add_argument("--model_def", type=NET, required=True, metavar="PROTOTXT", help="deploy net")
    p.add_argument("--pretrained_model", type=MODEL, required=True, metavar="MODEL", help="its weights")
    p.add_argument("--crop_mode", choices=MODES, help="where windows come from (default: list of a .csv, "
                   "selective_search of a .txt)")  # fmt: skip
    p.add_argument("--mean_file", type=MEAN, default="", metavar="MEAN", help=".npy or .binaryproto [C, H, W] or [C], "
                   "in the net's order; the mean of each channel counts")  # fmt: skip
    p.add_argument("--input_scale", type=float, help="multiplies what goes in, after the mean")
    p.add_argument("--raw_scale", type=float, default=255.0, help="multiplies pixels, before the mean (%(default)s)")
    p.add_argument("--channel_swap", default="2,1,0", metavar="C,C,C", help="order of the channels (%(default)s: blue "
                   "first)")  # fmt: skip
    p.add_argument("--context_pad", type=int, default=16, metavar="PIXELS", help="context around windows, in the "
                   "net's input (%(default)s)")  # fmt: skip
    add_gpu(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Score the windows."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.window_scores import score_windows

    count, seconds = score_windows(args)
    print(f"Processed {count} windows in {seconds:.3f} s.\nwrote {args.output_file}")
    return 0
