"""Calibrations as the cameras' own tools write them: intrinsics, lens, and where depth and colour camera stand.

Read are

* a JSON of one's own: ``{"color": {"fx", "fy", "cx", "cy", "width", "height", "distortion": [..]}, "depth": {..},
  "rotation": [[..], [..], [..]], "translation": [..]}``, of which parts may be absent; metres;
* RealSense: what ``rs-enumerate-devices -c`` prints, or a JSON with pyrealsense2's names (``ppx``, ``ppy``, ``coeffs``;
  nine numbers of a ``rotation`` go column by column there);
* Azure Kinect: the raw calibration JSON (``k4a_device_get_raw_calibration``, also attached to recordings);
* ROS: the YAML of a ``camera_info``;
* what :meth:`Camera.from_file` reads: Open3D's ``intrinsic_matrix``, and text with 4 or 9 numbers.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.rig import View
from caffe_compat.documents import parse_json, parse_yaml
from caffe_compat.errors import DataError, in_file, one_line
from caffe_compat.files import open_existing

__all__ = ["Calibration", "read_calibration"]

Size = tuple[int, int]
Extrinsics = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]

MOST_BYTES = 1 << 22
_NUMBERS = r"((?:[-+]?[\d.]+(?:[eE][-+]?\d+)?[ \t]*){3})$"
_ROWS = re.compile(rf"^[ \t]*{_NUMBERS}", re.MULTILINE)
_VECTOR = re.compile(rf"^\s*Translation Vector:\s*{_NUMBERS}", re.MULTILINE)
_AZURE_COLOR = {
    (1280, 720): (1280, 960, 120),
    (1920, 1080): (1920, 1440, 180),
    (2560, 1440): (2560, 1920, 240),
    (2048, 1536): (2048, 1536, 0),
    (3840, 2160): (3840, 2880, 360),
    (4096, 3072): (4096, 3072, 0),
}
_AZURE_DEPTH = {
    (320, 288): (512, 96, 90),
    (640, 576): (1024, 192, 180),
    (512, 512): (512, 0, 0),
    (1024, 1024): (1024, 0, 0),
}
"""Modes as the Azure Kinect SDK has them: of which full picture they are a part, and where it begins."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a file says; None where it does not.

    Args:
        color, depth: the cameras at the sizes that were asked for.
        extrinsics: rotation (rows) and translation (metres) from the depth to the colour camera.
    """

    color: View | None = None
    depth: View | None = None
    extrinsics: Extrinsics | None = None


def read_calibration(path: str | os.PathLike[str], color: Size, depth: Size, origin: int = 0) -> Calibration:
    """Read a calibration for pictures of given sizes (width, height).

    A camera_info, or a JSON with one camera without a name, is taken for the colour camera.

    Raises:
        MissingFileError: no such file.
        DataError: it holds no calibration, a field is wrong, or it is one of pictures of other sizes.
    """
    with open_existing(path, "calibration of cameras") as stream:
        content = stream.read(MOST_BYTES)
    name = os.fspath(path)
    with in_file(path):
        try:
            text = content.decode("utf-8-sig")
            if re.search(r"^\s*Intrinsic of ", text, re.MULTILINE):
                return _printed(text, color, depth)
            if text.lstrip()[:1] == "{":
                fields = parse_json(text, name)
                if "intrinsic_matrix" in fields:
                    return Calibration(color=_sized(Camera.from_file(path, origin=origin), color))
                return _json(fields, color, depth, origin)
            if re.fullmatch(r"[-+.\deE\s,;]+", text):
                return Calibration(color=_sized(Camera.from_file(path, origin=origin), color))
            return Calibration(color=_ros(parse_yaml(text, name, yaml.SafeLoader), color))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            reason = f"there is no field {error}" if isinstance(error, KeyError) else one_line(error)
            raise DataError(f"not a calibration that can be read: {reason}") from error


def _json(content: Mapping[str, Any], color: Size, depth: Size, origin: int) -> Calibration:
    if "CalibrationInformation" in content:
        return _azure(content["CalibrationInformation"]["Cameras"], color, depth)
    if "camera_matrix" in content or "K" in content:
        return Calibration(color=_ros(content, color))
    if "fx" in content:
        return Calibration(color=_plain(content, color, "colour", origin), extrinsics=_extrinsics(content, content))
    parts = {name: content.get(name) for name in ("color", "depth")}
    placed = next((content[name] for name in ("extrinsics", "depth_to_color") if name in content), content)
    found = Calibration(
        color=None if parts["color"] is None else _plain(parts["color"], color, "colour", origin),
        depth=None if parts["depth"] is None else _plain(parts["depth"], depth, "depth", origin),
        extrinsics=_extrinsics(placed, parts["depth"] or parts["color"] or {}),
    )
    if found == Calibration():
        raise DataError("no calibration: expected color, depth, rotation and translation, or fx, fy, cx, cy")
    return found


def _sized(camera: Camera, size: Size) -> View:
    stated = (camera.width or size[0], camera.height or size[1])
    if stated != size:
        raise DataError(f"its camera is of {_by(stated)}, but the pictures are {_by(size)} (width x height)")
    return View(camera.with_size(*size))


def _plain(fields: Mapping[str, Any], size: Size, what: str, origin: int) -> View:
    names = ("fx", "fy", "ppx", "ppy") if "ppx" in fields else ("fx", "fy", "cx", "cy")
    fx, fy, cx, cy = (float(fields[name]) for name in names)
    stated = (int(fields.get("width", size[0])), int(fields.get("height", size[1])))
    if stated != size:
        raise DataError(f"its {what} camera is of {_by(stated)}, but the pictures are {_by(size)} (width x height)")
    distortion = fields.get("distortion", fields.get("coeffs", ()))
    camera = Camera(fx, fy, cx, cy, *size, origin=int(fields.get("origin", origin)))
    return View(camera, tuple(float(value) for value in distortion))


def _extrinsics(fields: Mapping[str, Any], camera: Mapping[str, Any]) -> Extrinsics | None:
    if "rotation" not in fields and "translation" not in fields:
        return None
    rotation, translation = fields["rotation"], fields["translation"]
    if len(rotation) == 9 and "ppx" in camera:
        rotation = [rotation[row::3] for row in range(3)]
    if len(rotation) != 3 or any(len(row) != 3 for row in rotation):
        raise DataError("rotation: expected three rows of three numbers, [[..], [..], [..]]")
    return tuple(tuple(float(value) for value in row) for row in rotation), tuple(float(value) for value in translation)


def _ros(fields: Mapping[str, Any], size: Size) -> View:
    """A camera_info, as ``camera_calibration`` writes it (``camera_matrix: {data}``) or ``rostopic echo`` prints it."""
    if not isinstance(fields, Mapping):
        raise DataError("no calibration: expected the fields of a camera_info")
    matrix = fields.get("K", fields.get("k", fields.get("camera_matrix")))
    if matrix is None:
        raise DataError("no calibration: a camera_info has camera_matrix or K")
    values = [float(value) for value in (matrix["data"] if isinstance(matrix, Mapping) else matrix)]
    if len(values) != 9:
        raise DataError(f"its camera matrix has {len(values)} numbers, expected 9")
    stated = (
        int(fields.get("width", fields.get("image_width"))),
        int(fields.get("height", fields.get("image_height"))),
    )  # type: ignore[arg-type]
    if stated != size:
        raise DataError(f"its pictures are {_by(stated)}, but these are {_by(size)} (width x height)")
    lens = fields.get("D", fields.get("d", fields.get("distortion_coefficients", ())))
    model = str(fields.get("distortion_model", "plumb_bob"))
    numbers = tuple(float(value) for value in (lens["data"] if isinstance(lens, Mapping) else lens))
    if model not in ("plumb_bob", "rational_polynomial", "") and any(numbers):
        raise DataError(f"distortion_model is {model}, expected plumb_bob or rational_polynomial")
    return View(Camera(values[0], values[4], values[2], values[5], *size), numbers)


def _azure(cameras: Sequence[Mapping[str, Any]], color: Size, depth: Size) -> Calibration:
    """Numbers of the whole sensor, in parts of its width and height, as the SDK turns them into those of a mode."""
    by_place = {str(camera["Location"]).rpartition("Location")[2]: camera for camera in cameras}
    if "D0" not in by_place or "PV0" not in by_place:
        raise DataError(f"its cameras are {', '.join(by_place)}, expected D0 (depth) and PV0 (colour)")
    placed = by_place["PV0"]["Rt"]
    rotation, translation = ([float(value) for value in placed[name]] for name in ("Rotation", "Translation"))
    rows = tuple(tuple(rotation[3 * row : 3 * row + 3]) for row in range(3))
    views: dict[str, View | None] = {}
    for place, size in (("PV0", color), ("D0", depth)):
        modes = {s: (w, h, 0, top) for s, (w, h, top) in _AZURE_COLOR.items()}
        if place == "D0":
            modes = {s: (whole, whole, left, top) for s, (whole, left, top) in _AZURE_DEPTH.items()}
        views[place] = _azure_view(by_place[place], size, modes[size]) if size in modes else None
    return Calibration(views["PV0"], views["D0"], (rows, tuple(translation)))


def _azure_view(camera: Mapping[str, Any], size: Size, mode: tuple[int, int, int, int]) -> View:
    intrinsics = camera["Intrinsics"]
    model = str(intrinsics["ModelType"])
    if not model.endswith("BrownConrady"):
        raise DataError(f"lens model {model}, expected BrownConrady")
    cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, _, _, p2, p1 = (float(v) for v in intrinsics["ModelParameters"][:14])
    width, height, left, top = mode
    pinhole = Camera(fx * width, fy * height, cx * width - left - 0.5, cy * height - top - 0.5, *size)
    return View(pinhole, (k1, k2, p1, p2, k3, k4, k5, k6))


def _printed(text: str, color: Size, depth: Size) -> Calibration:
    """What ``rs-enumerate-devices -c`` prints: a table of each stream and resolution."""
    return Calibration(
        _printed_view(text, "Color", color), _printed_view(text, "Depth", depth), _printed_extrinsics(text)
    )


def _printed_view(text: str, stream: str, size: Size) -> View | None:
    for block in re.split(r"(?=^\s*Intrinsic of )", text, flags=re.MULTILINE):
        if not re.match(rf'\s*Intrinsic of "{stream}"', block):
            continue
        fields = {
            name.strip().lower(): value.strip()
            for name, value in re.findall(r"^\s*([A-Za-z ]+):(.*)$", block, re.MULTILINE)
        }
        if (int(fields["width"]), int(fields["height"])) == size:
            numbers = tuple(float(part) for part in fields.get("coeffs", "").split())
            fx, fy, cx, cy = (float(fields[name]) for name in ("fx", "fy", "ppx", "ppy"))
            return View(Camera(fx, fy, cx, cy, *size), numbers)
    return None


def _printed_extrinsics(text: str) -> Extrinsics | None:
    for block in re.split(r"(?=^\s*Extrinsic from )", text, flags=re.MULTILINE):
        if re.match(r'\s*Extrinsic from "Depth"\s+To\s+"Color"', block):
            found = [
                tuple(float(part) for part in row.split()) for part in (_ROWS, _VECTOR) for row in part.findall(block)
            ]
            if len(found) != 4:
                raise DataError('extrinsics from "Depth" to "Color": expected three rows of a matrix and a vector')
            return tuple(found[:3]), found[3]
    return None


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
