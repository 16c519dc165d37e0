"""Compare a net with a reference, layer by layer, and name the first layer that diverges.

    tools/verify.py --model deploy.prototxt --weights net.caffemodel --onnx
    tools/verify.py --model deploy.prototxt --weights net.caffemodel --onnx net.onnx
    tools/verify.py --model deploy.prototxt --weights net.caffemodel --npz blobs.npz
    tools/verify.py --model deploy.prototxt --weights net.caffemodel --module caffe

Every layer is compared right after it ran, in-place layers too; of an ONNX file, in any precision, those that have a
value of their own in it.  Exit status 0: all agree, 1: something diverges.
An .npz reference holds in/BLOB (inputs), BLOB or out/BLOB (values at the end), after/LAYER/BLOB (values right after a
layer) and param/LAYER/INDEX (parameters for the net).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffe_compat.commands.flags import add_dialect, add_gpu
from caffe_compat.commands.inputs import ARRAYS, NET, ONNX, PICTURE, WEIGHTS
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError, printable

if TYPE_CHECKING:
    from caffe_compat.media import Preparation

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("--model", type=NET, required=True, help="net prototxt")
    p.add_argument("--weights", type=WEIGHTS, help="caffemodel or caffemodel.h5 files, separated by commas")
    reference = p.add_mutually_exclusive_group(required=True)
    reference.add_argument("--npz", type=ARRAYS, help="file with values of blobs")
    reference.add_argument(
        "--onnx",
        type=ONNX,
        nargs="?",
        const="",
        metavar="FILE",
        help="a delivered file (float32, float16 or int8); alone: export the net and run it in ONNX Runtime",
    )
    reference.add_argument("--module", help="name of a module with pycaffe's interface, such as caffe")
    p.add_argument(
        "--input", type=ARRAYS, help=".npz file with the inputs by name (default: random, or those of --npz)"
    )
    p.add_argument(
        "--picture",
        type=PICTURE,
        metavar="FILE",
        help="of an ONNX file: what to compare on, as the file or what stands beside the weights says; best for int8",
    )
    p.add_argument("--seed", type=int, default=0, help="of random inputs (%(default)s)")
    p.add_argument(
        "--tolerance",
        type=float,
        help="largest difference, relative to the blob's maximum (1e-4; for a file in float16 0.02, in int8 0.5)",
    )
    add_gpu(p)
    add_dialect(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Compare, and print the table."""
    args = make_parser().parse_args(argv)
    import numpy as np

    from caffe_compat import compare
    from caffe_compat.devices import choose
    from caffe_compat.net import load_net
    from caffe_compat.onnx import from_onnx
    from caffe_compat.onnx.delivered import LAYER_TOLERANCES, read_delivered
    from caffe_compat.onnx.samples import random_inputs

    if args.picture and (args.input or not args.onnx):
        raise UsageError("--picture goes with --onnx FILE and without --input")
    weights = args.weights.split(",") if args.weights else []
    net = load_net(args.model, weights, dialect=args.dialect).to(choose(args.gpu))
    inputs, reference = compare.from_npz(net, args.npz) if args.npz else ({}, {})
    tolerance = compare.TOLERANCE if args.tolerance is None else args.tolerance
    if args.input:
        inputs = compare.read_npz(args.input)
    if args.onnx:
        picture = (args.picture, _preparation(args)) if args.picture else None
        delivered = read_delivered(net, args.onnx, inputs or None, picture=picture, seed=args.seed)
        inputs, reference = delivered.inputs, delivered.values
        tolerance = LAYER_TOLERANCES[delivered.precision] if args.tolerance is None else args.tolerance
        print(printable("\n".join(delivered.lines(net))))
    if not inputs:
        shapes = {name: net.blob_shapes[name] for name in net.input_names}
        inputs = random_inputs(net, shapes, np.random.default_rng(args.seed))
    if args.onnx == "":
        reference = from_onnx(net, inputs)
    elif args.module:
        reference = compare.from_module(net, inputs, args.module, weights)
    comparison = compare.compare(net, inputs, reference, tolerance)
    print(printable("\n".join(comparison.lines())))
    return 0 if comparison.first is None else 1


def _preparation(args: argparse.Namespace) -> Preparation:
    """How a picture becomes an input: as the ONNX file says, else what stands beside the weights."""
    from caffe_compat.media import model_preparation
    from caffe_compat.onnx import onnx_preparation

    weights = (args.weights or "").split(",")[-1] or None
    found = onnx_preparation(args.onnx) or model_preparation(args.model, weights)
    if found is None:
        raise UsageError(f"neither {args.onnx} nor a preprocessing.json beside the weights speaks of pictures")
    return found
