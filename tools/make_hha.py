#!/usr/bin/env python3
"""Turn depth into HHA images (R disparity, G height above ground, B angle with gravity)."""

from caffe_compat.cli import run
from caffe_compat.commands.make_hha import main

if __name__ == "__main__":
    raise SystemExit(run(main))
