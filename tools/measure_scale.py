#!/usr/bin/env python3
"""Measure how large a feature is, and the factor that makes a teacher's feature as large as another net's."""

from caffe_compat.cli import run
from caffe_compat.commands.measure_scale import main

if __name__ == "__main__":
    raise SystemExit(run(main))
