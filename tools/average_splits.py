#!/usr/bin/env python3
"""Bring the evaluations of a data set's splits together: average precision of each class and split, and their means."""

from caffe_compat.cli import run
from caffe_compat.commands.average_splits import main

if __name__ == "__main__":
    raise SystemExit(run(main))
