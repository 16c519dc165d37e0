#!/usr/bin/env python3
"""Train a net from a solver prototxt."""

from caffe_compat.cli import run
from caffe_compat.commands.train_net import main

if __name__ == "__main__":
    raise SystemExit(run(main))
