"""Measure how large a feature is, and the factor that makes a teacher's feature as large as another net's.

    tools/measure_scale.py --model prototxt/vgg16/deploy.prototxt --weights vgg16.caffemodel --blob pool5 \\
        --images output/rgbd/train_pairs.txt \\
        --reference-model prototxt/alexnet/deploy.prototxt --reference-weights alexnet.caffemodel

The norm over channels at each location, averaged over all locations of all images.  Of each line of the list the first
path is taken, so lists of pairs will do.  The reference is the RGB net of the student's architecture.  Nets of
torchvision, timm and other torch modules, and ONNX files, see the pictures as they were trained.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import FOLDER, LIST, TEACHER, TEACHER_WEIGHTS
from caffe_compat.commands.parser import Parser
from caffe_compat.commands.teacher_arguments import TEACHER_HELP, add_foreign


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument(
        "--model", type=TEACHER, required=True, help=f"the teacher: {TEACHER_HELP.replace('--layer', '--blob')}"
    )
    p.add_argument(
        "--weights", type=TEACHER_WEIGHTS, help="its caffemodel; of a torch module .pth or .safetensors, or random"
    )
    p.add_argument("--blob", help="the feature")
    p.add_argument("--images", type=LIST, required=True, help="list of images of the teacher's modality")
    p.add_argument("--root-folder", type=FOLDER, default="", help="what its paths are relative to, if not to the list")
    p.add_argument(
        "--reference-model", type=TEACHER, help="the net whose feature should be as large; what --model may be"
    )
    p.add_argument("--reference-weights", type=TEACHER_WEIGHTS, help="its weights")
    p.add_argument("--reference-blob", help="its feature (default: the name of --blob)")
    p.add_argument("--count", type=int, default=200, help="at most so many images (%(default)s)")
    p.add_argument("--mean", nargs="+", type=float, metavar="BGR", help="subtracted, as in make_transfer")
    add_foreign(p)
    add_gpu(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: list[str] | None = None) -> int:
    """Print the mean norms and the factor."""
    arguments = make_parser().parse_args(argv)
    from caffe_compat.commands.scale_actions import measure_scale

    print("\n".join(measure_scale(arguments)))
    return 0
