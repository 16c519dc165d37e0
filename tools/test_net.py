#!/usr/bin/env python3
"""Test a detector on an image database: detect, suppress what overlaps, evaluate."""

from caffe_compat.cli import run
from caffe_compat.commands.test_net import main

if __name__ == "__main__":
    raise SystemExit(run(main))
