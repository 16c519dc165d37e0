"""The MTCNN face cascade (Zhang et al. 2016) around three nets: proposals, refinement, output with five points.

The nets were trained in Matlab: their images are RGB and transposed (columns first), coordinates count from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch

from caffe_compat.net import Net

Array = np.ndarray
THRESHOLDS = (0.6, 0.7, 0.7)
FACTOR, SMALLEST = 0.709, 20


def detect(image: Array, nets: tuple[Net, Net, Net]) -> tuple[Array, Array, list[int]]:
    """Faces in an RGB image (height, width, 3), resized as float32 with linear interpolation.

    Returns:
        Boxes (K, 5: x1 y1 x2 y2 score), points (K, 10: five x, five y), and how many candidates each stage left.
    """

    image = image.astype(np.float32)

    def run(net: Net, crops: Array) -> dict[str, Array]:
        data = (crops.astype(np.float64) - 127.5) * 0.0078125
        with torch.no_grad():
            tops = net(data=torch.from_numpy(data.transpose(0, 3, 2, 1).astype(np.float32)))
        return {name: top.numpy() for name, top in tops.items()}

    def crops(boxes: Array, size: int) -> Array:
        found = [_crop(image, box, size) for box in boxes[:, :4]]
        return np.stack(found) if found else np.zeros((0, size, size, 3))

    boxes = _propose(image, lambda crop: run(nets[0], crop))
    counts = [len(boxes)]
    found = run(nets[1], crops(boxes, 24))
    kept = found["prob1"][:, 1] > THRESHOLDS[1]
    boxes, offsets = np.hstack([boxes[kept, :4], found["prob1"][kept, 1:]]), found["conv5-2"][kept]
    keep = _suppress(boxes, 0.7, "union")
    boxes = _square(_regress(boxes[keep], offsets[keep]))
    counts.append(len(boxes))
    found = run(nets[2], crops(boxes, 48))
    kept = found["prob1"][:, 1] > THRESHOLDS[2]
    boxes, offsets = np.hstack([boxes[kept, :4], found["prob1"][kept, 1:]]), found["conv6-2"][kept]
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    points = found["conv6-3"][kept].astype(np.float64)
    points[:, :5] = width[:, None] * points[:, :5] + boxes[:, :1] - 1
    points[:, 5:] = height[:, None] * points[:, 5:] + boxes[:, 1:2] - 1
    boxes = _regress(boxes, offsets)
    keep = _suppress(boxes, 0.7, "smaller")
    counts.append(len(keep))
    return boxes[keep], points[keep], counts


def _propose(image: Array, run: Callable[[Array], dict[str, Array]]) -> Array:
    height, width = image.shape[:2]
    scale, smallest, parts = 12 / SMALLEST, min(height, width) * 12 / SMALLEST, []
    while smallest >= 12:
        size = (math.ceil(width * scale), math.ceil(height * scale))
        found = run(cv2.resize(image, size)[None])
        score = found["prob1"][0, 1]  # (columns, rows)
        x, y = np.where(score >= THRESHOLDS[0])
        corners = np.stack([2 * x + 1, 2 * y + 1, 2 * x + 12, 2 * y + 12], 1)
        offsets = found["conv4-2"][0][:, x, y].T
        boxes = np.hstack([np.trunc(corners / scale), score[x, y][:, None], offsets])
        parts.append(boxes[_suppress(boxes, 0.5, "union")])
        scale, smallest = scale * FACTOR, smallest * FACTOR
    boxes = np.concatenate(parts)
    boxes = boxes[_suppress(boxes, 0.7, "union")]
    width_, height_ = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    sides = np.stack([width_, height_, width_, height_], 1)
    return _square(np.hstack([boxes[:, :4] + boxes[:, 5:9] * sides, boxes[:, 4:5]]))


def _regress(boxes: Array, offsets: Array) -> Array:
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    sides = np.stack([width, height, width, height], 1)
    return np.hstack([boxes[:, :4] + offsets * sides, boxes[:, 4:5]])


def _square(boxes: Array) -> Array:
    """Squares around the same centres, in whole pixels."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = np.maximum(width, height)
    corner = boxes[:, :2] + np.stack([width, height], 1) * 0.5 - side[:, None] * 0.5
    return np.hstack([np.trunc(np.hstack([corner, corner + side[:, None]])), boxes[:, 4:5]])


def _crop(image: Array, box: Array, size: int) -> Array:
    """A box (counted from 1, both ends included) of the image, zero where outside, resized."""
    x1, y1, x2, y2 = (int(value) for value in box)
    height, width = image.shape[:2]
    crop = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3), image.dtype)
    left, top, right, bottom = max(x1, 1), max(y1, 1), min(x2, width), min(y2, height)
    crop[top - y1 : bottom - y1 + 1, left - x1 : right - x1 + 1] = image[top - 1 : bottom, left - 1 : right]
    return cv2.resize(crop, (size, size))


def _suppress(boxes: Array, threshold: float, kind: str) -> list[int]:
    """Greedy non-maximum suppression, by intersection over union or over the smaller box."""
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order, keep = np.argsort(boxes[:, 4]), []
    while order.size:
        best, order = order[-1], order[:-1]
        keep.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:4], boxes[order, 2:4])
        inner = np.prod(np.maximum(0, high - low + 1), axis=1)
        base = area[best] + area[order] - inner if kind == "union" else np.minimum(area[best], area[order])
        order = order[inner / base <= threshold]
    return keep
