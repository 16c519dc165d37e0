"""The detections of one image as a question to a hypercolumn net, and the regions that its answer amounts to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.errors import DataError
from caffe_compat.evaluation.checks import stack
from caffe_compat.segmentation.questions import MaskQuestion, ask_about
from caffe_compat.segmentation.regions import REGION_THRESHOLD, Superpixels, choose_regions, superpixel_values

__all__ = ["REGION_THRESHOLD", "MaskQuestion", "ask_masks", "regions_of"]


def ask_masks(images: Sequence[np.ndarray], detections: Sequence[np.ndarray], config: Config) -> MaskQuestion:
    """The question about the detections of an image that suppression left.

    Args:
        images: uint8 [H, W, 3] of one size, blue first, one of each modality.
        detections: of each class [n, 5]: x1 y1 x2 y2 score.
        config: SDS, PIXEL_MEANS and PARITY are read.

    Raises:
        DataError: no images, or of different sizes; boxes that are not finite.
    """
    rows, labels, _ = stack(detections)
    if not np.isfinite(rows).all():
        raise DataError("detections are not finite numbers")
    return ask_about(images, rows[:, :4], labels, config)


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
