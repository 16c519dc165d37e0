"""Two nets with paired features, and the pictures that they are shown: opened, and told about."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caffe_compat.description import LayerDescription
from caffe_compat.description.names import adapted
from caffe_compat.errors import UsageError
from caffe_compat.figures.answers import Answers, Feature, Moments, load_feature
from caffe_compat.figures.patches import Patch, Patches
from caffe_compat.figures.sources import (
    DeclaredPairs,
    Feeding,
    PairSource,
    PreparedPairs,
    check_pairs_layer,
    preparation,
    stated,
)
from caffe_compat.files import write_file
from caffe_compat.foreign.spec import IMAGENET_RGB, ForeignSpec, blob_name, is_foreign, split_feature
from caffe_compat.foreign.torch_nets import own_normalization
from caffe_compat.media import Preprocessing
from caffe_compat.net.receptive import Grid
from caffe_compat.transfer.branch import Branch, read_branch
from caffe_compat.transfer.teachers import foreign_branch

__all__ = ["NetPair", "PairNames", "lines", "open_pair", "write_numbers"]


OWN = "-"
"""What stands for the weights of a net that brings its own."""


@dataclass(frozen=True)
class PairNames:
    """Which nets and features.

    Attributes:
        models: one prototxt with both nets and their data (train_val), or the teacher's and the student's; the teacher
            may be a net of another framework (``torchvision:NAME``, ...), its feature is then ``teacher_blob``.
        weights: as many, or one for both; files separated by commas, ``random``, or ``-`` for a net with its own.
        teacher_blob, student_blob: the features.
        modality: of the second pictures; empty: what ``preprocessing.json`` beside the student says.
    """

    models: tuple[str, ...]
    weights: tuple[str, ...]
    teacher_blob: str
    student_blob: str = ""
    modality: str = ""

    def __post_init__(self) -> None:
        if len(self.models) not in (1, 2):
            raise UsageError(f"--model has {len(self.models)} files, expected train_val, or teacher and student")
        if len(self.weights) not in (1, len(self.models)):
            raise UsageError(f"--weights has {len(self.weights)} entries, expected 1 or {len(self.models)}, as --model")


@dataclass(frozen=True)
class NetPair:
    """Both features, and the pictures.

    Attributes:
        modality: of the second pictures, if that is known.
    """

    teacher: Feature
    student: Feature
    source: PairSource
    modality: str


def open_pair(names: PairNames, feeding: Feeding, seed: int = 0, device: torch.device | None = None) -> NetPair:
    """Open nets, weights and pairs.

    Args:
        seed: of random weights.
        device: where the nets run.

    Raises:
        CaffeCompatError: a file, net, blob or layer that cannot be used.
    """
    first, last = names.models[0], names.models[-1]
    foreign = is_foreign(first)
    blob = blob_name(names.teacher_blob) if foreign else names.teacher_blob
    teacher = _foreign(first, names, seed) if foreign else read_branch(first, [blob], "TEST")
    branches = teacher, read_branch(last, [names.student_blob or adapted(blob)], "TEST")
    for branch in branches:
        if branch.over_boxes:
            raise UsageError(
                f"{branch.path}: '{branch.blobs[0]}' is a feature over boxes, expected one of whole images"
            )
    told = stated(last, branches[1].input, names.weights[-1])
    wanted = names.modality or (told.modality if told is not None else "")
    source: PairSource
    if len(names.models) == 1:
        fixed = any(branch.fixed for branch in branches)
        source = DeclaredPairs(_data_layer(*branches), feeding, keep_crop=fixed)
    else:
        own = "" if foreign else names.weights[0]
        # a foreign one subtracts its own mean
        wants = Preprocessing(mean=(0.0,)) if foreign else preparation(first, "color", branches[0].input, own)
        seen = preparation(last, names.modality, branches[1].input, names.weights[-1])
        source = PreparedPairs(wants, seen, feeding)
    features = [
        load_feature(branch, weights, seed)
        for branch, weights in zip(branches, (names.weights[0], names.weights[-1]), strict=True)
    ]
    for feature in features:
        feature.net.to(device or torch.device("cpu"))
    return NetPair(features[0], features[1], source, wanted)


def _foreign(model: str, names: PairNames, seed: int) -> Branch:
    """A teacher of another framework, which takes pictures as it says itself, or as torchvision's nets."""
    source = split_feature(model)[0]
    weights = "" if names.weights[0] == OWN else names.weights[0]
    takes = own_normalization(source) or IMAGENET_RGB
    return foreign_branch(ForeignSpec(source, (names.teacher_blob,), weights, seed, takes), (224, 224))


