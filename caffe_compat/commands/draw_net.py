"""Draw a net: with Graphviz where its program dot is installed, and else with a layout of our own (svg, png, pdf).

tools/draw_net.py net.prototxt net.png --rankdir=TB --phase=TEST
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import NET, NEW_FILE
from caffe_compat.commands.parser import Parser
from caffe_compat.proto import read_net
from caffe_compat.proto.schema import PHASES


def make_parser() -> argparse.ArgumentParser:
    """The flags of Caffe's draw_net.py."""
    parser = Parser(__doc__)
    parser.add_argument("input", type=NET, help="net definition (prototxt)")
    parser.add_argument("output", type=NEW_FILE, help="image to write; its ending says the type")
    parser.add_argument("--rankdir", default="LR", choices=("LR", "RL", "TB", "BT"), help="direction (default LR)")
    parser.add_argument("--phase", default="ALL", choices=(*PHASES, "ALL"), help="layers of which phase (default ALL)")
    parser.add_argument("--display_lrm", action="store_true", help="show learning rate multipliers")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw."""
    args = make_parser().parse_args(argv)
    from caffe_compat.pycaffe.draw import draw_net_to_file

    phase = {"TRAIN": 0, "TEST": 1}.get(args.phase)
    draw_net_to_file(read_net(args.input), args.output, args.rankdir, phase, args.display_lrm)
    print(f"wrote {args.output}")
    return 0
