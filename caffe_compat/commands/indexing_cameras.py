"""Which cameras made a recording, from what a command line says of them."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_compat.depth.calibration import Calibration, read_calibration
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.io import DepthFormat, detect_units, read_raw
from caffe_compat.depth.nominal import NOMINAL, USUAL_UNITS_OF, parse_camera
from caffe_compat.depth.rig import Rig, View
from caffe_compat.errors import UsageError, in_file

__all__ = ["Cameras", "cameras_of", "units_of"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Cameras:
    """The cameras of a recording.

    Args:
        color: of the colour pictures.
        rig: how depth is registered; None: it is registered already.
        rotation: from the depth to the colour camera, where it is known.
        lines: what was taken, for the user.
    """

    color: View
    rig: Rig | None
    rotation: tuple[tuple[float, ...], ...] | None
    lines: tuple[str, ...]

    @property
    def numbers(self) -> list[float]:
        """fx, fy, cx, cy of the colour camera."""
        camera = self.color.camera
        return [camera.fx, camera.fy, camera.cx, camera.cy]

    def turned(self, direction: tuple[float, float, float]) -> tuple[float, float, float]:
        """A direction in the axes of the depth camera, in those of the colour camera."""
        if self.rotation is None:
            return direction
        x, y, z = (round(float(value), 6) for value in np.array(self.rotation) @ np.array(direction))
        return x, y, z


def cameras_of(args: argparse.Namespace, color: Size, depth: Size) -> Cameras:
    """The cameras of pictures of these sizes (width, height).

    Raises:
        UsageError: one that is needed is not said.
        DataError, MissingFileError: one that is no camera, or not of this size.
    """
    told = Calibration() if not args.calibration else _read(args.calibration, color, depth, args.origin)
    view = _view(args.camera, color, args.origin) if args.camera else told.color
    if view is None:
        raise UsageError(_missing("--camera", args.calibration, "colour", color))
    extrinsics = _read(args.extrinsics, color, depth, args.origin).extrinsics if args.extrinsics else told.extrinsics
    if args.extrinsics and extrinsics is None:
        raise UsageError(f"--extrinsics {args.extrinsics}: it has no rotation and translation")
    sizes = f"colour is {_by(color)}, depth {_by(depth)} (width x height)"
    rotation = None if extrinsics is None else extrinsics[0]
    lines = [_said(args.camera or args.calibration, view)]
    if color == depth and not args.register:
        given = args.depth_camera or args.extrinsics
        if given:
            raise UsageError(f"{sizes}: is depth to be registered? say --register, or leave out {given}")
        return Cameras(view, None, rotation, (*lines, f"{sizes}: depth is taken as registered to colour"))
    other = _view(args.depth_camera, depth, args.origin, deep=True) if args.depth_camera else told.depth
    if other is None or extrinsics is None:
        need = _missing("--depth-camera", args.calibration, "depth", depth) if other is None else (
            "--extrinsics is missing: how the cameras stand, a JSON with rotation and translation"
        )  # fmt: skip
        raise UsageError(f"{sizes}, so depth has to be registered; {need}")
    lines += [_said(args.depth_camera or args.calibration, other, "depth "), f"{sizes}: depth is registered to colour"]
    with in_file(args.extrinsics or args.calibration):
        return Cameras(view, Rig(other, view, *extrinsics), rotation, tuple(lines))


def units_of(args: argparse.Namespace, files: Sequence[Path]) -> tuple[DepthFormat, str]:
    """How depth files become metres, and from where that is known.

    Raises:
        DataError: it is not said, and not the only way in which the first file shows a room.
    """
    invalid = (0, 65535) if args.invalid is None else tuple(args.invalid)
    if args.units_per_metre is not None:
        return DepthFormat(args.units_per_metre, invalid=invalid), f"depth: {args.units_per_metre:g} units per metre"
    raw = read_raw(files[0])
    named = args.depth_camera or args.camera or ""
    known = named.partition("@")[0] in {*NOMINAL, *CAMERAS} and raw.dtype.kind != "f"
    for beginning, units in USUAL_UNITS_OF.items():
        if known and named.startswith(beginning):
            told = f"depth: {units:g} units per metre, as {named} has it unless told otherwise (--units-per-metre)"
            return DepthFormat(units, invalid=invalid), told
    with in_file(files[0]):
        units = detect_units(np.where(np.isin(raw, invalid), 0, raw).astype(raw.dtype))
    told = f"depth: {units:g} units per metre, the only usual ones by which {files[0].name} shows a room"
    return DepthFormat(units, invalid=invalid), told


def _view(text: str, size: Size, origin: int | None, deep: bool = False) -> View:
    """A camera by name, as numbers, or from a file."""
    if text not in CAMERAS and text not in NOMINAL and os.path.isfile(text):
        found = read_calibration(text, color=size, depth=size, origin=origin or 0)
        view = (found.depth or found.color) if deep else found.color
        if view is None:
            raise UsageError(f"{text} has no {'depth' if deep else 'colour'} camera of {_by(size)} (width x height)")
        return view
    camera = parse_camera(text, origin=origin, size=size)
    stated = (camera.width or size[0], camera.height or size[1])
    if stated != size:
        what = "depth" if deep else "colour"
        raise UsageError(f"camera {text} makes {_by(stated)}, but {what} is {_by(size)} (width x height)")
    return View(camera.with_size(*size))


def _read(path: str, color: Size, depth: Size, origin: int | None) -> Calibration:
    return read_calibration(path, color, depth, origin or 0)


def _missing(option: str, calibration: str | None, what: str, size: Size) -> str:
    if calibration:
        return f"--calibration {calibration} has no {what} camera of {_by(size)}; say {option}"
    return f"{option} is missing: a camera's name (such as realsense_d435), a file, or fx,fy,cx,cy"


def _said(source: str, view: View, what: str = "") -> str:
    camera = view.camera
    numbers = f"fx {camera.fx:.2f} fy {camera.fy:.2f} cx {camera.cx:.2f} cy {camera.cy:.2f}"
    nominal = ", nominal: good to a few per cent" if source.partition("@")[0] in NOMINAL else ""
    return f"{what}camera: {numbers} ({source}{nominal})"


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
