"""``show_depth``: one frame's picture and figures."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from caffe_compat.commands.depth_arguments import FILE_ARGUMENTS
from caffe_compat.commands.depth_images import file_camera, file_form
from caffe_compat.datasets.labelled import LabelledSource
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.hha_image import hha
from caffe_compat.depth.modalities import Options, fill_reading
from caffe_compat.depth.show import draw_frame, save_figure, summarize
from caffe_compat.depth.sources import FileSource
from caffe_compat.errors import DataError, UsageError
from caffe_compat.frames import Source

__all__ = ["show_depth"]


def show_depth(arguments: argparse.Namespace) -> list[str]:
    """Read, encode and draw a frame.

    Returns:
        The figures, a line each.

    Raises:
        UsageError: arguments that are missing or contradict each other.
        DataError, MissingFileError: a frame that cannot be used.
    """
    _check_output(arguments)
    source, camera = _labelled(arguments) if arguments.frame is not None else _single(arguments)
    options = Options("hha", arguments.fill, nearest=arguments.min_depth, farthest=arguments.max_depth)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reading = source.read()
    try:
        depth, missing = fill_reading(reading, options)
        with warnings.catch_warnings(record=True) as more:
            warnings.simplefilter("always")
            parts = hha(depth, camera, missing, parts=True)
        figure = draw_frame(
            depth, camera, missing, reading.color, title=arguments.title or Path(source.name).name, parts=parts
        )
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    save_figure(arguments.output, figure)
    warned = [f"warning: {source.name}: {warning.message}" for warning in (*caught, *more)]
    return [source.name, *summarize(depth, parts, missing).lines(), *warned, f"wrote {arguments.output}"]


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuse an output that is no png, or that is one of the inputs."""
    output = Path(arguments.output)
    if output.suffix.lower() != ".png":
        raise UsageError(f"--output {output}: the picture is a png, expected a name that ends in .png")
    for name in filter(None, (arguments.depth, arguments.raw_depth, arguments.color)):
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise UsageError(f"--output {output} is an input, it would be overwritten")


def _single(arguments: argparse.Namespace) -> tuple[Source, Camera]:
    """The frame of a depth file."""
    if Path(arguments.depth).suffix.lower() == ".mat":
        raise UsageError(f"{arguments.depth} holds many frames, say which with --frame")
    camera = file_camera(arguments)
    return FileSource(arguments.depth, file_form(arguments), arguments.raw_depth, arguments.color), camera


def _labelled(arguments: argparse.Namespace) -> tuple[Source, Camera]:
    """A frame of the labelled data set, cropped to its valid part."""
    if Path(arguments.depth).suffix.lower() != ".mat":
        raise UsageError(f"--frame counts the frames of a .mat, but {arguments.depth} is none")
    for name in FILE_ARGUMENTS:
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} does not go with --frame, which brings its own")
    return LabelledSource(arguments.depth, arguments.frame, crop=True), CAMERAS["nyud2_color_cropped"]
