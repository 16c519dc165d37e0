"""Convert a set of images to an LMDB or LevelDB database.

    tools/convert_imageset.py [flags] ROOTFOLDER/ LISTFILE DB_NAME

LISTFILE has lines "path label"; ROOTFOLDER is put before each path as it is, so it ends with a slash.
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import LIST


def make_parser() -> FlagParser:
    """Caffe's flags, and a seed."""
    parser = FlagParser(__doc__)
    parser.add_argument("root", metavar="ROOTFOLDER/")
    parser.add_argument("list", type=LIST, metavar="LISTFILE")
    parser.add_argument("database", metavar="DB_NAME")
    parser.flag("gray", False, "store grey images")
    parser.flag("shuffle", False, "shuffle the list")
    parser.flag("backend", "lmdb", "lmdb or leveldb")
    parser.flag("resize_width", 0, "width to resize to; 0: as it is")
    parser.flag("resize_height", 0, "height to resize to; 0: as it is")
    parser.flag("check_size", False, "refuse images of different sizes")
    parser.flag("encoded", False, "store compressed images")
    parser.flag("encode_type", "", "how to compress: jpg, png, ...; empty: as the file's name says")
    parser.add_argument("--seed", type=int, help="of --shuffle; without it the order is another one each time")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Convert."""
    args = make_parser().parse(argv)
    from caffe_compat.commands.imageset import ImagesetOptions, convert_imageset

    options = ImagesetOptions(**vars(args))
    log.to_stderr()
    convert_imageset(options)
    return 0
