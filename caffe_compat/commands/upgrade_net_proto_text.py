"""Upgrade a net definition (prototxt) to the current format.

tools/upgrade_net_proto_text.py IN OUT
"""

from __future__ import annotations

from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import NET, NEW_FILE
from caffe_compat.commands.upgrade import upgrade_net_file


def make_parser() -> FlagParser:
    """Two files."""
    parser = FlagParser(__doc__, usage_status=1)
    parser.add_argument("source", type=NET, metavar="IN")
    parser.add_argument("target", type=NEW_FILE, metavar="OUT")
    return parser


def main(argv: list[str] | None = None) -> int:
    """0; 1 after wrong usage, or if a part of the old file has no place in the new one (the rest is written)."""
    args = make_parser().parse(argv)
    return upgrade_net_file(args.source, args.target)
