#!/usr/bin/env python3
"""Draw a net with Graphviz (its program dot must be installed; for a .dot file it need not be)."""

from caffe_compat.cli import run
from caffe_compat.commands.draw_net import main

if __name__ == "__main__":
    raise SystemExit(run(main))
