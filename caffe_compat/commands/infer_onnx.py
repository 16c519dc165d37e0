"""Run an exported model on pictures, prepared as the model itself says, and write what it finds.

    tools/infer_onnx.py net.onnx pictures/ --json found.json --draw drawn/
    tools/infer_onnx.py net.onnx a.jpg b.jpg --top 3
    tools/infer_onnx.py franken.onnx pairs.txt --units-per-metre 1000 --json found.json --npz features.npz
    tools/infer_onnx.py detector.onnx a.jpg,a_depth.png --units-per-metre 1000 --json found.json --draw drawn/

An input is a picture, a folder of pictures, or a text file with a line for each scene: the files of the model's inputs
in their order.  A single scene of several files is written with commas.  One file more than the model has inputs of
pictures is the colour picture of the scene, drawn upon and searched for proposals.  Depth (16-bit png, pgm, tiff, npy)
is made into the HHA or disparity pictures that the model was trained on.

Pictures that cannot be used are named at the end, and the exit status is 1.  The same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import LIST, NEW_FILE, NEW_FOLDER, ONNX, OPTIONS, PREPROCESSING, PROPOSALS
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """The model, the pictures, how they are prepared, and what is written."""
    p = Parser(__doc__)
    p.add_argument("model", type=ONNX, metavar="MODEL", help="ONNX file of export_onnx")
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder, list, or files of a scene with commas")
    out = p.add_argument_group("results (printed where none is written)")
    out.add_argument("--json", type=NEW_FILE, metavar="FILE", help="labels, or objects, of each picture")
    out.add_argument("--npz", type=NEW_FILE, metavar="FILE", help="the outputs, as arrays over the pictures")
    out.add_argument("--blobs", nargs="+", metavar="BLOB", help="with --npz: which outputs (default: all)")
    out.add_argument("--draw", type=NEW_FOLDER, metavar="FOLDER", help="pictures with their labels or objects")
    out.add_argument("--top", type=int, default=5, metavar="K", help="labels of each picture (default: %(default)s)")
    out.add_argument("--scores", metavar="BLOB", help="output with the scores of classes (default: prob, else the only "
        "one; of a detector cls_prob)")  # fmt: skip
    out.add_argument(
        "--classes", type=LIST, metavar="FILE", help="class names, one a line (default: those in the model)"
    )
    out.add_argument("--overwrite", action="store_true", help="replace results that were made otherwise")
    out.add_argument("--quiet", action="store_true", help="no progress bar")
    how = p.add_argument_group("preparation")
    how.add_argument(
        "--preprocessing",
        type=PREPROCESSING,
        metavar="FILE",
        help="preprocessing.json in place of what the model carries",
    )
    how.add_argument("--units-per-metre", type=float, help="of depth files: 1000 for millimetres; no guess is made")
    how.add_argument("--camera", help="of depth files: preset, file, or fx,fy,cx,cy (default: the one in the model)")
    how.add_argument("--origin", type=int, choices=(0, 1), help="coordinate of the first pixel of --camera")
    run = p.add_argument_group("running")
    run.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (default: %(default)s; "
        "a batch that the model fixes wins)")  # fmt: skip
    run.add_argument("--workers", type=int, metavar="N", help="threads that read ahead (default: one a core, up to 8)")
    run.add_argument("--threads", type=int, metavar="N", help="of ONNX Runtime on the CPU")
    add_gpu(run, "run ONNX Runtime")
    run.add_argument("--device", help="the same in other words: cpu, cuda, cuda:N or tensorrt")
    boxes = p.add_argument_group("detectors")
    boxes.add_argument("--proposals", type=PROPOSALS, default="builtin", metavar="FILE",
        help="boxes that may hold objects, by the "
        "pictures' names; default: builtin, which computes some")  # fmt: skip
    boxes.add_argument("--conf", type=float, default=0.5, help="objects from this score on (default: %(default)s)")
    boxes.add_argument("--cfg", type=OPTIONS, help="YAML file with options of the fast-rcnn tools")
    boxes.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run; 1 if a picture could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.inferring import infer

    return infer(args)
