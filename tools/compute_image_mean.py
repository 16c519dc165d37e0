#!/usr/bin/env python3
"""Compute the mean image of a database."""

from caffe_compat.cli import run
from caffe_compat.commands.compute_image_mean import main

if __name__ == "__main__":
    raise SystemExit(run(main))
