"""Pictures as a detector is fed them: mean subtracted, then scaled so that the short side has a given length.

Source: ``utils/blob.py`` and ``fast_rcnn/test.py`` of fast-rcnn.  OpenCV's bilinear ``resize`` is part of what nets
were trained on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.batches.reader import New, new_array
from caffe_compat.config import Config
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.media import MODALITIES, read_picture, short_side_factor

__all__ = ["image_blob", "join_blobs", "mirror_picture", "read_modalities", "scaled_image"]

PathLike = str | os.PathLike[str]


def image_blob(
    paths: Sequence[PathLike],
    config: Config,
    scales: Sequence[int],
    flipped: bool = False,
    *,
    max_size: int | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[list[np.ndarray], float]:
    """One image in all its modalities at one scale.

    Args:
        paths: a picture file for each modality.
        config: PIXEL_MEANS and MODALITY_MEANS are read, and TRAIN.MAX_SIZE unless ``max_size`` is given.
        scales: pixels of the short side: one number.  Several scales are several calls, see :func:`scaled_image`.
        flipped: columns in reverse order.
        max_size: pixels that the long side may have; wins over the scale.
        size: height and width that the pictures must have; None: any.

    Returns:
        float32 [1, 3, H, W] for each modality, and the factor by which boxes are to be multiplied.

    Raises:
        MissingFileError: no such file.
        DataError: no picture, or one of 16 bits; modalities of different sizes; another size than ``size``.
    """
    if len(scales) != 1:
        raise ValueError(f"image_blob makes one scale, got {tuple(scales)}")
    images = read_modalities(paths, size)
    longest = config.train.max_size if max_size is None else max_size
    factor = short_side_factor(images[0].shape[0], images[0].shape[1], scales[0], longest)
    config.check_means(len(images))
    scaled = [scaled_image(image, config, factor, flipped, place=place) for place, image in enumerate(images)]
    return [join_blobs([picture]) for picture in scaled], factor


def read_modalities(paths: Sequence[PathLike], size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """The pictures of one image: uint8 [H, W, 3] in OpenCV's order each, all of one size.

    Raises:
        MissingFileError, DataError: as :func:`image_blob`.
    """
    for path in paths:
        _refuse_16_bits(path)
    images = [read_picture(path) for path in paths]
    first = images[0].shape[:2]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != first:
            raise DataError(
                f"{os.fspath(path)}: has {_pixels(image.shape)}, the same frame in {os.fspath(paths[0])} has "
                f"{_pixels(first)}; modalities must be of one size"
            )
    if size is not None and first != tuple(size):
        raise DataError(f"{os.fspath(paths[0])}: has {_pixels(first)}, its boxes are for {_pixels(size)}")
    return images


def _refuse_16_bits(path: PathLike) -> None:
    """A PNG image of 16 bits, as depth is kept, would be read as its upper 8, which are nearly black."""
    with open_existing(path, "picture") as stream:
        head = stream.read(25)
    if head.startswith(b"\x89PNG") and head[24:] == b"\x10":
        raise DataError(f"{os.fspath(path)}: has 16 bits a channel, expected 8 (of depth, make_hha makes a picture)")


def scaled_image(
    image: np.ndarray, config: Config, factor: float, flipped: bool = False, modality: str = "", *, place: int = 0
) -> np.ndarray:
    """A picture less its modality's means, then scaled: float32 [H', W', 3].

    Args:
        image: uint8 [H, W, 3].
        factor: of :func:`~caffe_compat.media.short_side_factor`.
        flipped: columns in reverse order.
        modality: one of :data:`~caffe_compat.media.MODALITIES` whose numbers point to the right in some channels
            (``flow``, ``normals``): mirrored, they point to the left, unless PARITY (the branch only reverses columns).
        place: of the modality among those of the image, for MODALITY_MEANS.
    """
    values = _mirror_values(modality, config) if flipped else np.tile(np.arange(256.0)[:, None], 3)
    table = values - np.asarray(config.means_of(place))  # float64 before it is rounded, as in fast-rcnn
    centred = cv2.LUT(cv2.flip(image, 1) if flipped else image, table.astype(np.float32)[None])
    return np.asarray(cv2.resize(centred, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR))


def mirror_picture(image: np.ndarray, config: Config, modality: str = "") -> np.ndarray:
    """A picture in a mirror: uint8 [H, W, 3], with its numbers turned as :func:`scaled_image` does."""
    table = _mirror_values(modality, config).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.flip(image, 1), table[None]))


def _mirror_values(modality: str, config: Config) -> np.ndarray:
    """What the numbers 0 to 255 of each channel become in a mirror: float64 [256, 3]."""
    values = np.tile(np.arange(256.0)[:, None], 3)
    kind = MODALITIES.get(modality)
    if kind is not None and not config.parity:
        for channel in kind.negated:
            values[:, channel] = np.clip(2 * kind.about - values[:, channel], 0, 255)
    return values


def join_blobs(images: Sequence[np.ndarray], new: New = new_array) -> np.ndarray:
    """Images [H, W, 3] as a blob [N, 3, H, W] of the largest height and width, zeros at the bottom and on the right.

    Args:
        new: gives the memory of the blob.
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    blob = new((len(images), 3, height, width))
    for place, image in zip(blob, images, strict=True):
        if image.shape[:2] == (height, width):
            cv2.split(image, list(place))
            continue
        place[:] = 0
        for channel, plane in zip(place, cv2.split(image), strict=True):
            channel[: image.shape[0], : image.shape[1]] = plane
    return blob


def _pixels(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
