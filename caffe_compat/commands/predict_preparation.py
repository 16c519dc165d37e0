"""How ``predict`` prepares pictures: as a file says, as a training net says, or as its arguments say."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.description import State
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.files import open_existing
from caffe_compat.media import MeanPicture, Preparation, Preprocessing, model_preparation, read_mean, read_preparation
from caffe_compat.net.load import load_description

__all__ = ["described", "find_preparation", "preparation_of_net"]

FLAGS = ("mean", "mean_file", "scale", "resize", "short_side", "crop", "channels")
"""Arguments that say how numbers are made."""
Shapes = Mapping[str, Sequence[Any]]


def find_preparation(args: argparse.Namespace, shapes: Shapes, detector: bool) -> tuple[Preparation, bool]:
    """What the inputs of pictures want.

    Args:
        shapes: of these inputs, by name, as the prototxt says.
        detector: its options say the mean and the size.

    Returns:
        That, and whether a file says it.

    Raises:
        UsageError: nothing says it, or arguments that do not fit.
        CaffeCompatError: a file that is damaged, or speaks of other weights.
    """
    given = [name for name in FLAGS if getattr(args, name) is not None]
    if detector and given:
        raise UsageError(f"--{given[0].replace('_', '-')}: of a detector, --set PIXEL_MEANS and TEST.SCALES say it")
    stored = _stored(args, shapes, bool(given))
    if stored is None and not detector and not {"mean", "mean_file", "scale"} & set(given):
        raise UsageError(
            "what does the net want of pictures? No preprocessing.json stands beside the weights: give --mean B,G,R, "
            "--mean-file or --scale, as in the transform_param of its training net, or --preprocessing with that "
            "train_val.prototxt"
        )
    kinds = _modalities(args.modality, shapes)
    known = dict(stored.of(list(shapes))) if stored is not None else {}
    found = {}
    for number, (name, shape) in enumerate(shapes.items()):
        base = known.get(name)
        if base is None:
            base = Preprocessing(kinds[number], mean=(), scale=1.0)
        elif args.modality:
            base = dataclasses.replace(base, modality=kinds[number], channels=())
        found[name] = base if detector else _told(base, args, shape, stored is None)
    return Preparation(found), stored is not None


def described(wanted: Preparation) -> list[str]:
    """A line for each input: what becomes of a picture."""
    lines = []
    for name, one in wanted.inputs.items():
        size = "in its size"
        if one.resize:
            size = f"resized to {one.resize[1]} x {one.resize[0]}"
        elif one.short_side:
            size = f"resized to {one.short_side} on the short side"
        cut = f", the middle {one.crop[1]} x {one.crop[0]}" if one.crop else ""
        mean = "a mean picture" if one.mean_file or one.mean_picture else ", ".join(f"{m:g}" for m in one.mean or ())
        less = f", less {mean}" if mean else ""
        times = f", times {one.scale:g}" if one.scale != 1 else ""
        lines.append(f"{name}: {one.modality} {size}{cut}, {' '.join(one.channels)}{less}{times}")
    return lines


def preparation_of_net(path: str, shape: Sequence[Any], mean_given: bool) -> Preprocessing:
    """What a training net does with pictures when it tests: the ``transform_param`` of its data layer.

    The size that pictures are cropped from is ``new_height`` and ``new_width`` of ImageData, or that of the mean
    picture; databases do not say theirs: then pictures are resized to the crop.

    Args:
        shape: of the deploy net's input.
        mean_given: the mean comes from elsewhere, so its file need not be there.

    Raises:
        DataError: no data layer with a ``transform_param``.
        MissingFileError: the mean file is not there.
        CaffeCompatError: it is no net.
    """
    layers = [
        layer.message
        for phase in ("TEST", "TRAIN")
        for layer in load_description(path, State(phase)).layers
        if not layer.message.bottom and layer.message.HasField("transform_param")
    ]
    if not layers:
        raise DataError(f"{path}: no data layer with a transform_param, expected a training net or preprocessing.json")
    layer, said = layers[0], layers[0].transform_param
    images = layer.image_data_param
    mean_file = "" if mean_given or not said.mean_file else _mean_file(path, said.mean_file)
    resize = (images.new_height, images.new_width) if images.new_height and images.new_width else None
    if mean_file:
        mean = read_mean(mean_file)
        resize = (mean.shape[1], mean.shape[2])
    crop = (said.crop_size, said.crop_size) if said.crop_size else None
    gray = len(shape) == 4 and shape[1] == 1
    resize = resize or crop or _size_of(shape)
    return Preprocessing(
        "gray" if gray else "color",
        mean=() if mean_given else tuple(said.mean_value),
        mean_file=mean_file,
        scale=float(f"{said.scale:.8g}"),
        resize=resize,
        crop=None if crop == resize else crop,
    )


def _stored(args: argparse.Namespace, shapes: Shapes, lenient: bool) -> Preparation | None:
    if not args.preprocessing:
        files = [file for file in args.weights.split(",") if file]
        every = (model_preparation(args.model, file, strict=not lenient) for file in files)
        return next((found for found in every if found is not None), None)
    if Path(args.preprocessing).suffix.lower() == ".onnx":
        from caffe_compat.onnx import any_preparation  # which brings onnx

        return any_preparation(args.preprocessing)
    if Path(args.preprocessing).suffix.lower() != ".prototxt":
        return read_preparation(args.preprocessing)
    mean_given = args.mean is not None or args.mean_file is not None
    return Preparation(
        {name: preparation_of_net(args.preprocessing, shape, mean_given) for name, shape in shapes.items()}
    )


def _told(base: Preprocessing, args: argparse.Namespace, shape: Sequence[Any], sized: bool) -> Preprocessing:
    """What the arguments change.

    Args:
        sized: nothing says a size: pictures become as large as the net's input.
    """
    fields: dict[str, Any] = {}
    if args.mean is not None and args.mean_file is not None:
        raise UsageError("give --mean or --mean-file, not both")
    if args.mean is not None:
        fields |= {"mean": _numbers("--mean", args.mean), "mean_file": "", "mean_picture": None}
    if args.mean_file is not None:
        fields |= _mean(args.mean_file)
    if args.scale is not None:
        fields["scale"] = args.scale
    if args.channels is not None:
        if base.modality != "color":
            raise UsageError(f"--channels: the net sees {base.modality}")
        fields["channels"] = ("red", "green", "blue") if args.channels == "rgb" else ("blue", "green", "red")
    size, of_mean = _size_of(shape), fields.get("mean_picture")
    if args.resize is not None and args.short_side is not None:
        raise UsageError("give --resize or --short-side, not both")
    if args.short_side is not None:
        fields |= {"short_side": args.short_side, "resize": None}
    elif args.resize is not None:
        fields |= {"resize": _size("--resize", args.resize), "short_side": 0}
    elif of_mean is not None:
        fields |= {"resize": of_mean.shape[1:], "short_side": 0}
    elif sized:
        fields["resize"] = size
    if args.crop is not None:
        fields["crop"] = _size("--crop", args.crop)
    elif sized or "resize" in fields:
        crop = base.crop or size
        fields["crop"] = None if fields.get("resize") == crop else crop
    return dataclasses.replace(base, **fields)


def _mean(path: str) -> dict[str, Any]:
    """The mean of a file: a picture, or a number for each channel."""
    if path.lower().endswith(".npy"):
        with open_existing(path, "mean") as stream:
            try:
                array = np.asarray(np.load(stream, allow_pickle=False), np.float32)
            except (ValueError, EOFError, OSError, TypeError) as error:
                raise DataError(f"{path}: no plain .npy array: {error}") from error
    else:
        array = read_mean(path)
    if array.ndim == 1 or array.shape[1:] == (1, 1):
        return {"mean": tuple(map(float, array.reshape(-1))), "mean_file": "", "mean_picture": None}
    if array.ndim != 3:
        raise DataError(f"{path}: has the shape {list(array.shape)}, expected [C, H, W] or [C]")
    return {"mean": None, "mean_file": "", "mean_picture": MeanPicture.of(array)}


def _mean_file(path: str, name: str) -> str:
    """A mean file as a net names it: from the current folder, as Caffe does, or from the net's."""
    for candidate in (name, os.path.join(os.path.dirname(path), name)):
        if os.path.isfile(candidate):
            return candidate
    raise MissingFileError(name, f"it is the mean_file of {path}; --mean-file or --mean says it otherwise")


def _modalities(text: str | None, shapes: Shapes) -> list[str]:
    if text is None:
        grey = [len(shape) == 4 and shape[1] == 1 for shape in shapes.values()]
        return ["gray" if one else "hha" if number == 1 else "color" for number, one in enumerate(grey)]
    kinds = [part.strip() for part in text.split(",")]
    if len(kinds) != len(shapes):
        raise UsageError(f"--modality is '{text}', expected one for each of {', '.join(shapes)}")
    return kinds


def _size_of(shape: Sequence[Any]) -> tuple[int, int] | None:
    sides = tuple(shape[2:4])
    return (sides[0], sides[1]) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None


def _size(option: str, text: str) -> tuple[int, int]:
    sides = [part.strip() for part in text.split(",")]
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise UsageError(f"{option} is '{text}', expected H,W")
    return int(sides[0]), int(sides[1])


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is '{text}', expected numbers with commas") from error
