#!/usr/bin/env python3
"""How fast the package is: ratios against a peer measured in the same run."""

from caffe_compat.cli import run
from caffe_compat.commands.bench import main

if __name__ == "__main__":
    raise SystemExit(run(main))
