"""What the losses of YOLO nets share: ground truth in rows, overlaps, and a loss that is the squares of its gradient.

Source: ``region_loss_layer.cpp`` and ``yolov3_layer.cpp`` of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer

__all__ = ["OBJECTS", "SquaredDiff", "best_overlap", "check_objects", "first_zero", "overlap"]

OBJECTS = 300  #: rows of ground truth of an image


class SquaredDiff(torch.autograd.Function):
    """The sum of squares of a diff over the batch; its gradient, by definition, is ``gradient`` over the batch."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, diff: Tensor, gradient: Tensor) -> Tensor:
        ctx.number = max(1, len(scores))
        ctx.save_for_backward(gradient)
        loss: Tensor = diff.square().sum() / ctx.number
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * (seed / ctx.number), None, None


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4] (centre, width and height)."""
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return both / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both)


def best_overlap(boxes: Tensor, objects: Tensor) -> Tensor:
    """The largest overlap of each of ``boxes`` [..., 4] with one of ``objects`` [T, 4]; 0 where there are none."""
    return overlap(boxes[..., None, :], objects).amax(-1) if len(objects) else boxes.new_zeros(boxes.shape[:-1])


def first_zero(column: Tensor) -> int:
    """The place of the first 0, the length without one."""
    zeros = (column == 0).nonzero()
    return int(zeros[0]) if len(zeros) else len(column)


def check_objects(layer: Layer, objects: Tensor, classes: int) -> None:
    """Refuse classes, centres and sizes that the fork would take to other boxes, or past the end of the blob.

    Args:
        objects: rows of the layer's bottom 1 [T, 5].
    """
    labels, centres, sizes = objects[:, 0], objects[:, 1:3], objects[:, 3:]
    wrong = (labels < 0) | (labels >= classes) | (centres < 0).any(1) | (centres >= 1).any(1) | (sizes <= 0).any(1)
    if bool(wrong.any()):
        raise layer.error(
            f"an object in bottom '{layer.params.bottoms[1]}' is {objects[wrong][0].tolist()}, expected a class below "
            f"{classes}, a centre from 0 to below 1, and a positive size"
        )
