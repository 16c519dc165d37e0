"""Convert the files of MNIST to a database, as Caffe's convert_mnist_data does.

    tools/convert_mnist.py train-images-idx3-ubyte train-labels-idx1-ubyte mnist_train_lmdb --backend=lmdb

The files may be compressed (.gz), as they are published.
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import IDX


def make_parser() -> FlagParser:
    """Caffe's arguments."""
    parser = FlagParser(__doc__)
    parser.add_argument("images", type=IDX, metavar="IMAGES")
    parser.add_argument("labels", type=IDX, metavar="LABELS")
    parser.add_argument("database", metavar="DB_NAME")
    parser.flag("backend", "lmdb", "lmdb or leveldb")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Convert."""
    args = make_parser().parse(argv)
    from caffe_compat.commands.small_pictures import convert_mnist

    log.to_stderr()
    count = convert_mnist(args.images, args.labels, args.database, args.backend)
    log.info(f"Processed {count} files.", "convert_mnist_data.cpp:125")
    return 0
