#!/usr/bin/env python3
"""Caffe's command line."""

from caffe_compat.cli import run
from caffe_compat.commands.caffe import main

if __name__ == "__main__":
    raise SystemExit(run(main))
