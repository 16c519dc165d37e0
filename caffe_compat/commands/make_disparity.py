"""Turn depth into disparity images, the simpler alternative to HHA (three equal channels).

One frame:          make_disparity.py depth.png -o disparity.png --units-per-metre 1000
A folder, a video:  make_disparity.py frames/ -o disparity/ --units-per-metre 5000 --workers 2
NYUD2 labelled:     make_disparity.py nyu_depth_v2_labeled.mat -o out/
NYUD2 raw video:    make_disparity.py raw/ -o out/ --count 5000 --seed 3
SUN RGB-D:          make_disparity.py SUNRGBD/ -o out/
Any data set:       make_disparity.py --index index.json -o out/
A demo:             make_disparity.py --stereo-motorcycle out/

A data set gets out/color/, out/disparity/ and out/pairs.txt, the list that the transfer nets read.

Run again, it goes on where it stopped.  A frame that cannot be used is skipped and reported at the end (exit status 1).
torchrun --nproc-per-node N tools/make_disparity.py ... shares the frames between N processes.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.depth_arguments import add_arguments
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """Where the depth is, what is made of it and where it goes."""
    parser = Parser(__doc__)
    add_arguments(parser, "disparity")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Encode what the arguments say; 1 if a frame could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.depth_images import depth_images

    return depth_images(args, "disparity")
