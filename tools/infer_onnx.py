#!/usr/bin/env python3
"""Run an exported model on pictures, prepared as the model itself says, and write what it finds."""

from caffe_compat.cli import run
from caffe_compat.commands.infer_onnx import main

if __name__ == "__main__":
    raise SystemExit(run(main))
