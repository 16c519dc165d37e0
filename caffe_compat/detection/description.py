"""What a detector sees and tells apart, kept beside its snapshots: ``preprocessing.json`` and ``config.yml``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.media import MODALITIES, Preprocessing, read_preprocessing

__all__ = ["BACKGROUND", "PREPROCESSING", "describe_detector", "stored_config", "stored_description"]

BACKGROUND = "__background__"
"""What the branch calls label 0."""
PREPROCESSING = "preprocessing.json"
"""The file that says what a net sees."""
_KINDS = {"images": "color"}
"""Modalities whose folders are called otherwise."""


def describe_detector(imdb: ImageDatabase, config: Config) -> Preprocessing:
    """What a detector that is trained on a database sees (its first modality), and its labels.

    Args:
        config: PIXEL_MEANS, TEST.SCALES (the first) and TEST.MAX_SIZE are read.
    """
    kind = _KINDS.get(imdb.modalities[0], imdb.modalities[0])
    return Preprocessing(
        modality=kind if kind in MODALITIES else "color",
        mean=config.pixel_means,
        scale=1.0,
        short_side=config.test.scales[0],
        longest_side=config.test.max_size,
        classes=(BACKGROUND, *imdb.classes),
    )


def stored_description(weights: str | os.PathLike[str]) -> Preprocessing | None:
    """What stands beside a snapshot of the net; None: nothing does.

    Raises:
        DataError: it is no such file.
    """
    file = Path(weights).parent / PREPROCESSING
    return read_preprocessing(file) if file.exists() else None


def stored_config(weights: str | os.PathLike[str]) -> Path | None:
    """The options beside a snapshot that training wrote: ``config[_INFIX].yml``; None: there are none."""
    infix = re.match(r"fast_rcnn(_.+)?_iter_\d+\.", Path(weights).name)
    file = Path(weights).parent / f"config{(infix and infix[1]) or ''}.yml"
    return file if file.exists() else None
