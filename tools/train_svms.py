#!/usr/bin/env python3
"""Train linear SVMs on a detector's fc7, one for each class, to take the place of its scores."""

from caffe_compat.cli import run
from caffe_compat.commands.train_svms import main

if __name__ == "__main__":
    raise SystemExit(run(main))
