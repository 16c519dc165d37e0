"""Command-line arguments that say what the student's pictures are."""

from __future__ import annotations

import argparse
from typing import Any

from caffe_compat.errors import UsageError
from caffe_compat.media.modalities import MODALITIES, find_modality

__all__ = ["add_modality", "name_modality"]

_THREE = [kind.name for kind in MODALITIES.values() if len(kind.channels) == 3 and kind.name != "unknown"]


def add_modality(group: Any) -> None:
    """Declare them."""
    add = group.add_argument
    add(
        "--modality",
        default="",
        metavar="NAME",
        help=f"of the second images: {', '.join(_THREE)}; says --mean-second and --negate-x, and is written into "
        "preprocessing.json",
    )
    add("--negate-about", type=float, default=128.0, metavar="N", help="what --negate-x mirrors about (%(default)s)")


def name_modality(arguments: argparse.Namespace) -> None:
    """Take from ``--modality`` what other options do not say.

    Raises:
        UsageError: no such modality, or a scale that the data layer cannot give to one of two images.
    """
    if not arguments.modality:
        return
    kind = find_modality(arguments.modality)
    if kind.name not in _THREE:
        raise UsageError(f"--modality {kind.name}: expected one of {', '.join(_THREE)}, which have three channels")
    if kind.scale != 1:
        raise UsageError(f"--modality {kind.name} has a scale of {kind.scale:g}, expected 1: pairs have one for both")
    if not arguments.mean_second:
        arguments.mean_second = list(kind.mean)
    if kind.negated and arguments.negate_x < 0:
        arguments.negate_x, arguments.negate_about = kind.negated[0], kind.about
