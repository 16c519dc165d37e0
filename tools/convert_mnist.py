#!/usr/bin/env python3
"""Convert the files of MNIST to a database, as Caffe's convert_mnist_data does."""

from caffe_compat.cli import run
from caffe_compat.commands.convert_mnist import main

if __name__ == "__main__":
    raise SystemExit(run(main))
