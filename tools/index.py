#!/usr/bin/env python3
"""List the frames of a recording (colour and depth in folders) for make_hha --index."""

from caffe_compat.cli import run
from caffe_compat.commands.index import main

if __name__ == "__main__":
    raise SystemExit(run(main))
