"""Where ONNX Runtime runs the nodes of a model on a machine with a GPU, and what it copies between the devices.

placement.py net.onnx
placement.py net.onnx --onnxruntime 1.20 --size batch=8
placement.py net.onnx --gpu 0

Told from a table of the CUDA provider's kernels; with --gpu from the profile of a run there.  The exit status is 1 if
a value of more than --limit bytes is copied, or if the model has an opset above 18 and a node no kernel for that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import ONNX
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError, printable


def make_parser() -> argparse.ArgumentParser:
    """Which model, in which version of ONNX Runtime, and how large."""
    parser = Parser(__doc__)
    parser.add_argument("model", type=ONNX, help="ONNX model")
    parser.add_argument("--onnxruntime", metavar="VERSION", help="whose kernels to go by: 1.20, 1.22 or 1.24 (default)")
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=N",
        help="of an open size (default: the prototxt's, else 300)",
    )
    parser.add_argument("--limit", type=int, default=1024, help="bytes that may be copied (default 1024)")
    parser.add_argument("--brief", action="store_true", help="only nodes that do not run on the GPU, copies, a summary")
    add_gpu(parser, "run the model once on zeros and read the profile")
    return parser


def parse_size(text: str) -> tuple[str, int]:
    """``batch=8``.

    Raises:
        UsageError: not of that form.
    """
    name, _, value = text.partition("=")
    if not name or not value.isascii() or not value.isdecimal() or not 0 < int(value[:10]) < 2**31:
        raise UsageError(f"--size is '{text}', expected NAME=N with a positive N")
    return name, int(value)


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    args = make_parser().parse_args(argv)
    if args.limit < 0:
        raise UsageError(f"--limit is {args.limit}, expected 0 or more bytes")
    sizes = dict(map(parse_size, args.size))
    from caffe_compat.devices import choose

    device = str(choose(args.gpu))
    if args.onnxruntime and device != "cpu":
        raise UsageError("--onnxruntime and --gpu: on a GPU the installed ONNX Runtime is asked, leave one out")
    return show_placement(args.model, args.onnxruntime, device, sizes, args.limit, args.brief)


def show_placement(
    path: str | os.PathLike[str],
    version: str | None = None,
    device: str = "cpu",
    sizes: Mapping[str, int] | None = None,
    limit: int = 1024,
    brief: bool = False,
) -> int:
    """Print where the nodes of a model run, and what is wrong with that on stderr.

    Args:
        version: of ONNX Runtime, by default the newest that there is a table for.
        device: ``cpu`` to go by the table, or a GPU to run the model on.

    Returns:
        The exit status: 1 if something large is copied, or the opset takes a node from the GPU.
    """
    from caffe_compat.onnx.cuda_kernels import VERSIONS
    from caffe_compat.onnx.placement import place
    from caffe_compat.onnx.profiled import profile

    if device == "cpu":
        found = place(path, version or VERSIONS[-1], sizes, limit)
    else:
        found = profile(path, device, sizes, limit)
    print(printable("\n".join(found.lines(brief))))
    if found.passed:
        return 0
    print(f"error: {printable(found.refusal)}", file=sys.stderr)
    return 1
