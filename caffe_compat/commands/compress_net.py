"""Replace fully connected layers by two smaller ones each, by truncated SVD.

    tools/make_detection.py --net vgg16 --classes 19 --folder output/small --svd fc6=1024,fc7=256
    tools/compress_net.py --def output/small/test.prototxt --def-svd output/small/test_svd.prototxt \\
        --net output/vgg16_rgb/nyud2_images_2015_trainval/fast_rcnn_iter_40000.caffemodel

Layers fc6_L and fc6_U of the second prototxt get the factors of fc6 of the first.  Written is
fast_rcnn_iter_40000_svd_fc6_1024_fc7_256.caffemodel beside the model.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import MODEL, NET
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable


def make_parser() -> argparse.ArgumentParser:
    """The flags of fast-rcnn's compress_net.py."""
    p = Parser(__doc__)
    p.add_argument("--def", type=NET, dest="prototxt", required=True, metavar="PROTOTXT", help="test net of the model")
    p.add_argument("--def-svd", type=NET, required=True, metavar="PROTOTXT", help="the compressed test net")
    p.add_argument("--net", type=MODEL, required=True, metavar="MODEL", help="caffemodel")
    return p


def main(argv: list[str] | None = None) -> int:
    """Compress, and say what was lost."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.describing import describe_copy
    from caffe_compat.net.compress import compress

    path, layers = compress(args.prototxt, args.def_svd, args.net)
    for one in layers:
        rows, columns = one.shape
        print(
            printable(
                f"{one.layer}: {rows} x {columns} to rank {one.rank}, {100 * one.kept:.1f}% of the numbers, "
                f"relative error {one.error:.3g}"
            )
        )
    beside = describe_copy(path, args.net)
    print(printable(f"wrote {path}" + (f" and what it wants of pictures in {beside}" if beside else "")))
    return 0
