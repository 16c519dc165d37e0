"""The detections of one image as a question to a hypercolumn net, and the regions that its answer amounts to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.errors import DataError
from caffe_compat.evaluation.checks import stack
from caffe_compat.segmentation.blobs import BoxBlobs, box_blobs, image_blob, usable_boxes
from caffe_compat.segmentation.regions import Superpixels, choose_regions, superpixel_values

__all__ = ["REGION_THRESHOLD", "MaskQuestion", "ask_masks", "regions_of"]

REGION_THRESHOLD = 0.4
"""The mean probability from which on a superpixel belongs to a region, in the branch's commands."""


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


def ask_masks(images: Sequence[np.ndarray], detections: Sequence[np.ndarray], config: Config) -> MaskQuestion:
    """The question about the detections of an image that suppression left.

    Args:
        images: uint8 [H, W, 3] of one size, blue first, one of each modality.
        detections: of each class [n, 5]: x1 y1 x2 y2 score.
        config: SDS, PIXEL_MEANS and PARITY are read.

    Raises:
        DataError: no images, or of different sizes; boxes that are not finite.
    """
    if not images or len({image.shape[:2] for image in images}) > 1:
        raise DataError(f"pictures of {[image.shape[:2] for image in images]}, expected one or more of one size")
    rows, labels, _ = stack(detections)
    if not np.isfinite(rows).all():
        raise DataError("detections are not finite numbers")
    size = images[0].shape[0], images[0].shape[1]
    config.check_means(len(images))
    pictures = tuple(image_blob(image, config, place=place) for place, image in enumerate(images))
    boxes = usable_boxes(rows[:, :4], size, config.parity)
    return MaskQuestion(pictures, rows[:, :4], box_blobs(boxes, labels, size, pictures[0].shape[2:], config))


def regions_of(
    question: MaskQuestion,
    output: np.ndarray,
    superpixels: Superpixels,
    threshold: float = REGION_THRESHOLD,
    parity: bool = False,
) -> np.ndarray:
    """The superpixels of each detection: bool [N, count].

    Args:
        question: what was asked.
        output: [N, 1, S, S], what the net said.
        superpixels: of the image.
        threshold: mean probability from which on a superpixel belongs to a region.
        parity: see :func:`~caffe_compat.segmentation.regions.superpixel_values`.

    Raises:
        DataError: an answer to another question.
    """
    return choose_regions(superpixel_values(output, question.boxes, superpixels, parity), threshold)
