#!/usr/bin/env python3
"""Make the tree data/nyud2 (the layout of the authors' fast-rcnn fork) from NYUD2's official downloads."""

from caffe_compat.cli import run
from caffe_compat.commands.prepare_nyud2 import main

if __name__ == "__main__":
    raise SystemExit(run(main))
