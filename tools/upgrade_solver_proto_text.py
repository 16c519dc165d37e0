#!/usr/bin/env python3
"""Upgrade a solver definition (prototxt) to the current format.

tools/upgrade_solver_proto_text.py IN OUT
"""

from __future__ import annotations

import sys

from caffe_compat.cli import run
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.upgrade import upgrade_solver_file


def main(argv: list[str] | None = None) -> int:
    """0; 1 after wrong usage."""
    parser = FlagParser(__doc__, usage_status=1)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT")
    args = parser.parse(argv)
    return upgrade_solver_file(args.source, args.target)


if __name__ == "__main__":
    sys.exit(run(main))
