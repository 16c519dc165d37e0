"""The pictures that ``infer_onnx`` and ``predict`` are given, and how depth among them becomes pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.deploy.feed import Encode, Sample
from caffe_compat.depth import Camera, DepthFormat, FileSource
from caffe_compat.depth.modalities import Options
from caffe_compat.depth.nominal import parse_camera
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.media import Encoding, Preprocessing, read_scene_list
from caffe_compat.media.video import VIDEO_SUFFIXES, VideoHead, video_head

__all__ = ["depth_encoder", "find_samples"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the pictures of a folder."""


def find_samples(inputs: Sequence[str], pictures: int, model: str, every: int = 1) -> list[Sample]:
    """The scenes that are named, each with a name of its own.

    Args:
        inputs: pictures, folders, lists, videos, or the files of a scene with commas.
        pictures: how many the model takes of a scene.
        model: for messages.
        every: which frames of videos: the first, and each so many after it.

    Raises:
        MissingFileError: no such list.
        DataError: a folder without pictures, or a list that names none.
        UsageError: another number of files than the model takes.
    """
    scenes = [scene for text in inputs for scene in _scenes(text)]
    for scene in scenes:
        if len(scene) not in (pictures, pictures + 1):
            raise UsageError(
                f"{','.join(scene)}: {len(scene)} file{'s' * (len(scene) > 1)}, {model} takes {pictures} of each scene "
                "(and one more before them, in colour, to look at)"
            )
    names = _names(["/".join(scene[:1]) for scene in scenes])
    found = []
    for name, scene in zip(names, scenes, strict=True):
        if len(scene) == 1 and scene[0].lower().endswith(VIDEO_SUFFIXES):
            found += _frames(name, scene[0], every)
        else:
            found.append(Sample(name, scene[-pictures:], scene[0] if len(scene) > pictures else ""))
    return found


def _frames(name: str, path: str, every: int) -> list[Sample]:
    """Frames of a video; of one that cannot be read the first, which says so when its turn comes."""
    try:
        head = video_head(path)
    except (DataError, MissingFileError):
        head = VideoHead(1, 0)
    width = len(str(head.frames - 1))
    return [
        Sample(f"{name}_{at:0{width}d}", (path,), frame=at, time=at / head.rate if head.rate else None)
        for at in range(0, head.frames, every)
    ]


def _scenes(text: str) -> list[tuple[str, ...]]:
    if os.path.isdir(text):
        found = sorted(
            path
            for path in Path(text).iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not found:
            raise DataError(f"{text}: no pictures ({', '.join(SUFFIXES)}) in this folder")
        return [(str(path),) for path in found]
    if os.path.exists(text):
        return read_scene_list(text) if text.lower().endswith(".txt") else [(text,)]
    if text.lower().endswith(".txt"):
        return read_scene_list(text)  # says that it is missing
    return [tuple(part.strip() for part in text.split(","))]


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each: its stem, or as many of its folders before it as tell it from the others."""
    parts = [Path(path).with_suffix("").parts for path in paths]
    depth = 1
    names = [part[-1] for part in parts]
    while len(set(names)) < len(names) and depth < max(map(len, parts)):
        depth += 1
        names = ["_".join(part.strip("/\\:.") for part in path[-depth:]) for path in parts]
    taken: dict[str, int] = {}
    for number, name in enumerate(names):  # the same file twice
        taken[name] = taken.get(name, 0) + 1
        names[number] = name if taken[name] == 1 else f"{name}.{taken[name]}"
    return names


def depth_encoder(wanted: Mapping[str, Preprocessing], args: argparse.Namespace, device: str) -> Encode | None:
    """What makes pictures of depth files; None: no input sees depth.

    Args:
        wanted: of the inputs.
        device: where torch computes.

    Raises:
        UsageError: inputs that see depth encoded in several ways.
    """
    seen = {
        one.encoding or Encoding(kind=one.modality) for one in wanted.values() if one.modality in ("hha", "disparity")
    }
    if not seen:
        return None
    if len(seen) > 1:
        raise UsageError("the model's inputs see depth that is encoded in several ways; make the pictures before")
    (how,) = seen

    def encode(depth: str, color: str) -> np.ndarray:
        if args.units_per_metre is None:
            raise UsageError(
                "holds depth: --units-per-metre is missing (1000 for millimetres); units are never guessed"
            )
        options = Options(how.kind, how.fill, device, how.min_depth, how.max_depth, how.scale)  # type: ignore[arg-type]
        source = FileSource(depth, DepthFormat(args.units_per_metre), color=color or None)
        picture = options.encoder(_camera(how, args)).encode(source.read())
        return np.ascontiguousarray(picture[..., ::-1])

    return encode


def _camera(how: Encoding, args: argparse.Namespace) -> Camera | None:
    if how.kind != "hha":
        return None
    if args.camera:
        return parse_camera(args.camera, origin=args.origin)
    if how.camera is None:
        raise UsageError("holds depth: --camera is missing, and the model carries none (preset, file, or fx,fy,cx,cy)")
    return Camera(*how.camera, origin=how.origin)
