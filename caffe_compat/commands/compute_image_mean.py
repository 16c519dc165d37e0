"""Compute the mean image of a database.

tools/compute_image_mean.py [--backend=lmdb] INPUT_DB [OUTPUT.binaryproto]
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import DATABASE, NEW_FILE


def make_parser() -> FlagParser:
    """Caffe's flags."""
    parser = FlagParser(__doc__)
    parser.add_argument("database", type=DATABASE, metavar="INPUT_DB")
    parser.add_argument(
        "output", type=NEW_FILE, metavar="OUTPUT", nargs="?", help="mean file to write; the log tells channel means"
    )
    parser.flag("backend", "lmdb", "lmdb or leveldb")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Compute."""
    args = make_parser().parse(argv)
    from caffe_compat.commands.image_mean import compute_image_mean

    log.to_stderr()
    compute_image_mean(args.database, args.output, args.backend)
    return 0
