"""What encoded pictures say of how they were made, and the encoder that makes such pictures again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.gravity import GRAVITY_STAGES
from caffe_compat.depth.modalities import FORMAT_VERSION, DepthEncoder, Kind, Options
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.frames.png import read_parameters
from caffe_compat.media import Encoding

__all__ = ["encoder_of", "options_of", "stated_encoding"]

MOST = 64
"""Pictures of a set that are asked; their heads only are read."""
PathLike = str | os.PathLike[str]


def stated_encoding(paths: Sequence[PathLike]) -> Encoding | None:
    """How the pictures of a set were made of depth; None: they do not say, or not all the same.

    Pictures of several cameras give an encoding without one.

    Args:
        paths: of the set; some, evenly spaced, are asked.
    """
    step = max(1, len(paths) // MOST)
    found = [_encoding(path) for path in paths[::step]]
    cameras = {None if one is None else (one.camera, one.origin) for one in found}
    bare = {None if one is None else _without_camera(one) for one in found}
    if len(bare) != 1:
        return None
    return found[0] if len(cameras) == 1 else next(iter(bare))


def encoder_of(encoding: Encoding, camera: Camera | None = None, device: str = "cpu") -> DepthEncoder:
    """What makes pictures as these were made.

    Args:
        camera: of the depth; None: that of the encoding.

    Raises:
        UsageError: another version of the encoder made them.
        DataError: HHA, and no camera is known.
    """
    if camera is None and encoding.camera is not None:
        camera = Camera(*encoding.camera, origin=encoding.origin)
    return options_of(encoding, device).encoder(camera)


def options_of(encoding: Encoding, device: str = "cpu") -> Options:
    """The same without the camera.

    Raises:
        UsageError: another version of the encoder made them.
    """
    if encoding.version != FORMAT_VERSION or (encoding.gravity and encoding.gravity != _gravity(encoding.kind)):
        raise UsageError(
            f"the net's pictures were made by version {encoding.version} of the encoder, gravity {encoding.gravity}; "
            f"here it is {FORMAT_VERSION}, {_gravity(encoding.kind)}"
        )
    kind: Kind = "hha" if encoding.kind == "hha" else "disparity"
    fill: Any = encoding.fill
    return Options(kind, fill, device, encoding.min_depth, encoding.max_depth, encoding.scale)


def _encoding(path: PathLike) -> Encoding | None:
    try:
        stamp = read_parameters(path)
    except (DataError, MissingFileError):  # no png, such as a picture that a user made: it says nothing
        return None
    return None if stamp is None else _of_stamp(stamp)


def _of_stamp(stamp: Mapping[str, Any]) -> Encoding | None:
    """What :meth:`DepthEncoder.parameters` gave; None: other pictures."""
    if stamp.get("kind") not in ("hha", "disparity"):
        return None
    try:
        nearest, farthest = stamp["range"]
        camera = stamp.get("camera")
        return Encoding(
            kind=stamp["kind"],
            fill=str(stamp["fill"]),
            scale=float(stamp.get("scale", Encoding.scale)),
            min_depth=float(nearest),
            max_depth=None if farthest is None else float(farthest),
            camera=None if camera is None else (camera[0], camera[1], camera[2], camera[3]),
            origin=int(stamp.get("origin", 0)),
            gravity=_gravity(stamp["kind"]),
            version=int(stamp["version"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, UsageError):
        return None


def _gravity(kind: str) -> tuple[tuple[float, float], ...]:
    return tuple((threshold, float(steps)) for threshold, steps in GRAVITY_STAGES) if kind == "hha" else ()


def _without_camera(encoding: Encoding) -> Encoding:
    return replace(encoding, camera=None, origin=0)
