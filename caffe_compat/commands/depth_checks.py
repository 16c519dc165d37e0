"""A mistake that all depth files of a run share, said once, before the work, in words of the command line."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence

from caffe_compat.datasets.folders import picture_size
from caffe_compat.depth.camera import Camera
from caffe_compat.depth.io import UnitsError, read_depth
from caffe_compat.depth.modalities import DepthEncoder
from caffe_compat.depth.nominal import NOMINAL
from caffe_compat.depth.sources import FileSource
from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.frames import Frame
from caffe_compat.resources import program

__all__ = ["check_common"]

Size = tuple[int, int]
_Checked = tuple[FileSource, Camera | None]


def check_common(frames: Sequence[Frame], arguments: argparse.Namespace) -> None:
    """Refuse a run in which no frame can succeed, because of the camera, the units, or what was not registered.

    The first, the middle and the last frame are looked at; only what is wrong with these is asked of the others.  Files
    that cannot be read say nothing here.

    Raises:
        UsageError: all frames have the mistake; says which argument it is.
    """
    checked = [_parts(frame) for frame in frames]
    files = [one for one in checked if one is not None and one[0].form.encoding != "nyud2_raw"]
    if not files or len(files) < len(frames):
        return
    for wrong in (_camera_wrong, _sizes_wrong):
        found = _of_all(files, wrong)
        if found:
            first = found[0]
            raise UsageError(
                _camera_text(first, files, arguments) if wrong is _camera_wrong else _sizes_text(first, files)
            )
    _check_units(files, arguments)


def _parts(frame: Frame) -> _Checked | None:
    if not isinstance(frame.source, FileSource) or not isinstance(frame.encoder, DepthEncoder):
        return None
    return frame.source, frame.encoder.camera


def _samples(files: Sequence[_Checked]) -> list[_Checked]:
    return [files[place] for place in sorted({0, len(files) // 2, len(files) - 1})]


def _of_all(files: Sequence[_Checked], wrong: Callable[[_Checked], Size | None]) -> list[Size]:
    """What is wrong with each, if it is wrong with all."""
    if not all(wrong(one) for one in _samples(files)):
        return []
    found = [wrong(one) for one in files]
    sizes = [size for size in found if size is not None]
    return sizes if len(sizes) == len(files) else []


def _camera_wrong(one: _Checked) -> Size | None:
    """The size of depth that its camera does not make."""
    source, camera = one
    size = _size(source.depth)
    if camera is None or size is None:
        return None
    return None if (camera.width or size[0], camera.height or size[1]) == size else size


def _sizes_wrong(one: _Checked) -> Size | None:
    """The size of colour, where depth has another."""
    source, _ = one
    depth, color = _size(source.depth), None if source.color is None else _size(source.color)
    return color if depth is not None and color is not None and color != depth else None


def _size(path: str) -> Size | None:
    try:
        return picture_size(path)
    except CaffeCompatError:  # told of when it is read
        return None


def _camera_text(size: Size, files: Sequence[_Checked], arguments: argparse.Namespace) -> str:
    _, camera = files[0]
    given = getattr(arguments, "camera", None)
    made = (None, None) if camera is None else (camera.width, camera.height)
    name = str(given).partition("@")[0]
    if name in NOMINAL and size in NOMINAL[name].sizes:
        hint = f"--camera {name}@{size[0]}x{size[1]} is this camera at that resolution"
    else:
        hint = "give the fx,fy,cx,cy of these very pictures, also where they were cropped or scaled"
    return (
        f"--camera {given} makes pictures of {made[0]} x {made[1]} (width x height), but {_all(files)} {size[0]} x "
        f"{size[1]}; {hint}"
    )


def _sizes_text(size: Size, files: Sequence[_Checked]) -> str:
    depth = _size(files[0][0].depth) or (0, 0)
    return (
        f"{_all(files)} {depth[0]} x {depth[1]} (width x height), but colour is {size[0]} x {size[1]}: depth is not "
        f"registered to colour; {program('index')} with --calibration registers it"
    )


def _all(files: Sequence[_Checked]) -> str:
    path = files[0][0].depth
    return f"{path} is" if len(files) == 1 else f"all {len(files)} depth files, such as {path}, are"


def _check_units(files: Sequence[_Checked], arguments: argparse.Namespace) -> None:
    wrong: list[str] = []
    for source, _ in _samples(files):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run says them
                read_depth(source.depth, source.form)
        except UnitsError as error:
            wrong.append(str(error))
        except CaffeCompatError:  # one file's affair
            return
        else:
            return
    source, option = files[0][0], "--units-per-metre"
    given = source.form.units_per_metre
    if getattr(arguments, "index", None):
        begin = f"depth_units_per_metre of --index {arguments.index[0]} cannot be {given:g}" if given else "--index"
    else:
        begin = f"{option} is missing" if given is None else f"{option} cannot be {given:g}"
    raise UsageError(f"{begin}: {wrong[0]}" + ("" if len(files) == 1 else f" (and so on, {len(files)} files)"))
