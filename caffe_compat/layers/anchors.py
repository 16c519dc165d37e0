"""Anchors of region proposal nets, and boxes moved onto others, as in py-faster-rcnn: extents are x2 - x1 + 1."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer

__all__ = ["AnchorGrid", "box_overlaps", "moved", "offsets", "suppress"]

BASE, RATIOS, SCALES = 16, (0.5, 1.0, 2.0), (8.0, 16.0, 32.0)


class AnchorGrid:
    """Anchors around every cell of a map.

    Around the box 0, 0, base - 1, base - 1: for each ratio of height to width a box of about its area with whole sides,
    and of that one for each scale.  Source: ``rpn/generate_anchors.py`` of py-faster-rcnn.

    Attributes:
        stride: pixels from cell to cell.
        anchors: float64 [A, 4], x1 y1 x2 y2 of those of the first cell; ratios change slower than scales.
    """

    def __init__(
        self,
        stride: float,
        scales: Sequence[float] = SCALES,
        ratios: Sequence[float] = RATIOS,
        base: float = BASE,
    ) -> None:
        self.stride = stride
        ratio = np.asarray(ratios, np.float64)
        wide = np.round(np.sqrt(base * base / ratio))
        high = np.round(wide * ratio)
        middle = 0.5 * (base - 1)
        sides = np.stack([wide, high], 1)[:, None] * np.asarray(scales, np.float64)[None, :, None]
        half = 0.5 * (sides.reshape(-1, 2) - 1)
        self.anchors = np.concatenate([middle - half, middle + half], 1)

    def __len__(self) -> int:
        return len(self.anchors)

    def boxes(self, height: int, width: int, device: torch.device) -> Tensor:
        """Anchors of all cells (float64[height width A, 4]), cell by cell, row by row."""
        anchors = torch.from_numpy(self.anchors).to(device)
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float64, device=device) * self.stride,
            torch.arange(width, dtype=torch.float64, device=device) * self.stride,
            indexing="ij",
        )
        return (torch.stack([x, y, x, y], 2)[:, :, None] + anchors).reshape(-1, 4)


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (Tensor[N, 4]) moved by dx, dy, dw, dh (Tensor[N, 4]), in the type of the deltas, not cut to the image."""
    boxes = boxes.to(deltas.dtype)
    side = boxes[:, 2:] - boxes[:, :2] + 1
    middle = deltas[:, :2] * side + (boxes[:, :2] + 0.5 * side)
    half = 0.5 * (deltas[:, 2:].exp() * side)
    return torch.cat([middle - half, middle + half], 1)


def offsets(boxes: Tensor, gt: Tensor) -> Tensor:
    """What moves boxes (Tensor[N, 4]) onto others (Tensor[N, 4]): dx, dy, dw, dh."""
    side, gt_side = (value[:, 2:] - value[:, :2] + 1 for value in (boxes, gt))
    middle, gt_middle = (value[:, :2] + 0.5 * extent for value, extent in ((boxes, side), (gt, gt_side)))
    return torch.cat([(gt_middle - middle) / side, (gt_side / side).log()], 1)


def box_overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (float64[N, M])."""
    one, two = boxes.double()[:, None], others.double()[None]
    side = (torch.minimum(one[..., 2:], two[..., 2:]) - torch.maximum(one[..., :2], two[..., :2]) + 1).clamp(min=0)
    shared = side.prod(2)
    areas = [(value[..., 2:] - value[..., :2] + 1).prod(2) for value in (one, two)]
    return torch.where(shared > 0, shared / (areas[0] + areas[1] - shared), 0)


def suppress(layer: Layer, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression: numbers of the boxes that stay, by descending score.

    A box goes where its overlap with a better one is the threshold or more, as in ``cpu_nms.pyx``.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises RuntimeError
        raise layer.error(f"needs torchvision, built for torch {torch.__version__}: {error}") from error
    # torchvision's boxes have no last pixel, and overlaps have to be more than the threshold there
    ends = boxes + boxes.new_tensor([0, 0, 1, 1])
    kept: Tensor = torch.ops.torchvision.nms(ends, scores, float(np.nextafter(threshold, -1)))
    return kept
