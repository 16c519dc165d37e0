"""Turn depth into disparity images, the simpler alternative to HHA (three equal channels).

One frame:    make_disparity.py depth.png -o disparity.png --units-per-metre 1000
A video:      make_disparity.py frames/ -o disparity/ --units-per-metre 5000 --workers 2
A data set:   make_disparity.py --index index.json -o out/     (colour and disparity pngs, and pairs.txt)
A demo:       make_disparity.py --stereo-motorcycle out/

Run again, it goes on where it stopped.  A frame that cannot be used is skipped and reported at the end (exit status 1).
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.cli import run
from caffe_compat.depth.arguments import add_arguments, encode_from_arguments


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "disparity")
    report = encode_from_arguments(parser.parse_args(argv), "disparity")
    print("\n".join(report.lines()))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(run(main))
