"""Command-line arguments that name a teacher: a prototxt, or a net of another framework."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_compat.errors import UsageError
from caffe_compat.foreign.spec import (
    IMAGENET_RGB,
    RANDOM,
    ForeignSpec,
    Normalization,
    blob_name,
    is_foreign,
    kind_of,
    split_feature,
)
from caffe_compat.media.modalities import FORK_MEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TEACHER_HELP", "add_foreign", "blobs_of", "name_teacher", "own_mean"]

TEACHER_HELP = (
    "prototxt (deploy or train_val), torchvision:NAME, timm:NAME, package.module:function or FILE.onnx; "
    "@FEATURE at its end may stand for --layer"
)


def add_foreign(parser: argparse.ArgumentParser) -> None:
    """Declare how a net of another framework takes pictures."""
    group = parser.add_argument_group("teacher of another framework", "instead of what it says of itself")
    add = group.add_argument
    numbers: dict[str, Any] = {"nargs": 3, "type": float}
    add("--teacher-mean", **numbers, metavar=("R", "G", "B"), help="subtracted, of pixels from 0 to 1")
    add("--teacher-std", **numbers, metavar=("R", "G", "B"), help="what is left is divided by")
    add("--teacher-range", type=float, metavar="N", help="pixels are divided by it first (255)")
    add("--teacher-bgr", action="store_true", help="it takes blue first; mean and std are in that order too")
    add("--teacher-seed", type=int, default=0, help=f"of --teacher-weights {RANDOM} (%(default)s)")


def name_teacher(arguments: argparse.Namespace) -> ForeignSpec | None:
    """Split ``--teacher SOURCE@FEATURE`` into ``teacher`` and ``layer``; what it is, unless a prototxt.

    Raises:
        UsageError: no feature, or two different ones; options that only a net of another framework has.
    """
    source, features = split_feature(arguments.teacher)
    if features and arguments.layer and list(features) != list(arguments.layer):
        raise UsageError(f"--teacher ends with @{','.join(features)}, --layer is {' '.join(arguments.layer)}: give one")
    arguments.teacher, arguments.layer = source, list(features or arguments.layer or ())
    if not arguments.layer:
        raise UsageError(f"which feature of {source}? give --layer, or --teacher {source}@FEATURE")
    if not is_foreign(source):
        _refuse_options(arguments, source)
        return None
    weights = arguments.teacher_weights or ""
    if kind_of(source) in ("torchvision", "timm") and not weights:
        raise UsageError(f"{source} needs --teacher-weights: a file (.pth, .safetensors), or '{RANDOM}'")
    return ForeignSpec(source, tuple(arguments.layer), weights, arguments.teacher_seed, _takes(arguments, source))


def own_mean(weights: str | None) -> tuple[float, ...]:
    """What is subtracted from a teacher's pictures: as ``WEIGHTS.preprocessing.json`` says, else as in fast-rcnn.

    Raises:
        UsageError: pictures that the pairs of a transfer cannot be.
        CaffeCompatError: that file cannot be used.
    """
    from caffe_compat.media import read_preprocessing

    side = Path(weights).with_suffix(".preprocessing.json") if weights else None
    if side is None or not side.exists():
        return FORK_MEAN
    wanted = read_preprocessing(side)
    if wanted.scale != 1 or not wanted.mean or wanted.channels != ("blue", "green", "red"):
        raise UsageError(f"{side}: pairs are blue, green and red minus a mean for each; give --mean to leave it aside")
    print(f"mean {' '.join(f'{value:g}' for value in wanted.mean)} (blue, green, red), as {side} says")
    return wanted.mean


def blobs_of(spec: ForeignSpec | None, layers: Sequence[str]) -> tuple[str, ...]:
    """What the features' blobs are called in our nets."""
    return tuple(layers) if spec is None else tuple(map(blob_name, layers))


def _refuse_options(arguments: argparse.Namespace, source: str) -> None:
    given = (arguments.teacher_mean, arguments.teacher_std, arguments.teacher_range, arguments.teacher_bgr or None)
    names = ("mean", "std", "range", "bgr")
    for name, value in zip(names, given, strict=True):
        if value is not None:
            raise UsageError(f"--teacher-{name} is for teachers of other frameworks; {source} sees --mean")


def _takes(arguments: argparse.Namespace, source: str) -> Normalization:
    from caffe_compat.foreign.torch_nets import own_normalization

    given = {
        "mean": tuple(arguments.teacher_mean) if arguments.teacher_mean else None,
        "std": tuple(arguments.teacher_std) if arguments.teacher_std else None,
        "pixel_range": arguments.teacher_range,
        "rgb": False if arguments.teacher_bgr else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    own = None if len(given) == len(dataclasses.fields(Normalization)) else own_normalization(source)
    if own is None and given:  # who says how it takes pictures says all of it
        return Normalization(**given)
    if own is None:
        print(f"{source} does not say how it takes pictures; as torchvision's nets (--teacher-mean): {IMAGENET_RGB}")
    return dataclasses.replace(own or IMAGENET_RGB, **given)
