#!/usr/bin/env python3
"""Turn a Caffe net into an ONNX model and compare it with PyTorch in ONNX Runtime."""

from caffe_compat.cli import run
from caffe_compat.commands.export_onnx import main

if __name__ == "__main__":
    raise SystemExit(run(main))