def _data_layer(teacher: Branch, student: Branch) -> LayerDescription:
    """The layer that feeds both.

    Raises:
        UsageError: each is fed by another one, or both see the same pictures.
    """
    sources = [
        next(layer for layer in branch.everything if branch.input in layer.message.top and not layer.message.bottom)
        for branch in (teacher, student)
    ]
    path, blobs = teacher.path, (teacher.blobs[0], student.blobs[0])
    if sources[0] is not sources[1] and sources[0].name != sources[1].name:
        raise UsageError(
            f"{path}: '{blobs[0]}' and '{blobs[1]}' take their pictures from layers '{sources[0].name}' and "
            f"'{sources[1].name}', expected one layer with pairs"
        )
    check_pairs_layer(sources[0])
    tops = list(sources[0].message.top)
    if (tops.index(teacher.input), tops.index(student.input)) != (0, 1):
        raise UsageError(
            f"{path}: '{blobs[0]}' depends on '{teacher.input}' and '{blobs[1]}' on '{student.input}', expected the "
            f"first and the second top of layer '{sources[0].name}': {', '.join(tops)}"
        )
    return sources[0]


# -- what is told -------------------------------------------------------------------------------------------------


def lines(
    pair: NetPair, found: Sequence[Patches], answers: Sequence[Answers], moments: Moments, grids: Sequence[Grid | None]
) -> list[str]:
    """What the nets' fields are, and a line for each pair of units."""
    told = [
        f"{who}: '{feature.blob}' of {feature.model}, {grid or 'fields as large as the pictures, or not known'}"
        for who, feature, grid in zip(("teacher", "student"), (pair.teacher, pair.student), grids, strict=True)
    ]
    told.append(f"{len(pair.source.pairs)} pairs of {pair.source.source}, {moments.count} places")
    for one in found:
        parts = [f"unit {one.unit}: correlation {_number(one.correlation)}"]
        for who, answer, patches in zip(("teacher", "student"), answers, (one.teacher, one.student), strict=True):
            most = answer.most[:, one.unit].max()
            parts.append(f"{who} up to {most:.4g}" + ("" if patches else " (the same everywhere)"))
        told.append(", ".join(parts))
    return told


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def write_numbers(
    path: str | os.PathLike[str],
    pair: NetPair,
    found: Sequence[Patches],
    moments: Moments,
    grids: Sequence[Grid | None],
) -> None:
    """Write the numbers behind a sheet as JSON: where the nets and pictures come from, all patches, correlations of all
    units (null where an answer never varies).

    Raises:
        WriteError: it cannot be written.
    """
    correlation = [None if math.isnan(value) else value for value in moments.correlation().tolist()]
    content = {
        "source": pair.source.source,
        "pairs": len(pair.source.pairs),
        "places": moments.count,
        "modality": pair.modality or None,
        "teacher": _feature(pair.teacher, grids[0]),
        "student": _feature(pair.student, grids[1]),
        "units": [
            {
                "unit": one.unit,
                "correlation": correlation[one.unit],
                "teacher": [_patch(patch, pair.source) for patch in one.teacher],
                "student": [_patch(patch, pair.source) for patch in one.student],
            }
            for one in found
        ],
        "correlation_of_all_units": correlation,
    }
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _feature(feature: Feature, grid: Grid | None) -> dict[str, Any]:
    fields = None if grid is None else {"size": grid.size, "jump": grid.jump, "offset": grid.offset}
    return {"model": feature.model, "weights": feature.weights, "blob": feature.blob, "fields": fields}


def _patch(patch: Patch, source: PairSource) -> dict[str, Any]:
    pair, place = source.pairs[patch.place.pair], patch.place
    (top, bottom), (left, right) = patch.window
    return {
        "line": pair.line,
        "first": pair.first,
        "second": pair.second,
        "row": place.row,
        "column": place.column,
        "value": place.value,
        "window": {"top": top, "bottom": bottom, "left": left, "right": right},
    }
