"""How much boxes overlap.  A box holds its last row and column: its width is x2 - x1 + 1, as in VOC and the branch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffe_compat.datasets.record import FrameRecord

__all__ = ["Overlap", "box_overlaps", "paired_overlaps", "record_overlaps"]

Overlap = Callable[[np.ndarray, FrameRecord], np.ndarray]
"""Overlap of detections with the objects of an image: takes all detections of the image, float32 [N, 5] (x1 y1 x2 y2
score), class by class, and its record; gives float [N, K] between 0 and 1.  Where the object is a crowd, the part of
the detection that lies in it."""


def box_overlaps(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of all pairs, in float64.

    Args:
        boxes: [N, 4 or more], x1 y1 x2 y2.
        others: [K, 4].
        crowd: bool [K]: of these, intersection over the area of the first box, as COCO counts crowds.

    Returns:
        float64 [N, K].
    """
    x1, y1, x2, y2 = (boxes[:, k, None].astype(np.float64) for k in range(4))
    u1, v1, u2, v2 = (others[None, :, k].astype(np.float64) for k in range(4))
    width = np.minimum(x2, u2) - np.maximum(x1, u1) + 1
    height = np.minimum(y2, v2) - np.maximum(y1, v1) + 1
    inside = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    whole = area + (u2 - u1 + 1) * (v2 - v1 + 1) - inside
    if crowd is not None and crowd.any():
        whole = np.where(crowd[None, :], area, whole)
    return np.divide(inside, whole, out=np.zeros_like(whole), where=inside > 0)


def record_overlaps(detections: np.ndarray, record: FrameRecord) -> np.ndarray:
    """Overlap of boxes with the boxes of a record: an :data:`Overlap`."""
    truth = np.zeros((0, 4), np.float32) if record.boxes is None else record.boxes
    return box_overlaps(detections, truth, record.crowd)


def paired_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes with the others at their place, in float64.

    Args:
        boxes, others: [..., 4 or more], x1 y1 x2 y2; of shapes that numpy brings together.

    Returns:
        float64 [...].
    """
    x1, y1, x2, y2 = (boxes[..., k].astype(np.float64) for k in range(4))
    u1, v1, u2, v2 = (others[..., k].astype(np.float64) for k in range(4))
    width = np.minimum(x2, u2) - np.maximum(x1, u1) + 1
    height = np.minimum(y2, v2) - np.maximum(y1, v1) + 1
    inside = np.maximum(width, 0) * np.maximum(height, 0)
    whole = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - inside
    return np.asarray(np.divide(inside, whole, out=np.zeros_like(inside), where=inside > 0))
