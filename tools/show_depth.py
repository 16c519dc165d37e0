#!/usr/bin/env python3
"""Draw one frame's depth, its HHA with all channels, normals, gravity and ground as one picture, and print the figures.

A file:            show_depth.py depth.png -o out.png --camera nyud2_color --units-per-metre 1000 --color color.png
Labelled NYUD2:    show_depth.py nyu_depth_v2_labeled.mat --frame 5001 -o out.png

Exit status 2 and one line on stderr where the frame cannot be used.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from caffe_compat.cli import run
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.fill import FILL_METHODS, complete
from caffe_compat.depth.frames import DepthSource, FileSource
from caffe_compat.depth.hha import hha
from caffe_compat.depth.io import ENCODINGS, DepthFormat
from caffe_compat.errors import DataError, UsageError

OF_FILES = ("camera", "origin", "units_per_metre", "encoding", "invalid", "raw_depth", "color")
"""Arguments about single files; labelled NYUD2 brings its own values."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments, named as make_hha's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("depth", help="depth file (png, pgm, tiff, npy), or NYUD2's labelled .mat")
    parser.add_argument("-o", "--output", required=True, help="png to write")
    parser.add_argument("--frame", type=int, metavar="N", help="number of the frame in the .mat, 5001 to 6449")
    parser.add_argument("--camera", help=f"preset, file, or fx,fy,cx,cy; presets: {', '.join(sorted(CAMERAS))}")
    parser.add_argument(
        "--origin", type=int, choices=(0, 1), help="coordinate of the first pixel (presets know; else 0)"
    )
    parser.add_argument("--units-per-metre", type=float, help="1000 for millimetres, 10000, 5000; no guess is made")
    parser.add_argument("--encoding", choices=ENCODINGS, help="how the file's numbers are stored")
    parser.add_argument("--invalid", type=int, nargs="*", help="codes without a measurement (default 0 65535)")
    parser.add_argument("--raw-depth", help="file of unfilled depth: its holes are the missing pixels")
    parser.add_argument("--color", help="colour image of the same size")
    parser.add_argument("--fill", choices=(*FILL_METHODS, "none"), default="nearest", help="how holes are filled")
    parser.add_argument("--title", help="stands above the picture (default: the file's name)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Read, encode, draw, print."""
    arguments = make_parser().parse_args(argv)
    check_output(arguments)
    source, camera = labelled(arguments) if arguments.frame is not None else single(arguments)
    from caffe_compat.depth.show import draw_frame, save_figure, summarize

    reading = source.read()
    depth, color, holes = reading.depth, reading.color, reading.depth == 0
    missing = holes if reading.missing is None else holes | reading.missing
    try:
        if arguments.fill != "none":
            depth = complete(depth, holes, method=arguments.fill, color=color)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parts = hha(depth, camera, missing, parts=True)
        figure = draw_frame(depth, camera, missing, color, title=arguments.title or source.name, parts=parts)
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    save_figure(arguments.output, figure)
    warned = [f"warning: {source.name}: {warning.message}" for warning in caught]
    print("\n".join([source.name, *summarize(depth, parts, missing).lines(), *warned]))
    print(f"wrote {arguments.output}")
    return 0


def check_output(arguments: argparse.Namespace) -> None:
    """Refuse an output that is no png, or that is one of the inputs."""
    output = Path(arguments.output)
    if output.suffix.lower() != ".png":
        raise UsageError(f"--output {output}: the picture is a png, expected a name that ends in .png")
    for name in filter(None, (arguments.depth, arguments.raw_depth, arguments.color)):
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise UsageError(f"--output {output} is an input, it would be overwritten")


def single(arguments: argparse.Namespace) -> tuple[DepthSource, Camera]:
    """The frame of a depth file."""
    if Path(arguments.depth).suffix.lower() == ".mat":
        raise UsageError(f"{arguments.depth} holds many frames, say which with --frame")
    if arguments.camera:
        camera = Camera.parse(arguments.camera, origin=arguments.origin)
    elif arguments.encoding == "nyud2_raw":
        camera = CAMERAS["nyud2_color"]  # what it is registered to
    else:
        raise UsageError("--camera is missing: HHA needs the intrinsics (a preset, a file, or fx,fy,cx,cy)")
    invalid = (0, 65535) if arguments.invalid is None else tuple(arguments.invalid)
    form = DepthFormat(arguments.units_per_metre, arguments.encoding or "plain", invalid)
    return FileSource(arguments.depth, form, arguments.raw_depth, arguments.color), camera


def labelled(arguments: argparse.Namespace) -> tuple[DepthSource, Camera]:
    """A frame of the labelled data set, cropped to its valid part."""
    if Path(arguments.depth).suffix.lower() != ".mat":
        raise UsageError(f"--frame counts the frames of a .mat, but {arguments.depth} is none")
    for name in OF_FILES:
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} does not go with --frame, which brings its own")
    from caffe_compat.datasets.nyud2 import LabelledSource

    return LabelledSource(arguments.depth, arguments.frame, crop=True), CAMERAS["nyud2_color_cropped"]


if __name__ == "__main__":
    sys.exit(run(main))
