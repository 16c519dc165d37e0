"""Decoding images with OpenCV: 8 bits, channels in the order blue, green, red."""

from __future__ import annotations

import cv2
import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["decode_image", "planes", "read_image"]


def decode_image(data: bytes, name: str, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode a compressed image.

    Args:
        data: content of an image file.
        name: what to call it in an error.
        flags: ``cv2.IMREAD_COLOR``, ``IMREAD_GRAYSCALE`` or ``IMREAD_UNCHANGED``.

    Returns:
        uint8 (height, width) or (height, width, channels).

    Raises:
        DataError: OpenCV cannot decode it, or it has more than 8 bits per channel.
    """
    _refuse_lies(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:  # more pixels than OpenCV allows, or than fit into memory
        raise DataError(f"{name}: OpenCV cannot decode it: {error.err or error}") from error
    if image is None:
        raise DataError(f"{name}: is no image that OpenCV can decode ({len(data)} bytes)")
    if image.dtype != np.uint8:
        raise DataError(f"{name}: has pixels of type {image.dtype}, expected 8 bits per channel")
    return image


def _refuse_lies(data: bytes, name: str) -> None:
    """Refuse sizes in the headers of PNG and JPEG files that the file is too short for: OpenCV would allocate first.

    A pixel of a PNG takes at least 1/8 byte before deflate, which packs at most 1032 bytes into one; a block of 64
    pixels of a JPEG takes at least one bit.
    """
    pixels = most = 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        at = 8
        while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
            length = int.from_bytes(data[at : at + 4], "big")
            if length > len(data) - at - 8:
                raise DataError(f"{name}: is a truncated or damaged PNG image, a part at byte {at} goes beyond its end")
            at += length + 12
        pixels = int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
        most = 8 * 1032 * len(data)
    elif data.startswith(b"\xff\xd8"):
        pixels, most = _jpeg_pixels(data), 512 * len(data)
    if pixels > most:
        raise DataError(f"{name}: claims {pixels} pixels, which {len(data)} bytes cannot hold")


def _jpeg_pixels(data: bytes) -> int:
    """Width times height, as the frame header says; 0 if there is none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big") * int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def read_image(path: str, color: bool = True) -> np.ndarray:
    """Read an image file: uint8 (height, width, 3) in BGR, or (height, width) if not ``color``.

    Raises:
        MissingFileError: no such file.
        DataError: it is no image.
    """
    with open_existing(path, "image") as stream:
        data = stream.read()
    return decode_image(data, path, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE)


def planes(image: np.ndarray) -> list[np.ndarray]:
    """The channels of an image, each (height, width) and contiguous."""
    return [image] if image.ndim == 2 else list(cv2.split(image))
