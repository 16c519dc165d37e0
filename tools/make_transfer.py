#!/usr/bin/env python3
"""Write the nets and the solver of a supervision transfer, for any pair of nets and features."""

from caffe_compat.cli import run
from caffe_compat.commands.make_transfer import main

if __name__ == "__main__":
    raise SystemExit(run(main))
