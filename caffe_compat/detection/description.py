"""What a detector sees and tells apart, kept beside its snapshots: ``preprocessing.json`` and ``config.yml``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.depth.stated import stated_encoding
from caffe_compat.errors import UsageError
from caffe_compat.media import MODALITIES, Preparation, Preprocessing

__all__ = ["BACKGROUND", "check_described", "describe_detector", "picture_inputs", "stored_config"]

BACKGROUND = "__background__"
"""What the branch calls label 0."""
_KINDS = {"images": "color"}
"""Modalities whose folders are called otherwise."""


def describe_detector(imdb: ImageDatabase, config: Config) -> Preparation:
    """What a detector that is trained on a database sees, by input, and its labels.

    Args:
        config: PIXEL_MEANS, MODALITY_MEANS, TEST.SCALES (the first; TEST.MODALITY_SCALES) and TEST.MAX_SIZE are
            read, and whether pictures are seen in a mirror (TRAIN.USE_FLIPPED).
    """
    scales = config.test.modality_scales or (config.test.scales,) * len(imdb.modalities)
    names = picture_inputs(len(imdb.modalities))
    config.check_means(len(names))
    inputs = {}
    for place, (name, folder, sides) in enumerate(zip(names, imdb.modalities, scales, strict=True)):
        kind = _KINDS.get(folder, folder)
        found = stated_encoding([record.paths[folder] for record in imdb.records])
        inputs[name] = Preprocessing(
            modality=kind if kind in MODALITIES else "unknown",
            mean=config.means_of(place),
            scale=1.0,
            resize_rule="fast-rcnn",
            short_side=sides[0],
            longest_side=config.test.max_size,
            classes=(BACKGROUND, *imdb.classes),
            flip=config.train.use_flipped,
            encoding=found if found is not None and found.kind == kind else None,
        )
    return Preparation(inputs)


def check_described(stored: Preparation, imdb: ImageDatabase, config: Config, where: str, first: int = 0) -> None:
    """Refuse to test a detector on other classes or with other means than what stands beside its weights.

    Args:
        first: place of its first modality among those of the database: of weights that are a part of the net.

    Raises:
        UsageError: they differ; begins with ``where``.
    """
    expected = tuple(name for name in stored.classes if name != BACKGROUND)
    if expected and expected != imdb.classes:
        other = next((f"{a} and {b}" for a, b in zip(expected, imdb.classes, strict=False) if a != b), "their number")
        raise UsageError(f"{where}: was trained on other classes than those of {imdb.name}: {other} differ")
    key = "MODALITY_MEANS" if config.modality_means else "PIXEL_MEANS"
    for place, (name, one) in enumerate(stored.inputs.items(), first):
        means = config.means_of(place)
        if one.mean and not np.allclose(one.mean, means, rtol=0, atol=1e-3):
            raise UsageError(f"{where}: its input '{name}' wants a mean of {list(one.mean)}, {key} are {list(means)}")


def picture_inputs(modalities: int) -> tuple[str, ...]:
    """What a detector's inputs of pictures are called: ``data``, ``data_1``, ..."""
    return ("data", *(f"data_{number}" for number in range(1, modalities)))


def stored_config(weights: str | os.PathLike[str]) -> Path | None:
    """The options beside a snapshot that training wrote: ``config[_INFIX].yml``; None: there are none."""
    infix = re.match(r"fast_rcnn(_.+)?_iter_\d+\.", Path(weights).name)
    file = Path(weights).parent / f"config{(infix and infix[1]) or ''}.yml"
    return file if file.exists() else None
