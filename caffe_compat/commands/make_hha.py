"""Turn depth into HHA images (R disparity, G height above ground, B angle with gravity).

One frame:          make_hha.py depth.png -o hha.png --camera nyud2_color --units-per-metre 1000
A folder, a video:  make_hha.py frames/ -o hha/ --camera 525,525,319.5,239.5 --units-per-metre 5000 --workers 2
For a detector:     make_hha.py instances.json -o hha/ --camera 525,525,319.5,239.5 --units-per-metre 1000 --near 0.5
NYUD2 labelled:     make_hha.py nyu_depth_v2_labeled.mat -o out/        (one frame at a time, never the whole file)
NYUD2 raw video:    make_hha.py raw/ -o out/ --count 5000 --seed 3      (synchronised, registered to colour)
SUN RGB-D:          make_hha.py SUNRGBD/ -o out/
Any data set:       make_hha.py --index index.json -o out/
A demo:             make_hha.py --stereo-motorcycle out/

A data set gets out/color/, out/hha/ and out/pairs.txt, the list that the transfer nets read.

Run again, it goes on where it stopped.  A frame that cannot be used is skipped and reported at the end (exit status 1).
torchrun --nproc-per-node N tools/make_hha.py ... shares the frames between N processes.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.depth_arguments import add_arguments
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """Where the depth is, what is made of it and where it goes."""
    parser = Parser(__doc__)
    add_arguments(parser, "hha")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Encode what the arguments say; 1 if a frame could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.depth_images import depth_images

    return depth_images(args, "hha")
