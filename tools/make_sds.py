#!/usr/bin/env python3
"""Write the nets, the solver and the configuration that segment a detector's boxes by hypercolumns."""

from caffe_compat.cli import run
from caffe_compat.commands.make_sds import main

if __name__ == "__main__":
    raise SystemExit(run(main))
