#!/usr/bin/env python3
"""Tables (csv) of what a training log says, as Caffe's parse_log.py writes them: LOG.train and LOG.test."""

from caffe_compat.cli import run
from caffe_compat.commands.parse_log import main

if __name__ == "__main__":
    raise SystemExit(run(main))
