#!/usr/bin/env python3
"""Lists of pairs of images, for training and for validation, as transfer reads them."""

from caffe_compat.cli import run
from caffe_compat.commands.make_pairs import main

if __name__ == "__main__":
    raise SystemExit(run(main))
