"""What ``export_onnx`` is told of pictures and boxes, as options of the export."""

from __future__ import annotations

import argparse
from typing import TypedDict

from caffe_compat.config import load_config
from caffe_compat.detection.description import stored_config
from caffe_compat.errors import UsageError
from caffe_compat.media import Preparation, model_preparation
from caffe_compat.onnx import any_preparation
from caffe_compat.onnx.postprocess import Boxes
from caffe_compat.onnx.preprocess import Pictures

__all__ = ["PictureOptions", "find_preparation", "picture_options"]


class PictureOptions(TypedDict, total=False):
    """Of :class:`~caffe_compat.onnx.options.ExportOptions`."""

    preparation: Preparation | None
    preprocess: Pictures | None
    postprocess: Boxes | None


def find_preparation(args: argparse.Namespace) -> Preparation | None:
    """What ``--preprocessing``, or else a file beside the weights or the prototxt, says; None: there is none.

    Raises:
        DataError, MissingFileError: it is damaged, or speaks of other weights.
    """
    if args.preprocessing:
        return any_preparation(args.preprocessing)
    every = [model_preparation(args.model, file) for file in (args.weights or "").split(",") if file]
    return next((found for found in every if found), None) or model_preparation(args.model)


def picture_options(args: argparse.Namespace) -> PictureOptions:
    """``preparation``, ``preprocess`` and ``postprocess`` as the arguments say.

    Raises:
        UsageError: arguments that need others, or nothing is known of the pictures that the net wants.
        DataError, MissingFileError: a preprocessing.json that is damaged, or speaks of other weights.
    """
    if args.resize is not None and not args.preprocess:
        raise UsageError("--resize goes with --preprocess")
    if args.cfg and not args.postprocess:
        raise UsageError("--cfg goes with --postprocess")
    weights = args.weights.split(",")[0] if args.weights else None
    found = find_preparation(args)
    options = PictureOptions(preparation=found)
    if args.preprocess:
        if found is None:
            raise UsageError(
                f"--preprocess: what does the net want of pictures? No preprocessing.json stands beside "
                f"{weights or args.model}: give --preprocessing FILE"
            )
        options["preprocess"] = Pictures(found, args.preprocess, _size(args.resize, found))
    if args.postprocess:
        stored = stored_config(weights) if weights else None
        options["postprocess"] = Boxes.of(load_config(args.cfg or stored, []))
    return options


def _size(text: str | None, found: Preparation) -> tuple[int, int] | None:
    """Height and width of ``--resize``; alone: what the preprocessing says."""
    if text is None:
        return None
    if not text:
        wanted = found.first
        if wanted.resize is None and (wanted.short_side or wanted.crop is None):
            raise UsageError("--resize: to which size? The preprocessing names none: give --resize H,W")
        return wanted.resize or wanted.crop
    sides = [side.strip() for side in text.split(",")]
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise UsageError(f"--resize is '{text}', expected H,W")
    return int(sides[0]), int(sides[1])
