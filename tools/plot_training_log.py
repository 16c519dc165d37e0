#!/usr/bin/env python3
"""Draw a curve of one training log or several, as Caffe's plot_training_log.py does."""

from caffe_compat.cli import run
from caffe_compat.commands.plot_training_log import main

if __name__ == "__main__":
    raise SystemExit(run(main))
