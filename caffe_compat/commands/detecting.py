"""What ``detect`` does."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.commands.class_names import NAMED, detector_classes
from caffe_compat.commands.depth_images import file_camera, file_form
from caffe_compat.commands.infer_rows import rows_output
from caffe_compat.config import load_config
from caffe_compat.datasets import read_any
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.camera import Camera
from caffe_compat.depth.modalities import DepthEncoder, Options
from caffe_compat.depth.scale import resolve_scale
from caffe_compat.depth.sources import FileSource
from caffe_compat.depth.stated import options_of
from caffe_compat.detection.description import BACKGROUND, stored_config
from caffe_compat.detection.images import read_modalities
from caffe_compat.detection.inference import Detector, load_detector_net
from caffe_compat.detection.objects import Found, find_objects, name_objects
from caffe_compat.detection.proposer import propose
from caffe_compat.detection.proposing import ProposingDetector, proposes
from caffe_compat.devices import choose
from caffe_compat.errors import DataError, UsageError, in_file, printable
from caffe_compat.files import write_file
from caffe_compat.media import Encoding, Preparation, can_encode, encode, stored_preparation
from caffe_compat.media.drawing import draw_boxes
from caffe_compat.net import Net, load_description
from caffe_compat.net.runner import NetRunner

__all__ = ["detect", "encoder_for", "write_drawing", "write_objects"]

Pictures = dict[str, np.ndarray]
"""``images`` and ``hha``, uint8 [H, W, 3] in OpenCV's order."""


def detect(args: argparse.Namespace) -> None:
    """Detect as the arguments say, and print what was found.

    Raises:
        CaffeCompatError: naming the file, layer, blob or option that is wrong.
    """
    _check(args)
    device = choose(args.gpu)
    stored = stored_preparation(args.weights[0], strict=args.classes is None)
    config = load_config(args.cfg or stored_config(args.weights[0]), args.pairs)
    classes = _classes(args, stored)
    net = load_detector_net(load_description(args.prototxt, dialect=args.dialect), args.weights)
    pictures = _pictures(args, stored)
    source = args.image or args.hha or args.depth
    with in_file(args.prototxt):
        runner = NetRunner(net, None, device)
    if proposes(runner):
        if args.proposals != "builtin":
            raise UsageError("--proposals: the net finds its regions itself")
        with in_file(args.prototxt):
            (kind,) = _seen(net, pictures, stored)
            named = (args.score_blob_name, args.bbox_blob_name)
            proposing = ProposingDetector(runner, len(classes) + 1, config, named)
        with in_file(source):
            found = name_objects(*proposing(proposing.ask(pictures[kind])), classes, config)
        _tell(args, pictures, found)
        return
    if rows_output(runner, None):
        raise UsageError(
            f"net '{net.description.name}' gives objects itself, as SSD and YOLO do: run it with predict, which is "
            "told by --mean and --scale how pictures are prepared"
        )
    blobs = (args.score_blob_name, args.bbox_blob_name)
    with in_file(args.prototxt):
        kinds = _seen(net, pictures, stored)
        detector = Detector(net, len(classes) + 1, len(kinds), config, device, blobs)
    boxes = _proposals(args.proposals, source, {kind: pictures[kind] for kind in kinds})
    boxes = boxes[: config.test.proposal_top_k or None]
    with in_file(source):
        found = find_objects(detector, [pictures[kind] for kind in kinds], boxes, classes, config)
    _tell(args, pictures, found)


def _tell(args: argparse.Namespace, pictures: Pictures, found: Sequence[Found]) -> None:
    """Write and print objects."""
    source = args.image or args.hha or args.depth
    sure = [one for one in found if one.score >= args.conf]
    if args.json:
        write_objects(args.json, sure, {"image": source, "net": list(args.weights), "conf": args.conf})
    if args.out:
        write_drawing(args.out, pictures["images"] if "images" in pictures else pictures["hha"], sure)
    print(printable("\n".join(_lines(sure, found, args))))


def write_objects(path: str | os.PathLike[str], found: Sequence[Found], about: Mapping[str, object]) -> None:
    """Write objects as JSON, with ``about`` before them.

    Raises:
        WriteError: it cannot be written.
    """
    objects = [{"class": one.name, "score": round(one.score, 6), "box": list(one.box)} for one in found]
    write_file(path, json.dumps({**about, "objects": objects}, indent=1) + "\n")


def write_drawing(path: str | os.PathLike[str], picture: np.ndarray, found: Sequence[Found]) -> None:
    """Write a picture with objects drawn into it; the ending of the name says as what.

    Raises:
        WriteError: it cannot be written.
    """
    boxes = np.array([one.box for one in found])
    drawn = draw_boxes(picture, boxes, [one.name for one in found], [one.score for one in found])
    write_file(path, encode(drawn, Path(path).suffix[1:].lower(), os.fspath(path)))


