"""Turn a Caffe net into an ONNX model and compare it with PyTorch in ONNX Runtime.

export_onnx.py --model deploy.prototxt --weights net.caffemodel --output net.onnx
export_onnx.py --model deploy.prototxt --weights net.caffemodel --output net.onnx --outputs fc7 prob --dynamic
export_onnx.py --model deploy.prototxt --weights net.caffemodel --output net.onnx --fp16 --agree pictures
export_onnx.py --model deploy.prototxt --weights net.caffemodel --output net.onnx --int8 pictures
export_onnx.py --model deploy.prototxt --weights net.caffemodel --output net.onnx --preprocess rgb --resize
export_onnx.py --model test.prototxt --weights fast_rcnn_iter_40000.caffemodel --output net.onnx --dynamic --postprocess

What the net wants of pictures (preprocessing.json, which training writes beside the weights) is stored in the model.

If an output differs by more than the tolerance, or holds NaN, the model is kept as NAME.unverified.onnx and the exit
status is 1.
"""

from __future__ import annotations

import argparse
import sys

from caffe_compat.commands.flags import add_dialect, add_gpu, shape_flag
from caffe_compat.commands.inputs import ARRAYS, NET, NEW_FILE, WEIGHTS
from caffe_compat.commands.parser import Parser
from caffe_compat.commands.picture_arguments import add_pictures
from caffe_compat.commands.placement import show_placement
from caffe_compat.commands.precision_arguments import add_precision, name_precision
from caffe_compat.errors import UsageError, printable


def parse_metadata(text: str) -> tuple[str, str]:
    """``mean_bgr=[104,117,123]``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--metadata is '{text}', expected NAME=VALUE")
    return name, value


def make_parser() -> argparse.ArgumentParser:
    """What to export, how, and how to check it."""
    parser = Parser(__doc__)
    parser.add_argument("--model", type=NET, required=True, help="deploy prototxt")
    parser.add_argument("--weights", type=WEIGHTS, help="caffemodel or caffemodel.h5 files, separated by commas")
    parser.add_argument("--output", type=NEW_FILE, required=True, help="file to write")
    parser.add_argument("--outputs", nargs="+", metavar="BLOB", help="blobs to compute (default: the net's outputs)")
    parser.add_argument("--shape", action="append", default=[], help="NAME=N,C,H,W: another shape for an input")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--dynamic",
        nargs="?",
        const="all",
        default="batch",
        metavar="SIZES",
        help="sizes left open until run time, out of batch,boxes,height,width (default batch, the "
        "number of boxes included; alone: all the net allows)",
    )
    group.add_argument("--static", action="store_true", help="leave no size open")
    parser.add_argument("--opset", type=int, default=17, help="17 to 21 (default 17)")
    parser.add_argument(
        "--roi",
        choices=["cpu", "gpu"],
        default="cpu",
        help="how regions are pooled: by MaxRoiPool, which no GPU has, or by others, to the same bits (default cpu)",
    )
    parser.add_argument(
        "--fold", action="store_true", help="make BatchNorm, Scale and Bias part of the weights of the layer before"
    )
    parser.add_argument(
        "--placement",
        nargs="?",
        const="",
        metavar="VERSION",
        help="show where ONNX Runtime (1.20, 1.22 or 1.24, the default; with --gpu the installed one) runs the nodes "
        "on a machine with a GPU; exit with 1 if it copies more than 1024 bytes between the devices",
    )
    add_pictures(parser)
    parser.add_argument("--metadata", action="append", default=[], help="NAME=VALUE to store, such as the mean")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference (default 1e-4)")
    parser.add_argument(
        "--input", type=ARRAYS, help=".npz file with inputs by name to compare with (default: random ones)"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not compare with PyTorch")
    add_precision(parser)
    add_dialect(parser)
    where = parser.add_mutually_exclusive_group()
    add_gpu(where, "run ONNX Runtime")
    where.add_argument("--device", help="the same in torch's words: cpu, cuda or cuda:N")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.static:
        dynamic: bool | tuple[str, ...] = ()
    else:
        dynamic = True if args.dynamic == "all" else tuple(args.dynamic.split(","))
    from caffe_compat.commands.picture_options import picture_options
    from caffe_compat.compare import read_npz
    from caffe_compat.devices import choose
    from caffe_compat.net import load_net
    from caffe_compat.net.pads import other_pads
    from caffe_compat.onnx import export_verified
    from caffe_compat.segmentation.deployed import is_mask_net

    precision = name_precision(args)
    device = str(choose(args.gpu) if args.device is None else choose(args.device, "--device"))
    files = args.weights.split(",") if args.weights else []
    net = load_net(args.model, files or None, dialect=args.dialect)
    wrong = other_pads(net.nodes, files) if is_mask_net(net.input_names) else []
    if wrong:
        raise UsageError(f"{args.model}: {'; '.join(wrong[:3])}: its maps lie elsewhere")
    report = export_verified(
        net,
        args.output,
        inputs=dict(map(shape_flag, args.shape)),
        outputs=args.outputs,
        dynamic=dynamic,
        opset=args.opset,
        roi=args.roi,
        fold=args.fold,
        metadata=dict(parse_metadata(text) for text in args.metadata),
        tolerance=None if args.no_verify else args.tolerance,
        device=device,
        **picture_options(args),
        samples=read_npz(args.input) if args.input else None,
        precision=precision,
    )
    print(printable("\n".join(report.lines())))
    placed = 0 if args.placement is None else show_placement(report.path, args.placement, device)
    if report.passed:
        return placed
    print(f"error: {report.refusal}; kept as {report.path}, {args.output} not written", file=sys.stderr)
    return 1
