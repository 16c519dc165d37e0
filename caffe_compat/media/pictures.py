"""Decoding pictures with OpenCV, as Caffe does: 8 bits, channels in the order blue, green, red."""

from __future__ import annotations

import os
from typing import Literal

import cv2
import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.media.sizes import check_size, stated_size

__all__ = ["Channels", "can_encode", "decode", "encode", "planes", "read_picture", "split_into"]

Channels = Literal["color", "gray", "unchanged"]
_FLAGS: dict[str, int] = {
    "color": cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    "gray": cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
    "unchanged": cv2.IMREAD_UNCHANGED,
}


def decode(data: bytes, name: str, channels: Channels = "color", most: int | None = None) -> np.ndarray:
    """Decode a picture file.

    ``color`` repeats grey in all channels and drops alpha, ``gray`` makes grey of colours; both keep the upper 8 bits
    of 16.  ``unchanged`` keeps what is there.  The orientation that cameras note in EXIF is ignored: Caffe's OpenCV did
    not know it, so nets were trained, and boxes drawn, on pictures as they are stored.

    Args:
        data: content of the file.
        name: what to call it in an error.
        channels: what is wanted.
        most: another limit of pixels than :func:`caffe_compat.media.pixel_limit`; 0 for none.

    Returns:
        uint8 (height, width) or (height, width, channels).

    Raises:
        DataError: it has more pixels than the limit, OpenCV cannot decode it, or what is there has more than 8 bits.
    """
    size = stated_size(data, name)
    if size is not None:
        check_size(*size, name, most)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[channels]) if data else None
    except cv2.error as error:  # more pixels than OpenCV allows, or than fit into memory
        raise DataError(f"{name}: OpenCV cannot decode it: {error.err or error}") from error
    if image is None:
        raise DataError(f"{name}: is no image that OpenCV can decode ({len(data)} bytes)")
    if image.dtype != np.uint8:
        raise DataError(f"{name}: has pixels of type {image.dtype}, expected 8 bits per channel")
    return image


def read_picture(
    path: str | os.PathLike[str], channels: Channels = "color", most: int | None = None, why: str = "image"
) -> np.ndarray:
    """Decode a file: uint8 (height, width, 3) in BGR, or (height, width) where ``gray`` is wanted.

    Args:
        channels, most: as :func:`decode`.
        why: what it was wanted for.

    Raises:
        MissingFileError: no such file.
        DataError: as :func:`decode`.
    """
    with open_existing(path, why) as stream:
        data = stream.read()
    return decode(data, os.fspath(path), channels, most)


def can_encode(kind: str) -> bool:
    """Whether OpenCV writes files with the ending ``kind``."""
    return bool(cv2.haveImageWriter(f"x.{kind}"))


def encode(image: np.ndarray, kind: str, name: str) -> bytes:
    """A picture (as :func:`decode` gives it) as the bytes of a file.

    Args:
        kind: the ending of such files, ``"jpg"`` or ``"png"``, or what else OpenCV writes.
        name: what to call it in an error.

    Raises:
        DataError: OpenCV cannot write that kind, or not this picture.
    """
    if not can_encode(kind):
        raise DataError(f"{name}: OpenCV cannot write '{kind}', expected a kind such as jpg or png")
    done, buffer = cv2.imencode(f".{kind}", image)
    if not done:
        raise DataError(f"{name}: OpenCV cannot encode it as {kind}")
    return buffer.tobytes()


def split_into(image: np.ndarray, out: np.ndarray) -> None:
    """The channels of a picture, uint8, written into ``out`` (channels, height, width)."""
    if image.ndim == 2:
        out[0] = image
    else:
        cv2.split(image, list(out))


def planes(image: np.ndarray) -> list[np.ndarray]:
    """The channels of a picture, each (height, width) and contiguous."""
    return [image] if image.ndim == 2 else list(cv2.split(image))
