#!/usr/bin/env python3
"""Download the published files of the data sets, check and unpack them."""

from caffe_compat.cli import run
from caffe_compat.commands.fetch import main

if __name__ == "__main__":
    raise SystemExit(run(main))
