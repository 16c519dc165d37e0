#!/usr/bin/env python3
"""Draw segmented detections: for each class a sheet of pictures, from the surest on."""

from caffe_compat.cli import run
from caffe_compat.commands.save_sds import main

if __name__ == "__main__":
    raise SystemExit(run(main))
