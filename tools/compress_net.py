#!/usr/bin/env python3
"""Replace fully connected layers by two smaller ones each, by truncated SVD."""

from caffe_compat.cli import run
from caffe_compat.commands.compress_net import main

if __name__ == "__main__":
    raise SystemExit(run(main))
