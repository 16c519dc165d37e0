#!/usr/bin/env python3
"""Convert a set of images to an LMDB or LevelDB database."""

from caffe_compat.cli import run
from caffe_compat.commands.convert_imageset import main

if __name__ == "__main__":
    raise SystemExit(run(main))
