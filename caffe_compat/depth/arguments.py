"""The command line that make_hha and make_disparity share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from caffe_compat.depth.batch import (
    Frame,
    Options,
    Report,
    encode_depth,
    index_frames,
    run_frames,
    split_pairs,
    write_pairs,
)
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.disparity import depth_from_disparity
from caffe_compat.depth.io import ENCODINGS, DepthFormat, write_color, write_depth, write_encoded
from caffe_compat.errors import DataError, MissingFileError, UsageError

__all__ = ["add_arguments", "encode_from_arguments", "encode_motorcycle"]

DEPTH_SUFFIXES = (".npy", ".pgm", ".png", ".tif", ".tiff")
MOTORCYCLE = Camera(994.978, 994.978, 311.193, 254.877, width=741, height=500)
MOTORCYCLE_BASELINE = 0.193001
MOTORCYCLE_OFFSET = 31.086


def add_arguments(parser: argparse.ArgumentParser, kind: Literal["hha", "disparity"]) -> None:
    """Declare the arguments; a disparity image needs no camera."""
    parser.add_argument("input", nargs="*", help="depth files, or folders of them")
    parser.add_argument("-o", "--output", help="png (one input) or folder")
    parser.add_argument("--list", help="text file of depth files, one a line, relative to its folder")
    parser.add_argument("--index", help="JSON list of colour and depth files with intrinsics and units")
    parser.add_argument(
        "--hold-out", type=int, metavar="N", help="with --index: also split the pairs; every Nth frame validates"
    )
    parser.add_argument("--stereo-motorcycle", metavar="OUTDIR", help="encode scikit-image's stereo pair")
    if kind == "hha":
        parser.add_argument("--camera", help=f"preset, file, or fx,fy,cx,cy; presets: {', '.join(sorted(CAMERAS))}")
        parser.add_argument(
            "--origin", type=int, choices=(0, 1), help="coordinate of the first pixel (presets know it; else 0)"
        )
    parser.add_argument("--units-per-metre", type=float, help="1000 for millimetres, 10000, 5000; no guess is made")
    parser.add_argument("--encoding", choices=ENCODINGS, help="how the file's numbers are stored")
    parser.add_argument("--invalid", type=int, nargs="*", help="codes without a measurement (default 0 65535)")
    parser.add_argument("--raw-depth", help="file or folder of unfilled depth: its holes are the missing pixels")
    parser.add_argument("--color", help="file or folder of colour images")
    parser.add_argument(
        "--fill", choices=("nearest", "colorization", "none"), default="nearest", help="how holes are filled"
    )
    parser.add_argument("--workers", type=int, help="processes (default: work in this one)")
    parser.add_argument("--overwrite", action="store_true", help="redo outputs that were made with other parameters")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def encode_from_arguments(arguments: argparse.Namespace, kind: Literal["hha", "disparity"]) -> Report:
    """Do what the command line says.

    Raises:
        UsageError: arguments that are missing or contradict each other.
        DataError, MissingFileError: an input that no frame can do without, or the only frame cannot be used.
    """
    sources = [bool(arguments.input or arguments.list), bool(arguments.index), bool(arguments.stereo_motorcycle)]
    if sum(sources) != 1:
        raise UsageError("give depth files (or --list), or --index, or --stereo-motorcycle: exactly one of them")
    if (arguments.workers or 0) < 0:
        raise UsageError(f"--workers is {arguments.workers}, expected 0 or more")
    options = Options(kind, arguments.fill, arguments.overwrite)
    if arguments.stereo_motorcycle:
        _refuse(arguments, "stereo_motorcycle", ("output", "workers"))
        return encode_motorcycle(arguments.stereo_motorcycle, options)
    if not arguments.output:
        raise UsageError("--output is missing")
    if arguments.index:
        _refuse(arguments, "index")
        frames = index_frames(arguments.index, arguments.output, kind)
    else:
        frames = _file_frames(arguments, kind)
    report = run_frames(frames, options, workers=arguments.workers or 0, progress=not arguments.quiet)
    if len(frames) == 1 and report.failed and not arguments.index:
        raise DataError(report.failed[0][1])
    if arguments.index:
        pairs = Path(arguments.output) / "pairs.txt"
        write_pairs(pairs, frames, report)
        if arguments.hold_out is not None:
            split_pairs(pairs, arguments.hold_out)
    elif arguments.hold_out is not None:
        raise UsageError("--hold-out splits the pairs of an --index")
    return report


def encode_motorcycle(folder: str | os.PathLike[str], options: Options) -> Report:
    """Write ``color.png``, ``depth.png`` (uint16 millimetres) and ``hha.png`` or ``disparity.png`` of
    ``skimage.data.stereo_motorcycle()``, a real colour image with structured-light disparity."""
    from skimage.data import stereo_motorcycle

    left, _, pixels = stereo_motorcycle()
    depth = depth_from_disparity(pixels, MOTORCYCLE.fx, MOTORCYCLE_BASELINE, MOTORCYCLE_OFFSET)
    depth = np.rint(depth * 1000) / 1000  # what depth.png says
    image = encode_depth(depth, None, MOTORCYCLE, options, left)
    camera = [MOTORCYCLE.fx, MOTORCYCLE.fy, MOTORCYCLE.cx, MOTORCYCLE.cy]
    parameters = {
        "kind": options.kind,
        "fill": options.fill,
        "depth": "stereo_motorcycle",
        "camera": camera,
        "origin": 0,
    }
    target = Path(folder)
    write_color(target / "color.png", left)
    write_depth(target / "depth.png", depth)
    write_encoded(target / f"{options.kind}.png", image, parameters)
    return Report(written=[str(target / f"{options.kind}.png")])


def _refuse(arguments: argparse.Namespace, source: str, more: Sequence[str] = ()) -> None:
    """Refuse arguments about single files beside a source that brings its own values."""
    for name in ("camera", "origin", "units_per_metre", "encoding", "invalid", "raw_depth", "color", *more):
        if getattr(arguments, name, None) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with --{source.replace('_', '-')}, which brings its own"
            )


def _file_frames(arguments: argparse.Namespace, kind: str) -> list[Frame]:
    camera = _camera(arguments) if kind == "hha" else None
    invalid = (0, 65535) if arguments.invalid is None else tuple(arguments.invalid)
    form = DepthFormat(arguments.units_per_metre, arguments.encoding or "plain", invalid)
    files = _inputs(arguments)
    single = len(files) == 1 and Path(arguments.output).suffix.lower() == ".png"
    stems: dict[str, Path] = {}
    frames = []
    for path in files:
        if path.stem in stems:
            raise UsageError(f"{stems[path.stem]} and {path} would both become {path.stem}.png; encode them apart")
        stems[path.stem] = path
        output = Path(arguments.output) if single else Path(arguments.output) / f"{path.stem}.png"
        raw, color = _beside(arguments.raw_depth, path), _beside(arguments.color, path)
        frames.append(Frame(str(path), str(output), camera, form, raw, color))
    return frames


def _camera(arguments: argparse.Namespace) -> Camera:
    if arguments.camera:
        return Camera.parse(arguments.camera, origin=arguments.origin)
    if arguments.encoding == "nyud2_raw":
        return CAMERAS["nyud2_color"]  # what it is registered to
    raise UsageError("--camera is missing: HHA needs the intrinsics (a preset, a file, or fx,fy,cx,cy)")


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    files: list[Path] = []
    for name in arguments.input:
        if os.path.isdir(name):
            found = sorted(path for path in Path(name).iterdir() if path.suffix.lower() in DEPTH_SUFFIXES)
            if not found:
                raise DataError(f"{name}: no depth files ({', '.join(DEPTH_SUFFIXES)}) in this folder")
            files += found
        else:
            files.append(Path(name))
    if arguments.list:
        try:
            lines = Path(arguments.list).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise MissingFileError(arguments.list, str(error)) from error
        files += [Path(arguments.list).parent / line.strip() for line in lines if line.strip()]
        if not files:
            raise DataError(f"{arguments.list}: the list is empty")
    return files


def _beside(place: str | None, path: Path) -> str | None:
    """The file that belongs to ``path``: ``place`` itself, or the file of the same stem in the folder ``place``."""
    if place is None or not os.path.isdir(place):
        return place
    found = sorted(other for other in Path(place).iterdir() if other.stem == path.stem)
    return str(found[0] if found else Path(place) / path.name)
