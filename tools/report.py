#!/usr/bin/env python3
"""Report of one training or several: a page, the same as JSON, and the curves drawn over each other."""

from caffe_compat.cli import run
from caffe_compat.commands.report import main

if __name__ == "__main__":
    raise SystemExit(run(main))
