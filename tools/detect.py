#!/usr/bin/env python3
"""Find objects in a picture with a Fast R-CNN net, and write it with boxes, class names and scores."""

from caffe_compat.cli import run
from caffe_compat.commands.detect import main

if __name__ == "__main__":
    raise SystemExit(run(main))
