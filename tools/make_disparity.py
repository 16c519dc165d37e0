#!/usr/bin/env python3
"""Turn depth into disparity images, the simpler alternative to HHA (three equal channels)."""

from caffe_compat.cli import run
from caffe_compat.commands.make_disparity import main

if __name__ == "__main__":
    raise SystemExit(run(main))
