#!/usr/bin/env python3
"""Write a caffemodel from a state dict of torchvision or timm, where one of our nets is the same net."""

from caffe_compat.cli import run
from caffe_compat.commands.import_weights import main

if __name__ == "__main__":
    raise SystemExit(run(main))
