#!/usr/bin/env python3
"""Compute proposals, boxes that may hold objects, of all images of a database with the built-in proposer."""

from caffe_compat.cli import run
from caffe_compat.commands.make_proposals import main

if __name__ == "__main__":
    raise SystemExit(run(main))
