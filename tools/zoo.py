#!/usr/bin/env python3
"""List the prototxts that come with the project, with what fits them; or copy some, to change them."""

from caffe_compat.cli import run
from caffe_compat.commands.zoo import main

if __name__ == "__main__":
    raise SystemExit(run(main))
