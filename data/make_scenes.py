#!/usr/bin/env python3
"""Draw the sample data set: rooms with one object each, in RGB and Kinect-like depth, laid out as NYUD2."""

from caffe_compat.cli import run
from caffe_compat.commands.make_scenes import main

if __name__ == "__main__":
    raise SystemExit(run(main))
