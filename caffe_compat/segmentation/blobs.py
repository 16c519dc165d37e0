"""What a hypercolumn net is fed for the boxes of an image.

Source: ``lib/sds/prepare_blobs.py`` of the ``sds-distillation`` branch.  Boxes are x1 y1 x2 y2 in pixels from 0, last
pixel included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.config import Config
from caffe_compat.errors import DataError
from caffe_compat.media import short_side_factor

__all__ = ["BoxBlobs", "box_blobs", "box_weights", "grid_labels", "grid_points", "image_blob", "usable_boxes"]

_FULL_WEIGHT = 224.0 * 224.0
"""Pixels of a box from which on it has the weight 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class BoxBlobs:
    """Boxes as the net's inputs; float32, named as in the prototxts.

    Args:
        sppboxes: [N, 5, 1, 1], 0 and the box in whole cells of the feature map (what its ROIPooling truncates).
        normalizedboxes: [N, 6, 1, 1], 0, the class from 0, and the box widened by half a pixel, in sides less a pixel.
        categids: [N, 1, 1, 1], the class from 0.
    """

    sppboxes: np.ndarray
    normalizedboxes: np.ndarray
    categids: np.ndarray


def image_blob(image: np.ndarray, config: Config, target_size: int | None = None, *, place: int = 0) -> np.ndarray:
    """A picture, scaled and then less its means (the detector's means come off before): float32 [1, 3, H', W'].

    Args:
        image: uint8 [H, W, 3], blue first.
        config: SDS.TARGET_SIZE, SDS.MAX_SIZE, PIXEL_MEANS and MODALITY_MEANS are read.
        target_size: instead of SDS.TARGET_SIZE.
        place: of its modality among those of the image, for MODALITY_MEANS.
    """
    short = config.sds.target_size if target_size is None else target_size
    factor = short_side_factor(image.shape[0], image.shape[1], short, config.sds.max_size)
    scaled = cv2.resize(image.astype(np.float32), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    scaled -= np.asarray(config.means_of(place))
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]


def usable_boxes(boxes: np.ndarray, size: tuple[int, int], parity: bool = False) -> np.ndarray:
    """Detections as the net is asked about them: clipped to the image.

    Args:
        boxes: [N, 4].
        size: height and width of the image.
        parity: subtract 1 first, as the released test does: left over from VOC, whose boxes start at 1.

    Returns:
        float32 [N, 4].
    """
    moved = np.asarray(boxes, np.float32).reshape(-1, 4) - np.float32(parity)
    most = np.array([size[1] - 1, size[0] - 1] * 2, np.float32)
    return np.asarray(np.clip(moved, 0, most))


def box_blobs(
    boxes: np.ndarray, categories: np.ndarray, size: tuple[int, int], scaled: Sequence[int], config: Config
) -> BoxBlobs:
    """Boxes of an image as inputs of the net; none make blobs of length 0.

    Args:
        boxes: [N, 4].
        categories: [N], classes from 0.
        size: height and width of the image.
        scaled: height and width of its blob.
        config: SDS.FEAT_SCALE is read.

    Raises:
        DataError: an image of one pixel in a direction, whose boxes cannot be measured in its sides.
    """
    if min(size) < 2:
        raise DataError(f"image of {size[1]} x {size[0]} pixels: expected 2 or more in each direction")
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    number = np.asarray(categories, np.float32).reshape(-1, 1)
    if len(rows) != len(number):
        raise DataError(f"{len(rows)} boxes with {len(number)} classes, expected one for each")
    factors = np.asarray(scaled, np.float32) / np.asarray(size, np.float32)
    cells = np.round(rows * factors[[1, 0, 1, 0]] / np.float32(config.sds.feat_scale))
    sides = np.asarray(size, np.float32)[[1, 0, 1, 0]] - 1
    parts = (rows + np.array([-0.5, -0.5, 0.5, 0.5], np.float32)) / sides
    level = np.zeros_like(number)
    return BoxBlobs(
        sppboxes=np.hstack((level, cells)).reshape(-1, 5, 1, 1),
        normalizedboxes=np.hstack((level, number, parts)).reshape(-1, 6, 1, 1),
        categids=number.reshape(-1, 1, 1, 1),
    )


def grid_points(boxes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels at which a grid from edge to edge of each box looks: rows and columns, int64 [N, side] each."""
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    along = np.arange(side) / (side - 1.0)
    low, extent = rows[:, :2].astype(np.float64), (rows[:, 2:] - rows[:, :2]).astype(np.float64)
    points = np.round(low[:, :, None] + along * extent[:, :, None]).astype(np.int64)
    return points[:, 1], points[:, 0]


def grid_labels(masks: np.ndarray, which: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Where on its grid each box shows its object: float32 [N, 1, side, side], 0 or 1.

    Args:
        masks: bool [K, H, W], pixels of objects.
        which: int [N], the object of each box.
        boxes: [N, 4], within the image.
        side: SDS.MASK_SIZE.
    """
    y, x = grid_points(boxes, side)
    chosen = masks[np.asarray(which)[:, None, None], y[:, :, None], x[:, None, :]]
    return np.asarray(chosen[:, None], np.float32)


def box_weights(boxes: np.ndarray) -> np.ndarray:
    """How much each box counts in training: its pixels by those of 224 x 224, at most 1; float32 [N, 1, 1, 1]."""
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    pixels = np.prod(rows[:, 2:] - rows[:, :2] + 1, axis=1)
    return np.asarray(np.minimum(pixels / _FULL_WEIGHT, 1.0), np.float32).reshape(-1, 1, 1, 1)
