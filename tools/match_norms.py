#!/usr/bin/env python3
"""Make a student's feature as large as its teacher's, before the student is tuned for a task."""

from caffe_compat.cli import run
from caffe_compat.commands.match_norms import main

if __name__ == "__main__":
    raise SystemExit(run(main))
