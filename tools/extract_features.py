#!/usr/bin/env python3
"""Write blobs of a net, image by image, into databases."""

from caffe_compat.cli import run
from caffe_compat.commands.extract_features import main

if __name__ == "__main__":
    raise SystemExit(run(main))
