#!/usr/bin/env python3
"""Upgrade a weights file (caffemodel) to the current format."""

from caffe_compat.cli import run
from caffe_compat.commands.upgrade_net_proto_binary import main

if __name__ == "__main__":
    raise SystemExit(run(main))
