"""Command-line arguments of exports in float16 and int8."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from caffe_compat.commands.inputs import FOLDER
from caffe_compat.errors import UsageError

if TYPE_CHECKING:
    from caffe_compat.media import Preparation
    from caffe_compat.onnx import Lower

__all__ = ["add_precision", "name_precision"]


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("low precision, compared with float32 on pictures or random inputs")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--fp16",
        action="store_true",
        help="weights and trunk in float16; inputs, outputs, regions, LRN, softmax and box head stay in float32",
    )
    kind.add_argument(
        "--int8",
        type=FOLDER,
        metavar="FOLDER",
        help="8-bit integers (QDQ) but for scores, box head, LRN and softmax; pictures to measure ranges with",
    )
    add = group.add_argument
    add("--int8-for", default="any", choices=("any", "vnni", "tensorrt"), help="what int8 is to run on (%(default)s)")
    add("--agree", type=FOLDER, metavar="FOLDER", help="pictures to compare on (default: every fourth of --int8)")
    add(
        "--prepare",
        action="append",
        default=[],
        metavar="FIELD=JSON",
        help="a field of preprocessing.json instead of what the file says, such as mean=[104,117,123]",
    )
    add(
        "--keep-float32",
        nargs="+",
        default=[],
        metavar="LAYER",
        help="more that stay so, such as conv1 or 'fc*'",
    )
    add(
        "--precision-tolerance",
        type=float,
        metavar="X",
        help="largest error, relative to an output's largest magnitude (default 0.02 for --fp16, 0.5 for --int8)",
    )


def name_precision(args: argparse.Namespace) -> Lower | None:
    """What is asked for; None: float32.

    Raises:
        UsageError: options that go with neither; pictures, but nothing that says how they become inputs.
        CaffeCompatError: the preprocessing cannot be read.
    """
    if not (args.fp16 or args.int8):
        for name in ("agree", "prepare", "keep_float32", "precision_tolerance"):
            if getattr(args, name):
                raise UsageError(f"--{name.replace('_', '-')} goes with --fp16 or --int8")
        return None
    from caffe_compat.onnx import Lower

    return Lower(
        kind="int8" if args.int8 else "float16",
        calibration=args.int8,
        agree=args.agree,
        wants=_wants(args) if args.int8 or args.agree else None,
        keep=tuple(args.keep_float32),
        target=args.int8_for,
        tolerance=args.precision_tolerance,
    )


def _wants(args: argparse.Namespace) -> Preparation:
    """How pictures become inputs: the file, and single fields over it."""
    import dataclasses

    from caffe_compat.commands.picture_options import find_preparation
    from caffe_compat.media import Preparation, Preprocessing

    stored = find_preparation(args)
    fields = dict(_field(text) for text in args.prepare)
    if stored is None and not fields:
        raise UsageError(
            "there is no preprocessing.json beside the weights: give --preprocessing, or --prepare mean=[104,117,123] "
            "--prepare resize=[227,227] and so on"
        )
    if not fields and stored is not None:
        return stored
    if stored is not None and len(stored.inputs) > 1:
        raise UsageError(f"--prepare is for nets with one input of pictures, this takes {', '.join(stored.inputs)}")
    known = [field.name for field in dataclasses.fields(Preprocessing)]
    for name in fields:
        if name not in known:
            raise UsageError(f"--prepare {name}: expected one of {', '.join(known)}")
    base = {} if stored is None else {name: getattr(stored.first, name) for name in known}
    try:
        return Preparation({"data": Preprocessing(**{**base, **fields})})
    except TypeError as error:
        raise UsageError(f"--prepare {' '.join(args.prepare)}: {error}") from error


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    if not name or not equals:
        raise UsageError(f"--prepare is '{text}', expected FIELD=JSON")
    return name, tuple(read) if isinstance(read, list) else read
