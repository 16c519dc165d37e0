"""Boxes: regression targets and back, cutting to the image.

A box is x1 y1 x2 y2 in pixels from 0.  Overlaps (:mod:`caffe_compat.evaluation.overlaps`) take the last row and column
for a part of the box (its width is x2 - x1 + 1), regression targets do not (x2 - x1 + EPS): both as in fast-rcnn
(``utils/bbox.pyx``, ``roi_data_layer/roidb.py``).
"""

from __future__ import annotations

import numpy as np

__all__ = ["bbox_transform", "bbox_transform_inv", "clip_boxes", "flip_boxes"]


def bbox_transform(boxes: np.ndarray, gt: np.ndarray, eps: float = 1e-14) -> np.ndarray:
    """What moves boxes onto others: offsets of the centre in widths and heights, logarithms of the growth.

    Args:
        boxes: [N, 4].
        gt: [N, 4], where each is to go.
        eps: added to all widths and heights; it keeps those of boxes without extent from being 0.

    Returns:
        float64 [N, 4]: dx, dy, dw, dh.
    """
    (width, height, x, y), (gt_width, gt_height, gt_x, gt_y) = _centred(boxes, eps), _centred(gt, eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = ((gt_x - x) / width, (gt_y - y) / height, np.log(gt_width / width), np.log(gt_height / height))
    return np.stack(moved, 1)


def bbox_transform_inv(boxes: np.ndarray, deltas: np.ndarray, eps: float = 1e-14) -> np.ndarray:
    """Boxes moved by what a net predicts, the inverse of :func:`bbox_transform`.

    Args:
        boxes: [N, 4].
        deltas: [N, 4 C], dx, dy, dw, dh of every class; the growth is computed in their type.
        eps: as it was in training.

    Returns:
        float64 [N, 4 C], x1 y1 x2 y2 of every class, not cut to the image.
    """
    width, height, x, y = (part[:, None] for part in _centred(boxes, eps))
    moved = np.empty(deltas.shape, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for first, size, centre in ((0, width, x), (1, height, y)):
            middle = deltas[:, first::4] * size + centre
            half = 0.5 * (np.exp(deltas[:, first + 2 :: 4]) * size)
            moved[:, first::4], moved[:, first + 2 :: 4] = middle - half, middle + half
    return moved


def clip_boxes(boxes: np.ndarray, size: tuple[int, int], one_sided: bool = False) -> np.ndarray:
    """Boxes cut to an image.

    Args:
        boxes: [N, 4 C].
        size: height and width of the image.
        one_sided: as the released code does: the first corner only from below and the last only from above, so that a
            box beyond the image stays there, turned inside out.

    Returns:
        A new array of the same shape and type.
    """
    cut = boxes.copy()
    for column in range(4):
        last = size[0 if column % 2 else 1] - 1
        low, high = (0 if column < 2 else None), (last if column >= 2 else None)
        cut[:, column::4] = np.clip(cut[:, column::4], *((low, high) if one_sided else (0, last)))
    return cut


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes [N, 4] seen in a mirror that stands beside an image of ``width`` pixels; a new array."""
    flipped = boxes.copy()
    flipped[:, 0], flipped[:, 2] = width - boxes[:, 2] - 1, width - boxes[:, 0] - 1
    return flipped


def _centred(boxes: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Widths, heights, and centres, in float64."""
    values = np.asarray(boxes, np.float64)
    width, height = values[:, 2] - values[:, 0] + eps, values[:, 3] - values[:, 1] + eps
    return width, height, values[:, 0] + 0.5 * width, values[:, 1] + 0.5 * height