def _check(args: argparse.Namespace) -> None:
    if not (args.image or args.hha or args.depth):
        raise UsageError("which picture? give --image, and --depth or --hha where the net sees depth")
    if args.hha and args.depth:
        raise UsageError("give --hha or --depth, of which HHA is made, not both")
    if args.color:
        raise UsageError("--color: the colour picture is --image here")
    if not 0 <= args.conf <= 1 and not any("SVM" in word for word in args.pairs):
        raise UsageError(f"--conf is {args.conf}, expected 0 to 1")
    if args.out and not can_encode(Path(args.out).suffix[1:].lower() or "?"):
        raise UsageError(f"--out {args.out}: expected a name that ends in .png or .jpg")
    inputs = [args.image, args.hha, args.depth, *args.weights, args.prototxt]
    for name in filter(None, (args.out, args.json)):
        if any(file and Path(name).exists() and Path(file).exists() and Path(name).samefile(file) for file in inputs):
            raise UsageError(f"{name} is an input, it would be overwritten")


def _classes(args: argparse.Namespace, stored: Preparation | None) -> tuple[str, ...]:
    if args.classes is None:
        if stored is None or not stored.classes:
            raise UsageError(
                f"which classes? no preprocessing.json beside {args.weights[0]} names them: give --classes FILE, a "
                f"name a line, {' or '.join(NAMED)}, or an imdb coco:PATH.json"
            )
        return tuple(name for name in stored.classes if name != BACKGROUND)
    return detector_classes(args.classes)


def _pictures(args: argparse.Namespace, stored: Preparation | None) -> Pictures:
    """Read all modalities; they are of one size."""
    files = {"images": args.image, "hha": args.hha}
    kinds = [kind for kind, file in files.items() if file]
    pictures = dict(zip(kinds, read_modalities([files[kind] for kind in kinds]), strict=True)) if kinds else {}
    if args.depth:
        known = [one.encoding for one in stored.inputs.values() if one.modality == "hha"] if stored else []
        pictures["hha"] = _encoded(args, known[0] if known else None)
        if "images" in pictures and pictures["images"].shape != pictures["hha"].shape:
            raise DataError(f"{args.depth}: is {_size(pictures['hha'])}, {args.image} is {_size(pictures['images'])}; "
                            "modalities must be of one size")  # fmt: skip
    return pictures


def encoder_for(args: argparse.Namespace, known: Encoding | None) -> DepthEncoder:
    """As the pictures that the net was trained on were made, but for what the arguments say."""
    base = options_of(known) if known is not None else Options("hha")
    told: dict[str, Any] = {"fill": args.fill, "nearest": args.min_depth, "farthest": args.max_depth}
    if args.scale is not None or args.near is not None:
        told["scale"] = resolve_scale(args.scale, args.near)
    options = replace(base, **{name: value for name, value in told.items() if value is not None})
    if known is not None and known.camera is not None and not args.camera and args.encoding != "nyud2_raw":
        return options.encoder(Camera(*known.camera, origin=known.origin))
    return options.encoder(file_camera(args))


def _encoded(args: argparse.Namespace, known: Encoding | None) -> np.ndarray:
    """HHA of a depth file."""
    encoder = encoder_for(args, known)
    needs_color = encoder.options.fill == "colorization" or args.encoding == "nyud2_raw"
    source = FileSource(args.depth, file_form(args), args.raw_depth, args.image if needs_color else None)
    with in_file(args.depth), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = encoder.encode(source.read())
    for warning in caught:
        print(printable(f"warning: {args.depth}: {warning.message}"))
    return np.ascontiguousarray(picture[..., ::-1])


def _seen(net: Net, pictures: Pictures, stored: Preparation | None) -> list[str]:
    """Which pictures the net is fed, in its order: colour before HHA."""
    count = sum(name == "data" or name.startswith("data_") for name in net.input_names)
    kinds = list(pictures)
    if count == 1 and len(kinds) == 2:
        if stored is None:
            raise UsageError(
                f"net '{net.description.name}' sees one picture, colour and depth are given, and no preprocessing.json "
                "beside the weights says which of them it sees: give only that one"
            )
        return ["hha" if stored.inputs.get("data", stored.first).modality == "hha" else "images"]
    if count != len(kinds):
        raise UsageError(
            f"net '{net.description.name}' sees {count} pictures (inputs {', '.join(net.input_names)}), given "
            f"{'are' if len(kinds) > 1 else 'is'} {' and '.join(kinds)}"
        )
    return kinds


def _proposals(choice: str, source: str, pictures: Pictures) -> np.ndarray:
    if choice == "builtin":
        return propose(pictures)[0]
    name = Path(source).stem
    size = next(iter(pictures.values())).shape
    return np.asarray(read_any(choice, [name])(FrameRecord(name, size=(size[0], size[1]))))


def _lines(sure: Sequence[Found], found: Sequence[Found], args: argparse.Namespace) -> list[str]:
    rows = [f"{one.name:<20s} {one.score:.3f}  " + " ".join(f"{side:.0f}" for side in one.box) for one in sure]
    if not sure:
        best = f"; the surest is {found[0].name} with {found[0].score:.3f}" if found else ""
        rows.append(f"nothing with a score of {args.conf:g} or more{best}")
    return rows + [f"wrote {file}" for file in (args.out, args.json) if file]


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]} pixels"
