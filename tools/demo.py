#!/usr/bin/env python3
"""Supervision transfer end to end on a generated data set, with the project's own tools."""

from caffe_compat.cli import run
from caffe_compat.commands.demo import main

if __name__ == "__main__":
    raise SystemExit(run(main))
