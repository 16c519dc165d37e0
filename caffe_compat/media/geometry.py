"""Resizing and cropping, by the rules that nets were trained with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import scipy  # like scikit-image it loads its parts on first use
import skimage

from caffe_compat.errors import DataError

__all__ = ["centre_window", "resize_caffe", "resize_short_side", "resize_skimage", "short_side_factor"]

Window = tuple[slice, slice]


def resize_caffe(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's bilinear resize, without smoothing, as Caffe's data layers and ``convert_imageset`` do it.

    Raises:
        DataError: OpenCV cannot make a picture of that size.
    """
    if image.shape[:2] == (height, width):
        return image
    try:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    except cv2.error as error:
        raise DataError(f"a picture of {image.shape[0]} x {image.shape[1]} to {height} x {width}: {error}") from error


def short_side_factor(height: int, width: int, short: float, longest: float = 0) -> float:
    """The factor that makes the short side ``short`` pixels, or less where the long one would pass ``longest`` (0: no
    matter), as in Fast R-CNN's image pyramid.
    """
    factor = short / min(height, width)
    if longest and round(factor * max(height, width)) > longest:
        factor = longest / max(height, width)
    return factor


def resize_short_side(image: np.ndarray, short: float, longest: float = 0) -> np.ndarray:
    """OpenCV's bilinear resize by :func:`short_side_factor`."""
    factor = short_side_factor(image.shape[0], image.shape[1], short, longest)
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def resize_skimage(image: np.ndarray, height: int, width: int, order: int = 1) -> np.ndarray:
    """Resize a picture (height, width, channels) as pycaffe's ``resize_image`` does; float32.

    Pictures of 1 or 3 channels go through scikit-image, scaled to 0..1 by their own range first, without smoothing and
    with zeros outside; others go through SciPy's zoom, whose grid differs.
    """
    if image.shape[-1] not in (1, 3):
        factors = (height / image.shape[0], width / image.shape[1], 1)
        return np.asarray(scipy.ndimage.zoom(image, factors, order=order)).astype(np.float32)
    low, high = image.min(), image.max()
    if high <= low:
        return np.full((height, width, image.shape[-1]), low, np.float32)
    options = {"order": order, "mode": "constant", "anti_aliasing": False}
    resized = skimage.transform.resize((image - low) / (high - low), (height, width), **options)
    return np.asarray(resized * (high - low) + low).astype(np.float32)


def centre_window(size: Sequence[int], crop: Sequence[int]) -> Window:
    """Rows and columns of the crop (height, width) in the middle of a picture of ``size`` (height, width).

    Raises:
        DataError: the picture is smaller.
    """
    if size[0] < crop[0] or size[1] < crop[1]:
        raise DataError(f"is {size[1]}x{size[0]}, smaller than a crop of {crop[1]}x{crop[0]}")
    top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    return slice(top, top + crop[0]), slice(left, left + crop[1])
