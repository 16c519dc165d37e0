"""A recording in folders: which of its files are colour and which are depth, how large they are, its list of frames."""

from __future__ import annotations

import json
import os
import re
import tokenize
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.matching import MODALITY_WORDS
from caffe_compat.errors import DataError, MissingFileError, in_file, one_line
from caffe_compat.files import open_existing, write_file
from caffe_compat.media.sizes import UNREADABLE, open_pillow

__all__ = ["find_recording", "one_size", "picture_size", "write_index"]

COLOR_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEPTH_SUFFIXES = (".npy", ".pgm", ".png", ".tif", ".tiff")
PathLike = str | os.PathLike[str]


def find_recording(first: PathLike, second: PathLike | None = None) -> tuple[list[Path], list[Path], str]:
    """The colour and the depth files of a recording, sorted, and its name.

    Args:
        first: folder of colour; alone, a folder that holds one folder of each (``rgb`` and ``depth`` of TUM, ``color``
            and ``depth``, ``camera_color_image_raw`` and ``camera_aligned_depth_to_color_image_raw`` of a ROS bag), or
            files of both, which are told apart by such words in their names.
        second: folder of depth.

    Returns:
        Files, files, and the name of the folder that both lie in.

    Raises:
        MissingFileError: a folder that is not there.
        DataError: no files, or folders that cannot be told apart; names them.
    """
    if second is None:
        first, second = _inside(Path(first))
    color, depth = Path(first), Path(second)
    if color.resolve() == depth.resolve():
        return *_mixed(color), color.resolve().name
    files = [_files(folder, endings) for folder, endings in ((color, COLOR_SUFFIXES), (depth, DEPTH_SUFFIXES))]
    for folder, found, what, endings in zip(
        (color, depth), files, ("colour", "depth"), (COLOR_SUFFIXES, DEPTH_SUFFIXES), strict=True
    ):
        if not found:
            raise DataError(f"{folder}: no {what} files ({', '.join(endings)}) in this folder")
    above = os.path.commonpath([color.resolve(), depth.resolve()])
    return files[0], files[1], Path(above).name


def _inside(folder: Path) -> tuple[Path, Path]:
    """The folders of colour and of depth in a folder; twice the folder itself where its files are mixed."""
    inside = [item for item in _listed(folder) if item.is_dir() and not item.name.startswith(".")]
    kinds = {kind: [item for item in inside if _kind(item.name) == kind] for kind in MODALITY_WORDS}
    filled = {
        kind: [item for item in items if _files(item, COLOR_SUFFIXES if kind == "color" else DEPTH_SUFFIXES)]
        for kind, items in kinds.items()
    }
    if not filled["color"] and not filled["depth"]:
        return folder, folder
    for kind, items in filled.items():
        if len(items) != 1:
            names = ", ".join(item.name for item in items or inside)
            raise DataError(
                f"{folder}: {len(items)} folders of {kind} ({names}), expected one; name the two folders, colour first"
            )
    return filled["color"][0], filled["depth"][0]


def _mixed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of one folder by what their names say; where none says colour, those that do not say depth are colour."""
    files = _files(folder, {*COLOR_SUFFIXES, *DEPTH_SUFFIXES})
    depth = [path for path in files if _kind(path.stem) == "depth"]
    others = [path for path in files if _kind(path.stem) != "depth" and path.suffix.lower() in COLOR_SUFFIXES]
    color = [path for path in others if _kind(path.stem) == "color"] or others
    depth = [path for path in depth if path.suffix.lower() in DEPTH_SUFFIXES]
    if not color or not depth:
        raise DataError(
            f"{folder}: no folders of colour and depth in it, and by their names {len(color)} files of colour and "
            f"{len(depth)} of depth (words such as color, rgb and depth); name two folders"
        )
    return color, depth


def _kind(name: str) -> str | None:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", spaced)}
    return next((kind for kind in ("depth", "color") if words & set(MODALITY_WORDS[kind])), None)


def _files(folder: Path, endings: Sequence[str] | set[str]) -> list[Path]:
    return sorted(
        path
        for path in _listed(folder)
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MissingFileError(folder, f"folder of a recording: {error.strerror}") from error


def picture_size(path: PathLike) -> tuple[int, int]:
    """Width and height that a picture or array says it has; its pixels are not read.

    Raises:
        MissingFileError: no such file.
        DataError: it is no picture.
    """
    with open_existing(path, "picture") as stream, in_file(path):
        try:
            if Path(path).suffix.lower() == ".npy":
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape = read(stream)[0]
                if len(shape) != 2:
                    raise DataError(f"an array of shape {shape}, expected [H, W]")
                return int(shape[1]), int(shape[0])
            with open_pillow(stream, os.fspath(path)) as image:
                return image.size
        except (*UNREADABLE, tokenize.TokenError) as error:
            raise DataError(f"cannot be read as a picture: {one_line(error)}") from error


def one_size(files: Sequence[Path]) -> tuple[tuple[int, int], dict[Path, str]]:
    """The size of most pictures (width, height), and what is wrong with each of the others.

    Raises:
        DataError: none of them can be read; says what is wrong with the first.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    wrong: dict[Path, str] = {}
    for path in files:
        try:
            sizes[path] = picture_size(path)
        except (DataError, MissingFileError) as error:
            wrong[path] = str(error)
    if not sizes:
        raise DataError(next(iter(wrong.values())))
    usual = Counter(sizes.values()).most_common(1)[0][0]
    for path, size in sizes.items():
        if size != usual:
            wrong[path] = (
                f"{path}: it is {size[0]} x {size[1]}, the others are {usual[0]} x {usual[1]} (width x height)"
            )
    return usual, wrong


def write_index(path: PathLike, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a list of frames as :func:`caffe_compat.datasets.index_records` reads it, one a line.

    Args:
        path: the JSON file; paths in it are relative to its folder.
        entries: fields of each frame; ``color`` and ``depth`` as seen from here.

    Raises:
        WriteError: it cannot be written.
    """
    folder = Path(path).absolute().parent
    lines = []
    for entry in entries:
        placed = {name: Path(os.path.relpath(entry[name], folder)).as_posix() for name in ("color", "depth")}
        lines.append(json.dumps({**entry, **placed}, allow_nan=False))
    write_file(path, "[\n", ",\n".join(lines), "\n]\n")
