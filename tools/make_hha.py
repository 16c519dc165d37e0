"""Turn depth into HHA images (R disparity, G height above ground, B angle with gravity).

One frame:    make_hha.py depth.png -o hha.png --camera nyud2_color --units-per-metre 1000
A video:      make_hha.py frames/ -o hha/ --camera 525,525,319.5,239.5 --units-per-metre 5000 --workers 2
A data set:   make_hha.py --index index.json -o out/     (colour and HHA pngs, and pairs.txt)
A demo:       make_hha.py --stereo-motorcycle out/

Run again, it goes on where it stopped.  A frame that cannot be used is skipped and reported at the end (exit status 1).
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.cli import run
from caffe_compat.depth.arguments import add_arguments, encode_from_arguments


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "hha")
    report = encode_from_arguments(parser.parse_args(argv), "hha")
    print("\n".join(report.lines()))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(run(main))
