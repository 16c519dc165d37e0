#!/usr/bin/env python3
"""Evaluate stored detections again."""

from caffe_compat.cli import run
from caffe_compat.commands.reval import main

if __name__ == "__main__":
    raise SystemExit(run(main))
