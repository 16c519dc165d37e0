#!/usr/bin/env python3
"""Draw the patches to which paired units of teacher and student answer most, both modalities side by side."""

from caffe_compat.cli import run
from caffe_compat.commands.show_patches import main

if __name__ == "__main__":
    raise SystemExit(run(main))
