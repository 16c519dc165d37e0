"""Boxes of annotated pictures, as SSD's data carry them through crops, sizes and mirrors.

Boxes are float32 rows x1 y1 x2 y2 in parts of a picture.  Source: weiliu89/caffe, bbox_util.cpp and im_transforms.cpp
(UpdateBBoxByResizePolicy), whose float32 steps are followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from caffe_compat.errors import DataError

__all__ = ["Annotations", "Frame", "coverage", "extrapolated", "jaccard", "mirrored", "projected", "resized"]

_f32 = np.float32


@dataclass(frozen=True)
class Annotations:
    """Boxes (float32 [G, 4]) with their labels, instances and whether they are difficult ([G, 3], whole numbers)."""

    boxes: np.ndarray
    marks: np.ndarray

    @classmethod
    def of(cls, message: Any) -> Annotations:
        """Those of an ``AnnotatedDatum``, group after group."""
        rows = [
            ((box.xmin, box.ymin, box.xmax, box.ymax), (group.group_label, one.instance_id, int(box.difficult)))
            for group in message.annotation_group
            for one in group.annotation
            for box in (one.bbox,)
        ]
        boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
        if not np.isfinite(boxes).all():
            raise DataError("has a box that is NaN or without end")
        return cls(boxes, np.array([row[1] for row in rows], np.int64).reshape(-1, 3))

    def rows(self, item: int) -> np.ndarray:
        """Rows of the top: item, label, instance, box, difficult (float32 [G, 8])."""
        found = np.empty((len(self.boxes), 8), np.float32)
        found[:, 0], found[:, 1:3] = item, self.marks[:, :2]
        found[:, 3:7], found[:, 7] = self.boxes, self.marks[:, 2]
        return found


@dataclass(frozen=True)
class Frame:
    """The part of a picture that is taken (float32 x1 y1 x2 y2), and which boxes stay.

    Attributes:
        emit: the ``EmitConstraint``, or None.
    """

    part: np.ndarray
    emit: Any = None

    def emits(self, boxes: np.ndarray) -> np.ndarray:
        """Which boxes are kept at all: their centre is inside, or enough of them."""
        if self.emit is None:
            return np.ones(len(boxes), bool)
        if self.emit.EmitType.Name(self.emit.emit_type) == "CENTER":
            centre = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside: np.ndarray = ((centre >= self.part[:2]) & (centre <= self.part[2:])).all(1)
            return inside
        return coverage(boxes, self.part) > _f32(self.emit.emit_overlap)


def _area(boxes: np.ndarray) -> np.ndarray:
    wide, high = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.where((wide < 0) | (high < 0), _f32(0), wide * high)


def _shared(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Areas that boxes share with another."""
    low, high = np.maximum(boxes[:, :2], other[:2]), np.minimum(boxes[:, 2:], other[2:])
    side = (high - low).clip(0)
    shared: np.ndarray = side[:, 0] * side[:, 1]
    return shared


def coverage(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much of each box (float32 [G, 4]) lies in another."""
    shared = _shared(boxes, other)
    return np.where(shared > 0, shared / np.where(shared > 0, _area(boxes), 1), _f32(0))


def jaccard(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with another."""
    shared = _shared(boxes, other)
    union = _area(boxes) + _area(other) - shared
    return np.where(shared > 0, shared / np.where(shared > 0, union, 1), _f32(0))


def projected(found: Annotations, frame: Frame) -> Annotations:
    """In parts of the frame, cut to it; boxes that are outside or without area are dropped."""
    part, boxes = frame.part, found.boxes
    inside = (boxes[:, :2] < part[2:]).all(1) & (boxes[:, 2:] > part[:2]).all(1) & frame.emits(boxes)
    side = np.tile(part[2:] - part[:2], 2)
    moved = ((boxes[inside] - np.tile(part[:2], 2)) / side).clip(0, 1).astype(np.float32)
    stays = _area(moved) > 0
    return Annotations(moved[stays], found.marks[inside][stays])


def mirrored(found: Annotations) -> Annotations:
    """Left for right."""
    boxes = found.boxes.copy()
    boxes[:, 0], boxes[:, 2] = 1 - found.boxes[:, 2], 1 - found.boxes[:, 0]
    return replace(found, boxes=boxes)


def resized(found: Annotations, size: tuple[int, int], resize: Any) -> Annotations:
    """Boxes of a picture (height, width) in parts of what ``ResizeParameter`` makes of it: padding moves them."""
    height, width = (_f32(side) for side in size)
    new_h, new_w = _f32(resize.height), _f32(resize.width)
    aspect, wanted = width / height, new_w / new_h
    mode = resize.Resize_mode.Name(resize.resize_mode)
    if mode == "FIT_SMALL_SIZE":
        if aspect < wanted:
            new_h = new_w / aspect
        else:
            new_w = aspect * new_h
    pads = [_f32(0), _f32(0)]
    if mode == "FIT_LARGE_SIZE_AND_PAD":
        pads = [_f32(0), (new_h - new_w / aspect) / 2] if aspect > wanted else [(new_w - aspect * new_h) / 2, _f32(0)]
    boxes = np.empty_like(found.boxes)
    for axis, (old, new, pad) in enumerate(((width, new_w, pads[0]), (height, new_h, pads[1]))):
        low, high = found.boxes[:, axis] * old, found.boxes[:, axis + 2] * old
        inner = new - 2 * pad
        boxes[:, axis] = (pad + np.maximum(_f32(0), low * inner / old)) / new
        boxes[:, axis + 2] = (pad + np.minimum(new, high * inner / old)) / new
    return replace(found, boxes=boxes)


def extrapolated(found: Annotations, size: tuple[int, int], resize: Any, part: np.ndarray) -> Annotations:
    """FIT_SMALL_SIZE with ``height_scale`` and ``width_scale``: boxes in parts of that size, not of the crop.

    Raises:
        DataError: the crop is smaller.
    """
    scale = np.array([resize.width_scale, resize.height_scale], np.float32)
    if resize.Resize_mode.Name(resize.resize_mode) != "FIT_SMALL_SIZE" or not scale.all():
        return found
    height, width = (_f32(side) for side in size)
    wide, high = _f32(resize.width), _f32(resize.height)
    aspect = width / height
    sides = [wide, wide / aspect] if aspect < wide / high else [high * aspect, high]
    crop = np.array(sides, np.float32) * (part[2:] - part[:2])
    if (crop < scale).any():
        raise DataError(f"a crop of {crop.tolist()} pixels is smaller than width_scale, height_scale {scale.tolist()}")
    return replace(found, boxes=found.boxes * np.tile(crop / scale, 2).astype(np.float32))
