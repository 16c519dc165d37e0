#!/usr/bin/env python3
"""A table of the layers of a net: shapes, parameters, multiply-adds, memory."""

from caffe_compat.cli import run
from caffe_compat.commands.describe import main

if __name__ == "__main__":
    raise SystemExit(run(main))
