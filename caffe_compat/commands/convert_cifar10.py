"""Convert the binary files of CIFAR-10 to databases, as Caffe's convert_cifar_data does.

    tools/convert_cifar10.py cifar-10-batches-bin output lmdb

Written are output/cifar10_train_lmdb from data_batch_1.bin to data_batch_5.bin, and output/cifar10_test_lmdb from
test_batch.bin.
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import FOLDER, NEW_FOLDER


def make_parser() -> FlagParser:
    """Caffe's arguments."""
    parser = FlagParser(__doc__)
    parser.add_argument("input", type=FOLDER, metavar="INPUT_FOLDER")
    parser.add_argument("output", type=NEW_FOLDER, metavar="OUTPUT_FOLDER")
    parser.add_argument("backend", metavar="DB_TYPE", choices=("lmdb", "leveldb"), help="lmdb or leveldb")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Convert."""
    args = make_parser().parse(argv)
    from caffe_compat.commands.small_pictures import convert_cifar10

    log.to_stderr()
    for path, count in convert_cifar10(args.input, args.output, args.backend):
        log.info(f"Wrote {count} images to {path}", "convert_cifar_data.cpp:105")
    return 0
