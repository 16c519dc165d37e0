"""Command-line arguments that say where boxes of pairs of images come from."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from caffe_compat.commands.inputs import PROPOSALS

__all__ = ["add_boxes", "boxes_file", "compute_boxes"]

BUILTIN = "builtin"


def add_boxes(group: Any) -> None:
    """Declare them."""
    add = group.add_argument
    add(
        "--proposals",
        type=PROPOSALS.later(),
        default="",
        metavar="FILE",
        help="boxes of the images, for features after a fully connected layer: .npz, MCG's or COCO's .mat files; or "
        f"{BUILTIN}, which computes some",
    )
    add("--boxes-per-image", type=int, default=64, help="drawn of each from its first 2000 (%(default)s)")


def boxes_file(arguments: argparse.Namespace) -> str:
    """The file that the nets read; empty where there are no boxes."""
    if arguments.proposals == BUILTIN:
        return str(Path(arguments.output) / "proposals.npz")
    return str(arguments.proposals)


def compute_boxes(arguments: argparse.Namespace) -> None:
    """Make the file of the built-in proposer for the pairs of the lists that are there, unless it has been made.

    Raises:
        CaffeCompatError: a picture that cannot be used, or the file cannot be written.
    """
    sources = [source for source in (arguments.source, arguments.val_source) if os.path.exists(source)]
    if arguments.proposals != BUILTIN or not sources:
        return
    from caffe_compat.datasets.picture_proposals import pairs_database
    from caffe_compat.detection.proposals import Computed, keep_proposals

    path = Path(boxes_file(arguments))
    imdb = pairs_database(sources, arguments.root_folder)
    computed = Computed(imdb, imdb.modalities, path.with_name(path.name + ".parts"))
    keep_proposals(computed, imdb, path)
