"""What a hypercolumn net is asked about boxes of an image.  Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.errors import DataError
from caffe_compat.segmentation.blobs import BoxBlobs, box_blobs, image_blob, usable_boxes

__all__ = ["MaskQuestion", "ask_about"]


@dataclasses.dataclass(frozen=True, eq=False)
class MaskQuestion:
    """What a net is asked about an image.  Without detections there is nothing to ask: ``len`` is 0.

    Args:
        images: float32 [1, 3, H', W'], one of each modality.
        boxes: float32 [N, 4], of all classes one after the other, as detected.
        blobs: of the boxes.
    """

    images: tuple[np.ndarray, ...]
    boxes: np.ndarray
    blobs: BoxBlobs

    def __len__(self) -> int:
        return len(self.boxes)


def ask_about(images: Sequence[np.ndarray], boxes: np.ndarray, labels: np.ndarray, config: Config) -> MaskQuestion:
    """The question about boxes of an image.

    Args:
        images: uint8 [H, W, 3] of one size, blue first, one of each modality.
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0.
        labels: [N], the class of each, from 0.
        config: SDS, PIXEL_MEANS, MODALITY_MEANS and PARITY are read.

    Raises:
        DataError: no images, or of different sizes; boxes that are not finite.
        UsageError: MODALITY_MEANS of another number of modalities.
    """
    if not images or len({image.shape[:2] for image in images}) > 1:
        raise DataError(f"pictures of {[image.shape[:2] for image in images]}, expected one or more of one size")
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    if not np.isfinite(rows).all():
        raise DataError("detections are not finite numbers")
    size = images[0].shape[0], images[0].shape[1]
    config.check_means(len(images))
    pictures = tuple(image_blob(image, config, place=place) for place, image in enumerate(images))
    usable = usable_boxes(rows, size, config.parity)
    return MaskQuestion(pictures, rows, box_blobs(usable, labels, size, pictures[0].shape[2:], config))
