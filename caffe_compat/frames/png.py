"""Png files that say how they were made."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from caffe_compat.errors import DataError, one_line
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.media.sizes import UNREADABLE, open_pillow
from caffe_compat.stamps import parse_stamp, stamp_difference, stamp_text

__all__ = ["is_whole_png", "read_encoded", "read_parameters", "write_color", "write_encoded", "write_png"]

TEXT_KEY = "caffe_compat.frame"
"""Keyword of the png text chunk that keeps the parameters."""
FORMER_KEY = "caffe_compat.depth"
"""The same in files of version 0.1."""


def write_encoded(path: str | os.PathLike[str], image: np.ndarray, parameters: Mapping[str, Any]) -> None:
    """Write an encoded picture, uint8 [H, W, 3], channels in the order given (R first).

    ``parameters`` (anything JSON can hold) go into a text chunk of the png, so that files made with other settings are
    noticed.

    Raises:
        DataError: not uint8 [H, W, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{os.fspath(path)}: {image.dtype} of shape {image.shape}, expected uint8 H x W x 3")
    write_png(path, image, {TEXT_KEY: stamp_text(parameters)})


def write_color(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB as png."""
    write_png(path, image)


def write_png(path: str | os.PathLike[str], image: np.ndarray, texts: Mapping[str, str] | None = None) -> None:
    """Write uint8 [H, W, 3] (RGB), uint8 [H, W] or uint16 [H, W] as png, with text chunks."""
    chunks = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        chunks.add_text(key, text)
    with atomic_write(path) as stream:
        # run lengths only: on these images faster than deflate's matches, and smaller
        Image.fromarray(image).save(stream, format="PNG", pnginfo=chunks, compress_level=1, compress_type=zlib.Z_RLE)


def read_parameters(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The parameters an encoded png was made with, without decoding it; None if it does not say.

    Raises:
        MissingFileError: no such file.
        DataError: not a png, or its parameters are garbled.
    """
    with open_existing(path, "encoded image") as stream:
        try:
            with open_pillow(stream, os.fspath(path)) as image:
                key = TEXT_KEY if TEXT_KEY in image.info else FORMER_KEY
                text = image.info.get(key)
        except UNREADABLE as error:
            raise DataError(f"{os.fspath(path)}: cannot be read as an encoded png: {one_line(error)}") from error
    return None if text is None else parse_stamp(str(text), f"{os.fspath(path)}: text chunk '{key}'")


def is_whole_png(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there and ends as a png does, so that it was not cut off."""
    try:
        with open(path, "rb") as stream:
            stream.seek(-12, os.SEEK_END)
            return stream.read() == b"\0\0\0\0IEND\xaeB`\x82"
    except OSError:
        return False


def read_encoded(path: str | os.PathLike[str], expected: Mapping[str, Any] | None = None) -> np.ndarray:
    """An encoded png as uint8 [H, W, 3], channels in the order they were written (HHA: disparity, height, angle).

    Args:
        path: the file.
        expected: parameters (any subset) that it must have been made with.

    Raises:
        MissingFileError: no such file.
        DataError: not an 8-bit RGB image, or made with other parameters, naming the first that differs.
    """
    if expected:
        found = read_parameters(path)
        if found is None:
            raise DataError(f"{os.fspath(path)}: does not say with which parameters it was made")
        asked = {name: found[name] for name in expected if name in found}
        different = stamp_difference(asked, expected)
        if different is not None:
            raise DataError(f"{os.fspath(path)}: made with {different.replace(', now ', ', expected ')}")
    with open_existing(path, "encoded image") as stream:
        try:
            with open_pillow(stream, os.fspath(path)) as image:
                if image.mode != "RGB":
                    raise DataError(f"{os.fspath(path)}: mode {image.mode}, expected 8-bit RGB")
                return np.array(image)
        except UNREADABLE as error:
            raise DataError(f"{os.fspath(path)}: cannot be read as an image: {one_line(error)}") from error
