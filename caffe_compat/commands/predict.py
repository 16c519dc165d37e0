"""Run a net on pictures, folders, videos or RGB-D pairs: labels, features or boxes, and a sheet of the surest.

    tools/predict.py --model deploy.prototxt --weights net.caffemodel --mean 104,117,123 pictures/ --sheet best.png
    tools/predict.py --model deploy.prototxt --weights net_iter_9000.caffemodel pictures/ --json labels.json
    tools/predict.py --model deploy.prototxt --weights N --preprocessing train_val.prototxt a.jpg --classes names.txt
    tools/predict.py --model zoo:caffenet --weights N --mean 104,117,123 pictures/ --h5 features.h5 --blobs fc7
    tools/predict.py --model deploy.prototxt --weights N --mean 104,117,123 clip.mp4 --every 30 --json labels.json
    tools/predict.py --model hha/deploy.prototxt --weights N pairs.txt --units-per-metre 1000 --camera kinect_v1
    tools/predict.py --model deploy.prototxt --weights ssd.caffemodel --mean 104,117,123 a.jpg --draw drawn/
    tools/predict.py --def test.prototxt --net fast_rcnn_iter_40000.caffemodel pictures/ --json boxes.json --draw drawn/

An input is a picture, a folder of pictures, a video, or a text file with a line for each scene: the files of the net's
inputs in their order.  A single scene of several files is written with commas.  One file more than the net has inputs
of pictures is the colour picture of the scene, to look at.  Depth (16-bit png, pgm, tiff, npy) is made into the HHA or
disparity pictures that the net was trained on.  A net with an input "rois" is a Fast R-CNN detector: it gets proposals.
Nets that find objects themselves get none: those with an input "im_info" (Faster R-CNN, R-FCN, PVANET), whose options
are the detector's, and SSD's and YOLO's, whose pictures are prepared as those of other nets.

How pictures become numbers is said by preprocessing.json, which training writes beside the weights; for nets from
elsewhere by --preprocessing train_val.prototxt (its transform_param), or by --mean, --mean-file, --scale and --resize.

Pictures that cannot be used are named at the end, and the exit status is 1.  The same command goes on where it was
stopped.  Processes of torchrun take turns at the batches.  For exported models: infer_onnx.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_dialect, add_gpu
from caffe_compat.commands.infer_arguments import add_boxes, add_depth, add_inputs, add_reading, add_results
from caffe_compat.commands.inputs import LIST, MEAN, NET, PREPROCESSING, WEIGHTS
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """The net, the pictures, how they are prepared, and what is written."""
    p = Parser(__doc__)
    p.add_argument(
        "--def", "--model", type=NET, dest="model", required=True, metavar="PROTOTXT",
        help="deploy net, or a detector's test net; zoo:NAME for one of ours",
    )  # fmt: skip
    p.add_argument(
        "--net", "--weights", type=WEIGHTS, dest="weights", required=True, metavar="CAFFEMODEL", help="its weights; "
        "several with commas are copied in this order",
    )  # fmt: skip
    add_inputs(p)
    add_results(p, "those of preprocessing.json", LIST.or_word("nyud2|voc|coco:.*"))
    add_preparation(p)
    run = p.add_argument_group("running")
    add_reading(run)
    add_gpu(run, several=True)
    add_dialect(run)
    add_boxes(p, " (default: config.yml beside the weights)")
    return p


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """Declare how pictures become what the net takes."""
    how = parser.add_argument_group("preparation: (pixel - mean) * scale, in the order blue, green, red")
    how.add_argument(
        "--preprocessing", type=PREPROCESSING, metavar="FILE",
        help="preprocessing.json, or a train_val.prototxt (default: preprocessing.json beside the weights)",
    )  # fmt: skip
    how.add_argument("--mean", metavar="B,G,R", help="number for each channel of the net, or one for all")
    how.add_argument("--mean-file", type=MEAN, metavar="FILE", help="mean picture, binaryproto or npy (pictures are "
                     "resized to its size)")  # fmt: skip
    how.add_argument("--scale", type=float, help="factor after the mean (default: 1)")
    how.add_argument("--resize", metavar="H,W", help="size before cropping (default: that of the mean, else the net's)")
    how.add_argument("--short-side", type=int, metavar="N", help="in place of --resize: length of the shorter side")
    how.add_argument("--crop", metavar="H,W", help="what is cut from the middle (default: what the net takes)")
    how.add_argument("--channels", choices=("bgr", "rgb"), help="order in which the net sees colours (default: bgr)")
    how.add_argument("--modality", metavar="NAME[,NAME]", help="what the net's inputs see: color, gray, hha, "
                     "disparity, .. (default: color or gray; of two inputs color,hha)")  # fmt: skip
    add_depth(how, "the one in preprocessing.json")


def main(argv: list[str] | None = None) -> int:
    """Predict; 1 if a picture could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.predicting import predict

    return predict(args)
