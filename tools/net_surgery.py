#!/usr/bin/env python3
"""Put a net together from the weights of others."""

from caffe_compat.cli import run
from caffe_compat.commands.net_surgery import main

if __name__ == "__main__":
    raise SystemExit(run(main))
