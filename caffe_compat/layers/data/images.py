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
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise DataError(f"{name}: is no image that OpenCV can decode ({len(data)} bytes)")
    if image.dtype != np.uint8:
        raise DataError(f"{name}: has pixels of type {image.dtype}, expected 8 bits per channel")
    return image


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
