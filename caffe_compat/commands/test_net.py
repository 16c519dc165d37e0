"""Test a detector on an image database: detect, suppress what overlaps, evaluate.

    tools/test_net.py --def test.prototxt --net fast_rcnn_iter_40000.caffemodel --imdb nyud2_hha_2015_test --cfg C
    tools/test_net.py --def fused.prototxt --net rgb.caffemodel hha.caffemodel --imdb nyud2_images+hha_2015_test
    tools/test_net.py --def D --net N --imdb coco:my/instances.json --proposals builtin
    tools/test_net.py --def masks.prototxt --net inst_segm_iter_10000.caffemodel --imdb nyud2_images_2015_test \\
        --sds 1 --sds_detection_file output/rgb/nyud2_images_2015_test/NET/detections.npz --sds_sp_dir data/nyud2_sp

Results stand in output/EXP_DIR/IMDB/NET/: detections.npz and .mat (before suppression), eval.txt, .mat, .json, .npz and
precision against recall (.csv, .png), and config.yml, the options that were used.  A run that was stopped or killed
goes on where it was when the same command is given again.  Processes of torchrun share the images.

With --sds 1 stored detections are segmented: output/EXP_DIR/IMDB/NET/segm/detections.npz holds boxes and regions,
segm_eval.txt, .mat and .json say AP^r at overlaps 0.5 and 0.7.  Images that cannot be used (no superpixels, objects
without pixels) are skipped and named at the end; the status is then 1.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import DETECTIONS, FOLDER, MODEL, NET, OPTIONS, PROPOSALS
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError

SUPERPIXELS = ("color", "depth", "color+depth", "picture")
"""What superpixels are made from: :data:`caffe_compat.segmentation.superpixels.KINDS`."""
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
    add_gpu(p, several=True)
    sds = p.add_argument_group("segmentation of detections")
    sds.add_argument("--sds", type=int, default=0, metavar="0|1", help="1: segment stored detections")
    sds.add_argument(
        "--sds_detection_file", type=DETECTIONS, metavar="FILE", help="detections.npz, or the branch's .pkl or .mat"
    )
    sds.add_argument(
        "--sds_sp_dir", type=FOLDER, metavar="DIR", help="superpixels: DIR/IMAGE.png of 8 or 16 bits, ids from 1"
    )
    sds.add_argument(
        "--sds_sp_make", choices=("none", *SUPERPIXELS), help="what superpixels that are missing are made from, by "
        "SLIC; a picture is the first modality (default: none where --sds_sp_dir is given, else color or picture)",
    )  # fmt: skip
    sds.add_argument("--sds_sp_count", type=int, default=1000, help="how many are made, about (%(default)s)")
    sds.add_argument(
        "--sds_sp_thresh", type=float, default=0.4, help="mean probability of superpixels in a region (%(default)s)"
    )
    sds.add_argument(
        "--sds_save_output", type=int, default=1, metavar="0|1", help="write boxes and regions (the branch: 0)"
    )
    sds.add_argument(
        "--sds_img_blob_names", "--sds_img_blob_name", nargs="+", metavar="BLOB",
        help="inputs of pictures (default: image da_image)",
    )  # fmt: skip
    sds.add_argument("--sds_output_blob_name", metavar="BLOB", help="probabilities (default: the net's only output)")
    sds.add_argument("--sds_coco", action="store_true", help="COCO's average precision of masks too")
    return p


def main(argv: list[str] | None = None) -> int:
    """Test, write the results, print the table."""
    p = make_parser()
    args = p.parse_args(argv)
    if args.sds:
        return _segment(args)
    given = [name for name, value in vars(args).items() if name.startswith("sds_") and value != p.get_default(name)]
    if given:
        raise UsageError(f"--{given[0]}: only --sds 1 reads this")
    from caffe_compat.commands.testing import test

    test(args)
    return 0


def _segment(args: argparse.Namespace) -> int:
    for name in ("proposals", "score_blob_name", "bbox_blob_name"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name}: with --sds 1 boxes come from --sds_detection_file")
    if args.comp:
        raise UsageError("--comp: with --sds 1 there are no files for servers")
    if not 0 <= args.sds_sp_thresh <= 1:
        raise UsageError(f"--sds_sp_thresh is {args.sds_sp_thresh}, expected 0 to 1")
    from caffe_compat.commands.segmenting import segment

    return segment(args)


def _truth(word: str) -> bool:
    if word.lower() not in _WORDS:
        raise argparse.ArgumentTypeError(f"'{word}' is neither yes nor no")
    return _WORDS[word.lower()]
