#!/usr/bin/env python3
"""Classify pictures as Caffe's classify.py does, and write the scores."""

from caffe_compat.cli import run
from caffe_compat.commands.classify import main

if __name__ == "__main__":
    raise SystemExit(run(main))
