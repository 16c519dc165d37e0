#!/usr/bin/env python3
"""Run a net on pictures, folders, videos or RGB-D pairs: labels, features or boxes, and a sheet of the surest."""

from caffe_compat.cli import run
from caffe_compat.commands.predict import main

if __name__ == "__main__":
    raise SystemExit(run(main))
