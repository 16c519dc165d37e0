"""Draw one frame's depth, its HHA with all channels, normals, gravity and ground as one picture, and print the figures.

A file:            show_depth.py depth.png -o out.png --camera nyud2_color --units-per-metre 1000 --color color.png
Labelled NYUD2:    show_depth.py nyu_depth_v2_labeled.mat --frame 5001 -o out.png
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.depth_arguments import add_file_arguments, add_hole_arguments
from caffe_compat.commands.inputs import DEPTH, NEW_FILE
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """The frame, named as for make_hha, and the picture."""
    parser = Parser(__doc__)
    parser.add_argument("depth", type=DEPTH, help="depth file (png, pgm, tiff, npy), or NYUD2's labelled .mat")
    parser.add_argument("-o", "--output", type=NEW_FILE, required=True, help="png to write")
    parser.add_argument("--frame", type=int, metavar="N", help="number of the frame in the .mat, 5001 to 6449")
    add_file_arguments(parser, "hha")
    add_hole_arguments(parser)
    parser.add_argument("--title", help="stands above the picture (default: the file's name)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw what the arguments say."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.depth_picture import show_depth

    print("\n".join(show_depth(args)))
    return 0
