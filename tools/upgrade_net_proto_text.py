#!/usr/bin/env python3
"""Upgrade a net definition (prototxt) to the current format."""

from caffe_compat.cli import run
from caffe_compat.commands.upgrade_net_proto_text import main

if __name__ == "__main__":
    raise SystemExit(run(main))
