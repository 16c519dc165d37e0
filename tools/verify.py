#!/usr/bin/env python3
"""Compare a net with a reference, layer by layer, and name the first layer that diverges."""

from caffe_compat.cli import run
from caffe_compat.commands.verify import main

if __name__ == "__main__":
    raise SystemExit(run(main))
