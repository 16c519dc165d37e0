"""Masks over pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.media.drawing import class_color, draw_boxes

__all__ = ["draw_masks"]

_OPAQUE = 0.5


def draw_masks(
    picture: np.ndarray,
    masks: np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray | None = None,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """A picture with masks in the colours of their classes, each with its outline, and boxes with class and score.

    Args:
        picture: uint8 [H, W, 3], blue first; stays as it is.
        masks: bool [N, H, W].
        labels: the class of each.
        scores: of each; the highest are drawn last, over the others.
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0; None: no boxes.

    Returns:
        uint8 [H', W', 3]; with boxes a small picture is enlarged, see
        :func:`~caffe_compat.media.drawing.draw_boxes`.

    Raises:
        DataError: masks of another size or number.
    """
    if masks.shape != (len(labels), *picture.shape[:2]):
        raise DataError(f"masks of shape {masks.shape} for {len(labels)} labels on a picture {picture.shape[:2]}")
    canvas = picture.copy()
    order = np.arange(len(masks)) if scores is None else np.argsort(np.asarray(scores), kind="stable")
    for k in order.tolist():
        color = np.array(class_color(labels[k]), np.float64)
        pixels = masks[k].astype(np.uint8)
        canvas[masks[k]] = np.round((1 - _OPAQUE) * canvas[masks[k]] + _OPAQUE * color).astype(np.uint8)
        inner = cv2.erode(pixels, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        canvas[(pixels > inner)] = color.astype(np.uint8)
    return canvas if boxes is None else draw_boxes(canvas, boxes, labels, scores)
