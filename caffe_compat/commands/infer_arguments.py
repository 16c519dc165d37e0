"""Arguments that ``infer_onnx`` and ``predict`` share; declared without torch."""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import LIST, NEW_FILE, NEW_FOLDER, ONNX, OPTIONS, PROPOSALS, FileKind

__all__ = ["add_boxes", "add_depth", "add_inputs", "add_masks", "add_reading", "add_results"]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Declare what is looked at."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder, video, list, or files of a scene "
                        "with commas")  # fmt: skip


def add_results(parser: argparse.ArgumentParser, classes: str, names: FileKind = LIST) -> None:
    """Declare what is written.

    Args:
        classes: which class names hold by default.
        names: what --classes may be.
    """
    out = parser.add_argument_group("results (printed where none is written)").add_argument
    out("--json", type=NEW_FILE, metavar="FILE", help="labels, or objects, of each picture")
    out("--npz", type=NEW_FILE, metavar="FILE", help="the outputs, as arrays over the pictures")
    out("--h5", type=NEW_FILE, metavar="FILE", help="the same as datasets of HDF5")
    out("--blobs", nargs="+", metavar="BLOB", help="with --npz or --h5: which outputs (default: all)")
    out("--draw", type=NEW_FOLDER, metavar="FOLDER", help="pictures with their labels or objects")
    out("--sheet", type=NEW_FILE, metavar="FILE", help="contact sheet of the surest pictures, .png or .jpg")
    out("--sheet-pictures", type=int, default=48, metavar="N", help="pictures on it (default: %(default)s)")
    out("--top", type=int, default=5, metavar="K", help="labels of each picture (default: %(default)s)")
    out("--scores", metavar="BLOB", help="output with the scores of classes (default: prob, else the only "
        "one; of a detector cls_prob)")  # fmt: skip
    out("--classes", type=names, metavar="FILE", help=f"class names, one a line (default: {classes})")
    out("--overwrite", action="store_true", help="replace results that were made otherwise")
    out("--quiet", action="store_true", help="no progress bar")


def add_depth(group: argparse._ActionsContainer, known: str) -> None:
    """Declare what must be known of depth files.

    Args:
        known: the camera that holds by default.
    """
    group.add_argument("--units-per-metre", type=float, help="of depth files: 1000 for millimetres; no guess is made")
    group.add_argument("--camera", help=f"of depth files: preset, file, or fx,fy,cx,cy (default: {known})")
    group.add_argument("--origin", type=int, choices=(0, 1), help="coordinate of the first pixel of --camera")


def add_reading(group: argparse._ActionsContainer, fixed: str = "") -> None:
    """Declare how pictures are read.

    Args:
        fixed: what holds for models that fix their batch.
    """
    group.add_argument(
        "--batch", type=int, default=8, metavar="N", help=f"pictures at once (default: %(default)s{fixed})"
    )
    group.add_argument(
        "--every", type=int, default=1, metavar="N", help="of videos, one frame of so many (default: all)"
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="threads that read ahead (default: one a core, up to 8)"
    )


def add_boxes(parser: argparse.ArgumentParser, options: str) -> None:
    """Declare what detectors take.

    Args:
        options: those that hold by default.
    """
    boxes = parser.add_argument_group("detectors").add_argument
    boxes("--proposals", type=PROPOSALS, default="builtin", metavar="FILE",
        help="boxes that may hold objects, by the "
        "pictures' names; default: builtin, which computes some")  # fmt: skip
    boxes("--conf", type=float, default=0.5, help="objects from this score on (default: %(default)s)")
    boxes("--cfg", type=OPTIONS, help=f"YAML file with options of the fast-rcnn tools{options}")
    boxes("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Declare how the objects of detectors get their pixels."""
    masks = parser.add_argument_group("masks of a detector's objects").add_argument
    masks("--masks", type=ONNX, metavar="FILE", help="ONNX file of a net that segments boxes (make_sds, train_net)")
    masks("--superpixels", default="color", metavar="FROM", help="regions that masks are made of: color (from the "
        "picture to look at), a folder with NAME.png of 16 bits, or none: pixels (default: %(default)s)")  # fmt: skip
    masks("--mask-threshold", type=float, default=0.4, metavar="P", help="mean probability from which on a region "
        "belongs to an object (default: %(default)s)")  # fmt: skip
