#!/usr/bin/env python3
"""Supervision transfer in one command: from pairs of images, a teacher and a student to a trained student."""

from caffe_compat.cli import run
from caffe_compat.commands.transfer import main

if __name__ == "__main__":
    raise SystemExit(run(main))
