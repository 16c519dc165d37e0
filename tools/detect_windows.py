#!/usr/bin/env python3
"""Score windows of pictures as Caffe's detect.py does (R-CNN)."""

from caffe_compat.cli import run
from caffe_compat.commands.detect_windows import main

if __name__ == "__main__":
    raise SystemExit(run(main))
