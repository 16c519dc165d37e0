"""``python -m caffe_compat.pycaffe SCRIPT ARGS``: run a script written for Caffe's Python module, unchanged."""

from __future__ import annotations

import os
import runpy
import sys

from caffe_compat.alias import install
from caffe_compat.errors import CaffeCompatError


def main() -> int:
    """Run the script that the command line names, as ``python SCRIPT ARGS`` would."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m caffe_compat.pycaffe SCRIPT [ARGS ...]", file=sys.stderr)
        return 0 if len(sys.argv) > 1 else 2
    script = sys.argv[1]
    try:
        install()
        if not os.path.isfile(script):
            print(f"caffe_compat.pycaffe: no such script: {script}", file=sys.stderr)
            return 2
    except CaffeCompatError as error:
        print(f"caffe_compat.pycaffe: {error}", file=sys.stderr)
        return 2
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
