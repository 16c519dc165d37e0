"""Find objects in a picture with a Fast R-CNN net, and write the picture with boxes, class names and scores.

    tools/detect.py --def test.prototxt --net fast_rcnn_iter_40000.caffemodel --image a.jpg --out found.png
    tools/detect.py --def hha/test.prototxt --net N --hha a_hha.png --image a.jpg --out found.png
    tools/detect.py --def fused.prototxt --net N --image a.jpg --depth a_depth.png --camera nyud2_color \\
        --units-per-metre 1000 --classes nyud2 --out found.png --json found.json

A net with an input "im_info" in place of "rois" (Faster R-CNN, R-FCN) finds its regions itself; those of SSD and YOLO
are run by predict.

Options and class names are those that training wrote beside the weights (config.yml, preprocessing.json), unless --cfg
and --classes say others.

Caffe's own detect.py, which classifies windows cut out of pictures (R-CNN), is detect_windows; given its options
(--model_def, --pretrained_model, --crop_mode), this command is that one.
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.commands import detect_windows
from caffe_compat.commands.depth_arguments import add_file_arguments, add_hole_arguments
from caffe_compat.commands.flags import add_dialect, add_gpu
from caffe_compat.commands.inputs import DEPTH, LIST, MODEL, NET, NEW_FILE, OPTIONS, PICTURE, PROPOSALS
from caffe_compat.commands.parser import Parser
from caffe_compat.depth.scale import DISPARITY_SCALE

CAFFES = ("--model_def", "--pretrained_model", "--crop_mode")
"""Options of Caffe's script."""


def make_parser() -> argparse.ArgumentParser:
    """The net, the picture in its modalities, and what is written."""
    p = Parser(__doc__)
    p.add_argument(
        "--def", type=NET, dest="prototxt", required=True, metavar="PROTOTXT", help="the net's test prototxt"
    )
    p.add_argument("--net", type=MODEL, dest="weights", required=True, nargs="+", metavar="CAFFEMODEL",
        help="weights; several are "
        "copied in this order")  # fmt: skip
    p.add_argument("--image", type=PICTURE, help="colour picture; boxes are drawn into it")
    p.add_argument("--hha", type=PICTURE, help="HHA picture of the same view")
    p.add_argument("--depth", type=DEPTH, help="depth of the same view, from which HHA is made as in training")
    p.add_argument("--cfg", type=OPTIONS, help="YAML file with options of the fast-rcnn tools")
    p.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    p.add_argument(
        "--classes",
        type=LIST.or_word("nyud2|voc|coco:.*"),
        metavar="FILE",
        help="class names, one a line, without the background; or nyud2, voc or coco:PATH.json,...",
    )
    p.add_argument(
        "--proposals", type=PROPOSALS, default="builtin", metavar="FILE",
        help="boxes that may hold objects, by the picture's name; "
        "default: builtin, which computes some",
    )  # fmt: skip
    p.add_argument("--conf", type=float, default=0.8, help="show boxes from this score on (default: %(default)s)")
    p.add_argument("--out", type=NEW_FILE, metavar="PNG", help="picture to write")
    p.add_argument("--json", type=NEW_FILE, metavar="JSON", help="write the objects here")
    p.add_argument("--score_blob_name", metavar="BLOB", help="default: cls_prob, with TEST.SVM cls_score")
    p.add_argument("--bbox_blob_name", metavar="BLOB", help="default: bbox_pred")
    add_gpu(p)
    add_dialect(p)
    depth = p.add_argument_group("depth (as for make_hha)")
    add_file_arguments(depth, "hha")
    add_hole_arguments(p)
    p.set_defaults(fill=None, min_depth=None)  # as preprocessing.json says
    depth.add_argument("--near", type=float, metavar="METRES", help="nearest depth of the pictures trained on: scales "
        "the disparity channel")  # fmt: skip
    depth.add_argument(
        "--scale", type=float, help=f"of the disparity channel, as in training (default: {DISPARITY_SCALE:g})"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Detect, write, and print what was found."""
    words = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] in CAFFES for word in words):
        return detect_windows.main(argv)
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.detecting import detect

    detect(args)
    return 0
