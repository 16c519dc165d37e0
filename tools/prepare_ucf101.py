#!/usr/bin/env python3
"""Pairs of frames and optical flow of UCF101's clips, and the lists that transfers and the supervised baseline read."""

from caffe_compat.cli import run
from caffe_compat.commands.prepare_ucf101 import main

if __name__ == "__main__":
    raise SystemExit(run(main))
