#!/usr/bin/env python3
"""The paper's tables: rows as the project's own commands, run and compared with the paper's figures."""

from caffe_compat.cli import run
from caffe_compat.commands.experiment import main

if __name__ == "__main__":
    raise SystemExit(run(main))
