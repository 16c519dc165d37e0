"""Draw the patches to which paired units of teacher and student answer most, both modalities side by side.

A transfer:  tools/show_patches.py --model output/my/train_val.prototxt --teacher-blob pool5 \\
                 --weights output/my/transfer_iter_1000.caffemodel --output patches.png
Two nets:    tools/show_patches.py --model teacher/deploy.prototxt student_deploy.prototxt \\
                 --weights teacher.caffemodel transfer_iter_1000.caffemodel --teacher-blob pool5 \\
                 --source val_pairs.txt --output patches.png

Each unit has two rows: what was there where the teacher answered most, and where the student did, one patch a pair of
pictures, strongest first; above the first modality, below the second, at the same place.  A patch is the unit's
receptive field, grey beyond the picture.  The nets see whole pictures, in the size and with the means that the data
layer says, or preprocessing.json beside each prototxt.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import FOLDER, LIST, NEW_FILE, TEACHER, TEACHER_WEIGHTS
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable


def make_parser() -> argparse.ArgumentParser:
    """Nets, pictures, units and the sheet."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--model",
        type=TEACHER,
        nargs="+",
        required=True,
        metavar="PROTOTXT",
        help="train_val of a transfer, or teacher (also torchvision:NAME, FILE.onnx, ...) and student",
    )
    add(
        "--weights",
        type=TEACHER_WEIGHTS.or_word("random|-"),
        nargs="+",
        required=True,
        metavar="FILE",
        help="weights of each, or one for both; several separated by commas; 'random', or '-': its own",
    )
    add("--teacher-blob", required=True, metavar="BLOB", help="the teacher's feature")
    add("--student-blob", default="", metavar="BLOB", help="the student's (default: adapt_ and the teacher's name)")
    add("--output", type=NEW_FILE, required=True, help="picture to write, .png or .pdf")
    add("--json", type=NEW_FILE, metavar="FILE", help="write the numbers here too")
    units = parser.add_argument_group("units")
    add = units.add_argument
    add("--units", nargs="+", type=int, default=[], metavar="N", help="their numbers, counted from 0")
    add(
        "--choose",
        choices=("explained", "strongest", "random"),
        default="explained",
        help="without --units: those whose answers correlate most, those of the teacher's largest answers, or any",
    )
    add("--count", type=int, default=6, help="so many are chosen (%(default)s)")
    add("--inside", action="store_true", help="only units whose patch lies wholly within the picture, in both nets")
    add("--top", type=int, default=5, help="patches of each (%(default)s)")
    add("--seed", type=int, default=0, help="of --choose random, and of random weights (%(default)s)")
    data = parser.add_argument_group("pictures")
    add = data.add_argument
    add(
        "--source",
        type=LIST,
        default="",
        metavar="LIST",
        help="pairs (default: those that a train_val prototxt tests on)",
    )
    add(
        "--root-folder",
        type=FOLDER,
        help="what paths in the list are relative to (default: as the net says, else the list's folder)",
    )
    add("--short-side", type=int, help="resize to this shorter side, 0: not at all (default: as the nets say)")
    add("--multiple-of", type=int, help="cut pictures to multiples of this (default: as the net says)")
    add(
        "--mean",
        nargs="+",
        type=float,
        default=[],
        metavar="BGR",
        help="of the first pictures (default: as the net says)",
    )
    add("--mean-second", nargs="+", type=float, default=[], metavar="BGR", help="of the second")
    add("--modality", default="", help="of the second pictures (default: what preprocessing.json says)")
    sheet = parser.add_argument_group("sheet")
    add = sheet.add_argument
    add("--patch", type=int, default=0, metavar="PIXELS", help="squares of this side instead of whole receptive fields")
    add("--titles", nargs=2, metavar=("TEACHER", "STUDENT"), help="over the halves")
    add("--names", nargs=2, metavar=("FIRST", "SECOND"), help="of the modalities, beside the rows")
    add("--columns", type=int, default=1, help="of units (%(default)s)")
    add("--tile", type=float, default=0.55, help="inches that a patch is wide (%(default)s)")
    add("--dpi", type=int, default=300, help="dots per inch (%(default)s)")
    add_gpu(parser, "run the nets")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw what the arguments say; prints the correlation of each pair of units."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.patches import show_patches

    print(printable("\n".join(show_patches(args))))
    return 0
