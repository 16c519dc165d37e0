"""Test a detector on an image database: detect, suppress what overlaps, evaluate.

    tools/test_net.py --def test.prototxt --net fast_rcnn_iter_40000.caffemodel --imdb nyud2_hha_2015_test --cfg C
    tools/test_net.py --def fused.prototxt --net rgb.caffemodel hha.caffemodel --imdb nyud2_images+hha_2015_test
    tools/test_net.py --def D --net N --imdb coco:my/instances.json --proposals builtin

Results stand in output/EXP_DIR/IMDB/NET/: detections.npz and .mat (before suppression), eval.txt, .mat, .json, .npz and
precision against recall (.csv, .png), and config.yml, the options that were used.  A run that was stopped or killed
goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import MODEL, NET, OPTIONS, PROPOSALS
from caffe_compat.commands.parser import Parser

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def make_parser() -> argparse.ArgumentParser:
    """The flags of the branches' test_net.py, and the proposals."""
    p = Parser(__doc__)
    p.add_argument(
        "--def", type=NET, dest="prototxt", required=True, metavar="PROTOTXT", help="the net's test prototxt"
    )
    p.add_argument(
        "--net", type=MODEL.later(), dest="weights", required=True, nargs="+", metavar="CAFFEMODEL",
        help="weights; several are copied in "
        "this order, and the results are named after all of them",
    )  # fmt: skip
    p.add_argument("--imdb", default="voc_2007_test", help="image database (default: %(default)s)")
    p.add_argument("--cfg", type=OPTIONS, help="YAML file with options of the fast-rcnn tools")
    p.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    p.add_argument("--parity", action="store_true", help="do as the released code did, quirks too")
    p.add_argument(
        "--proposals",
        type=PROPOSALS,
        metavar="FILE",
        help="a file or folder, or 'builtin' (default: the data set's own)",
    )
    p.add_argument(
        "--wait", nargs="?", type=_truth, const=True, default=True, metavar="yes|no", help="wait until the weights "
        "exist (the default)",
    )  # fmt: skip
    p.add_argument("--no-wait", dest="wait", action="store_false", help="refuse weights that do not exist")
    p.add_argument("--comp", action="store_true", help="write files for the servers of VOC or COCO too")
    p.add_argument("--score_blob_name", metavar="BLOB", help="default: cls_prob, with TEST.SVM cls_score")
    p.add_argument("--bbox_blob_name", metavar="BLOB", help="default: bbox_pred")
    add_gpu(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Test, write the results, print the table."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.testing import test

    test(args)
    return 0


def _truth(word: str) -> bool:
    if word.lower() not in _WORDS:
        raise argparse.ArgumentTypeError(f"'{word}' is neither yes nor no")
    return _WORDS[word.lower()]
