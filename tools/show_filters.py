#!/usr/bin/env python3
"""Draw the filters of nets side by side: teacher, copy, fine-tuned, transferred, random."""

from caffe_compat.cli import run
from caffe_compat.commands.show_filters import main

if __name__ == "__main__":
    raise SystemExit(run(main))
