"""The pixels of an image's objects, checked."""

from __future__ import annotations

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError

__all__ = ["instance_map", "object_masks"]


def object_masks(record: FrameRecord, hidden: bool = False) -> np.ndarray:
    """The pixels of each object of an image: bool [K, H, W], in the order of its boxes.

    Args:
        hidden: objects may have no pixels.

    Raises:
        DataError: its objects or their masks are not known, are of other numbers or sizes, or an object has no pixel;
            names the image and the object, counted from 1.
    """
    if record.boxes is None or record.classes is None:
        raise DataError(f"image {record.name}: its objects are not known")
    if record.masks is None:
        raise DataError(f"image {record.name}: the pixels of its objects are not known (no masks)")
    masks = np.asarray(record.masks())
    expected = (len(record.boxes), *(masks.shape[1:] if record.size is None else record.size))
    if masks.ndim != 3 or masks.dtype != bool or masks.shape != expected:
        form = f"{masks.dtype} of shape {masks.shape}"
        raise DataError(f"image {record.name}: masks are {form}, expected bool {expected}")
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty) and not hidden:
        k = int(empty[0])
        raise DataError(f"image {record.name}: object {k + 1} ({record.classes[k]}) has no pixels in the masks")
    return masks


def instance_map(masks: np.ndarray) -> np.ndarray:
    """Objects as one map, as the branch keeps them: int32 [H, W], number from 1; where several are, the last.

    Args:
        masks: bool [K, H, W].
    """
    numbers = np.zeros(masks.shape[1:], np.int32)
    for number, mask in enumerate(masks, start=1):
        numbers[mask] = number
    return numbers
