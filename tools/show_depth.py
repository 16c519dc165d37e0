#!/usr/bin/env python3
"""Draw one frame's depth, its HHA with all channels, normals, gravity and ground as one picture, and print the figures.

A file:            show_depth.py depth.png -o out.png --camera nyud2_color --units-per-metre 1000 --color color.png
Labelled NYUD2:    show_depth.py nyu_depth_v2_labeled.mat --frame 5001 -o out.png
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.cli import run


def main(argv: list[str] | None = None) -> int:
    """Draw what the arguments say."""
    from caffe_compat.commands.show_depth import add_arguments, show_depth

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    print("\n".join(show_depth(parser.parse_args(argv))))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
