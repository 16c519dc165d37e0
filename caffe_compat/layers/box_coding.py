"""Boxes of SSD: as numbers relative to priors and back, and how much two overlap.

Boxes are rows x1 y1 x2 y2.  Source: weiliu89/caffe, bbox_util.cpp (EncodeBBox, DecodeBBox, JaccardOverlap), whose types
are followed: float32, but for ``exp`` and ``log``, which C++ takes of doubles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Section

__all__ = ["Coding", "Priors", "areas", "overlaps", "read_priors", "sides", "unclear"]


@dataclass(frozen=True)
class Priors:
    """What PriorBox makes: boxes and variances, Tensor[P, 4] each."""

    boxes: Tensor
    variances: Tensor


def read_priors(layer: Layer, blob: Tensor) -> Priors:
    """The two channels of a blob 1 x 2 x (P 4).

    Raises:
        LayerError: a box or variance is NaN.
    """
    boxes, variances = blob.detach().reshape(-1)[: blob[0].numel()].reshape(2, -1, 4)
    unclear(layer, blob.detach(), 2)
    return Priors(boxes, variances)


def unclear(layer: Layer, values: Tensor, bottom: int) -> None:
    """Raise a LayerError if a bottom that holds boxes or scores has a NaN: C++ would compare with it and go on."""
    if can_look(values) and bool(values.isnan().any()):
        where = [int(place) for place in values.isnan().nonzero()[0]]
        raise layer.error(f"bottom {bottom} '{layer.params.bottoms[bottom]}' is NaN at {where}, expected numbers")


def sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Widths and heights (Tensor[...])."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


@dataclass(frozen=True)
class Coding:
    """How predictions relate to priors: ``code_type``, and whether their variances are in what is predicted already."""

    kind: str  #: CORNER, CENTER_SIZE or CORNER_SIZE
    in_target: bool

    @classmethod
    def of(cls, section: Section, in_target: str) -> Coding:
        """From the fields ``code_type`` and ``in_target``."""
        return cls(section.enum("code_type"), bool(section.value(in_target)))

    def check(self, layer: Layer, priors: Priors) -> None:
        """Raise a LayerError for priors without a width or height, which only CORNER can do with."""
        boxes = priors.boxes
        wide, high = sides(boxes)
        bad = ~((wide > 0) & (high > 0))
        if self.kind != "CORNER" and can_look(bad) and bool(bad.any()):
            first = int(bad.int().argmax())
            raise layer.error(
                f"prior {first} in '{layer.params.bottoms[2]}' is {boxes[first].tolist()}, expected x1 < x2 and y1 < y2"
                f" for code_type {self.kind}"
            )

    def decode(self, priors: Priors, predicted: Tensor) -> Tensor:
        """Boxes of predictions (Tensor[..., P, 4])."""
        boxes = priors.boxes
        moved = predicted if self.in_target else priors.variances * predicted
        if self.kind == "CORNER":
            return boxes + moved
        wide, high = sides(boxes)
        if self.kind == "CORNER_SIZE":
            # C++ multiplies by the side after the variance, as here
            return boxes + moved * torch.stack((wide, high, wide, high), -1)
        size = torch.stack((wide, high), -1)
        centre = moved[..., :2] * size + (boxes[:, :2] + boxes[:, 2:]) / 2
        grown = moved[..., 2:].double().exp() * size.double()
        half = grown.to(predicted.dtype) / 2
        return torch.cat((centre - half, centre + half), -1)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """What should be predicted for one box (Tensor[P, 4]) of each prior."""
        own, variances = priors.boxes, priors.variances
        wide, high = sides(own)
        if self.kind == "CORNER":
            code = boxes - own
        elif self.kind == "CORNER_SIZE":
            code = (boxes - own) / torch.stack((wide, high, wide, high), -1)
        else:
            size = torch.stack((wide, high), -1)
            moved = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (own[:, :2] + own[:, 2:]) / 2) / size
            grown = ((boxes[:, 2:] - boxes[:, :2]) / size).double().log()
            if not self.in_target:  # log(..) / variance is of doubles
                grown = grown / variances[:, 2:].double()
                return torch.cat((moved / variances[:, :2], grown.to(boxes.dtype)), -1)
            code = torch.cat((moved, grown.to(boxes.dtype)), -1)
        return code if self.in_target else code / variances


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair (Tensor[A, B]), as JaccardOverlap has it: 0 unless they share an area."""
    a, b = first[:, None], second[None]
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    wide, tall = (high - low).unbind(-1)
    common = wide * tall
    union = areas(first)[:, None] + areas(second)[None] - common
    return torch.where((wide > 0) & (tall > 0), common / union, torch.zeros_like(common))


def areas(boxes: Tensor) -> Tensor:
    """Width times height, 0 for boxes whose corners are swapped."""
    wide, high = sides(boxes)
    return (wide * high).masked_fill((wide < 0) | (high < 0), 0)
