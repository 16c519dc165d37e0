"""What ``measure_scale`` does."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffe_compat.commands.teacher_arguments import blobs_of, name_teacher, own_mean
from caffe_compat.devices import choose
from caffe_compat.errors import UsageError
from caffe_compat.foreign.spec import RANDOM, kind_of, split_feature
from caffe_compat.media import read_first_paths
from caffe_compat.resources import program

if TYPE_CHECKING:
    from caffe_compat.foreign.spec import ForeignSpec
    from caffe_compat.net import Net
    from caffe_compat.transfer.scale import NormReport

__all__ = ["load_features_of", "measure_scale"]


def load_features_of(
    foreign: ForeignSpec | None, model: str, weights: str, blobs: Sequence[str], mean: Sequence[float]
) -> tuple[Net, Sequence[float]]:
    """A net up to some features, and what to subtract from its images."""
    from caffe_compat.transfer.scale import load_branch, load_foreign

    return (load_branch(model, weights, blobs), mean) if foreign is None else (load_foreign(foreign), [0.0])


def measure_scale(arguments: argparse.Namespace) -> list[str]:
    """Do what ``measure_scale.py`` was asked for; returns the lines to print.

    Raises:
        CaffeCompatError: naming the option, file, blob or layer that is wrong.
    """
    from caffe_compat.transfer.scale import measure_norms

    images = read_first_paths(arguments.images, arguments.root_folder)
    progress, device = not arguments.quiet, choose(arguments.gpu)

    def measure(one: argparse.Namespace) -> tuple[str, NormReport]:
        source, features = split_feature(one.teacher)
        if not features and not one.layer:
            raise UsageError(f"which feature of {source}? give --blob, or --model {source}@FEATURE")
        kind, weights = kind_of(source), one.teacher_weights
        if not kind and (weights or RANDOM) == RANDOM or kind in ("torchvision", "timm") and not weights:
            what = f"a .pth or .safetensors file, or '{RANDOM}'" if kind else "a caffemodel"
            raise UsageError(f"{source} needs its weights (--weights, --reference-weights): {what}")
        foreign = name_teacher(one)
        mean = arguments.mean or (() if foreign else own_mean(one.teacher_weights))
        net, mean = load_features_of(foreign, one.teacher, one.teacher_weights, one.layer, mean)
        (blob,) = blobs_of(foreign, one.layer)
        report = measure_norms(net.to(device), [blob], images, mean, arguments.count, progress)[blob]
        if report.mean == 0:
            raise UsageError(f"'{blob}' of {one.teacher} is zero everywhere; are these its weights?")
        return f"{' '.join(one.layer)} of {one.teacher}: {report}", report

    teacher, reference = _models(arguments)
    line, found = measure(teacher)
    lines, flags = [line], [f"--mean-norm {found.mean:.6g}"]
    if reference is not None:
        line, other = measure(reference)
        lines.append(line)
        flags.insert(0, f"--scale {other.mean / found.mean:.6g}")
    words = shlex.split(program("make_transfer")) + ["--teacher", teacher.teacher, "--layer", *teacher.layer]
    words += ["--teacher-weights", teacher.teacher_weights] if teacher.teacher_weights else []
    words += ["--student", arguments.reference_model or "STUDENT.prototxt", "--source", arguments.images]
    return [*lines, *flags, "next:", f"  {shlex.join(words)} --output FOLDER {' '.join(flags)}"]


def _models(arguments: argparse.Namespace) -> tuple[argparse.Namespace, argparse.Namespace | None]:
    """The net that is measured, and the one that it is compared with, as :func:`name_teacher` takes them."""
    given = [arguments.reference_model, arguments.reference_weights]
    if given[1] and not given[0]:
        raise UsageError("--reference-weights needs --reference-model")
    foreign = {name: value for name, value in vars(arguments).items() if name.startswith("teacher_")}
    layer = [arguments.blob] if arguments.blob else []
    first = argparse.Namespace(**foreign, teacher=arguments.model, teacher_weights=arguments.weights, layer=layer)
    if not given[0]:
        return first, None
    other = [arguments.reference_blob] if arguments.reference_blob else []
    if not other and not split_feature(given[0])[1]:
        other = layer or list(split_feature(arguments.model)[1])
    second = argparse.Namespace(**dict.fromkeys(foreign), teacher=given[0], teacher_weights=given[1], layer=other)
    second.teacher_seed = arguments.teacher_seed
    return first, second
