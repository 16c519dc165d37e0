"""Run an exported model on pictures, prepared as the model itself says, and write what it finds.

    tools/infer_onnx.py net.onnx pictures/ --json found.json --draw drawn/
    tools/infer_onnx.py net.onnx a.jpg b.jpg --top 3
    tools/infer_onnx.py franken.onnx pairs.txt --units-per-metre 1000 --json found.json --npz features.npz
    tools/infer_onnx.py detector.onnx a.jpg,a_depth.png --units-per-metre 1000 --json found.json --draw drawn/
    tools/infer_onnx.py detector.onnx pictures/ --masks hypercolumns.onnx --json found.json --draw drawn/

An input is a picture, a folder of pictures, a video (--every), or a text file with a line for each scene: the files of
the model's inputs in their order.  A single scene of several files is written with commas.  One file more than the
model has inputs of pictures is the colour picture of the scene, drawn upon and searched for proposals.  Depth (16-bit
png, pgm, tiff, npy) is made into the HHA or disparity pictures that the model was trained on.

A model that finds objects itself is given pictures alone: SSD's and YOLO's, whose rows are boxes, and Faster R-CNN's
and R-FCN's with the outputs rois, cls_prob and bbox_pred.

With --masks every object gets its pixels: over them in pictures, as COCO's run lengths ("mask") in JSON, and in arrays
as masks with 8 pixels of a row in a byte (numpy.unpackbits(masks, axis=2, count=width)).

Pictures that cannot be used are named at the end, and the exit status is 1.  The same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.infer_arguments import add_boxes, add_depth, add_inputs, add_masks, add_reading, add_results
from caffe_compat.commands.inputs import LIST, ONNX, PREPROCESSING
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """The model, the pictures, how they are prepared, and what is written."""
    p = Parser(__doc__)
    p.add_argument("model", type=ONNX, metavar="MODEL", help="ONNX file of export_onnx")
    add_inputs(p)
    add_results(p, "those in the model", LIST.or_word("nyud2|voc|coco:.*"))
    how = p.add_argument_group("preparation")
    how.add_argument(
        "--preprocessing",
        type=PREPROCESSING,
        metavar="FILE",
        help="preprocessing.json in place of what the model carries",
    )
    add_depth(how, "the one in the model")
    run = p.add_argument_group("running")
    add_reading(run, "; a batch that the model fixes wins")
    run.add_argument("--threads", type=int, metavar="N", help="of ONNX Runtime on the CPU")
    add_gpu(run, "run ONNX Runtime")
    run.add_argument("--device", help="the same in other words: cpu, cuda, cuda:N or tensorrt")
    add_boxes(p, "")
    add_masks(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run; 1 if a picture could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.inferring import infer

    return infer(args)
