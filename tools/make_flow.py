#!/usr/bin/env python3
"""Turn frames into pictures of optical flow, as ActionTubes encodes it (R 128 + 16 u, G 128 + 16 v, B 128 + 16 |f|)."""

from caffe_compat.cli import run
from caffe_compat.commands.make_flow import main

if __name__ == "__main__":
    raise SystemExit(run(main))
