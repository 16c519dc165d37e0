#!/usr/bin/env python3
"""What an image database holds, before a detector is trained on it: images, objects of each class, sizes, proposals."""

from caffe_compat.cli import run
from caffe_compat.commands.imdb import main

if __name__ == "__main__":
    raise SystemExit(run(main))
