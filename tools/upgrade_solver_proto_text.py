#!/usr/bin/env python3
"""Upgrade a solver definition (prototxt) to the current format."""

from caffe_compat.cli import run
from caffe_compat.commands.upgrade_solver_proto_text import main

if __name__ == "__main__":
    raise SystemExit(run(main))
