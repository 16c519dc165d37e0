#!/usr/bin/env python3
"""Draw one frame's depth, its HHA with all channels, normals, gravity and ground as one picture."""

from caffe_compat.cli import run
from caffe_compat.commands.show_depth import main

if __name__ == "__main__":
    raise SystemExit(run(main))
