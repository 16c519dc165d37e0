#!/usr/bin/env python3
"""Convert the binary files of CIFAR-10 to databases, as Caffe's convert_cifar_data does."""

from caffe_compat.cli import run
from caffe_compat.commands.convert_cifar10 import main

if __name__ == "__main__":
    raise SystemExit(run(main))
