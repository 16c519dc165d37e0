#!/usr/bin/env python3
"""Where ONNX Runtime runs the nodes of a model on a machine with a GPU, and what it copies between the devices."""

from caffe_compat.cli import run
from caffe_compat.commands.placement import main

if __name__ == "__main__":
    raise SystemExit(run(main))
