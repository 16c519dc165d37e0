"""NVIDIA's DetectNet: pictures and their objects, changed together, and the grid of targets that the net learns.

Source: NVIDIA/caffe, ``detectnet_transform_layer.cpp`` (what a CPU computes; its GPU code interpolates otherwise) and
``detectnet_coverage_rectangular.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import read_mean
from caffe_compat.random import Draw

__all__ = ["DetectNetTransformation"]

_FIELDS = 16  #: of an object: x, y, width, height, angle, class, and what DetectNet does not use
_FIXED = 8  #: channels of the targets before those of the classes
_TINY = float(np.finfo(np.float32).eps)
_LEVELS = 255.0


@dataclass(frozen=True)
class _Change:
    """What happens to one picture.

    Attributes:
        hue: degrees that are added.
        saturation: a factor.
        flip: whether left and right change places.
        size: (width, height) after scaling.
        angle: of a rotation, in degrees.
        corner: (x, y) of the crop.
    """

    size: tuple[int, int]
    hue: float = 0
    saturation: float = 1
    flip: bool = False
    angle: float = 0
    corner: tuple[int, int] = (0, 0)


@register
class DetectNetTransformation(Layer):
    """In TRAIN pictures change at random in colour, size, place and angle, and their objects with them.

    Bottoms: pictures N x 3 x H x W (BGR, 0 to 255) and objects N x 1 x R x 16: in row 0 how many there are and 16, then
    a row for each: x, y, width, height, -, class, and more that is not read.  Tops: pictures N x 3 x ``image_size_y`` x
    ``image_size_x``, less the mean, and targets N x (8 + classes) x grid: foreground, the corners of the object from
    the corner of the cell, 1 / width, 1 / height, the cell's area / the covered one, and 1 in the channel of the class.
    Where objects overlap the last counts.  In TEST pictures are only made as large as asked.  No gradient.
    """

    caffe_type = "DetectNetTransformation"
    bottom_count = (2, 2)
    top_count = (2, 2)
    no_gradient = (0, 1)
    phase_dependent = True
    on_meta = True
    onnx_reason = "it makes training data; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.augmentation = _Augmentation(params)
        self.coverage = _Coverage(params)
        transform = params.section("transform_param")
        self.mean_values = np.array(transform.mean_value, np.float32) / np.float32(_LEVELS)
        mean_file = str(transform.mean_file) if transform.has("mean_file") else ""
        if self.mean_values.size not in (0, 1, 3):
            raise self.error(f"transform_param has {self.mean_values.size} mean_value, expected none, 1 or 3")
        if mean_file and self.mean_values.size:
            raise self.error(f"transform_param has mean_file ({mean_file}) and mean_value, expected one of them")
        self.mean = read_mean(mean_file) if mean_file else None
        if self.mean is not None and len(self.mean) != 3:
            raise self.error(f"mean_file ({mean_file}) has {len(self.mean)} channels, expected 3")
        self._draw = Draw()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The sizes that ``detectnet_groundtruth_param`` tells."""
        images, objects = bottoms
        self.require(
            len(images) == 4 and images[1] == 3,
            f"bottom 0 has the shape {list(images)}, expected pictures of three channels N x 3 x H x W",
        )
        self.require(
            len(objects) == 4 and objects[0] == images[0] and min(objects[1:3]) >= 1 and objects[3] == _FIELDS,
            f"bottom 1 has the shape {list(objects)}, expected {images[0]} x 1 x R x {_FIELDS}: a row of counts, "
            "then objects",
        )
        wide, high = self.coverage.size
        return [(images[0], 3, high, wide), (images[0], *self.coverage.shape)]

    @torch.no_grad()
    def forward(self, images: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        """One picture after another."""
        shapes = self.top_shapes([tuple(images.shape), tuple(objects.shape)])
        if images.is_meta:
            return tuple(images.new_empty(shape) for shape in shapes)
        pictures, targets = (np.zeros(shape, np.float32) for shape in shapes)
        generator = self._draw.generator(torch.device("cpu"))
        for item, pixels in enumerate(images.detach().float().cpu().numpy()):
            boxes, classes = self._objects(objects[item, 0].detach().float().cpu().numpy(), item)
            size = (pixels.shape[2], pixels.shape[1])
            change = _Change(self.coverage.size)
            if self.layer_phase == "TRAIN":
                change = self.augmentation.drawn(
                    size, self.coverage.size, lambda: float(torch.rand((), generator=generator))
                )
            pictures[item] = self._picture(np.ascontiguousarray(pixels.transpose(1, 2, 0)), change).transpose(2, 0, 1)
            self.coverage.fill(targets[item], _moved(boxes, change, size), classes)
        return tuple(torch.from_numpy(made).to(images) for made in (pictures, targets))

    def _objects(self, rows: np.ndarray, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [G, 4] (x, y, width, height) and classes [G] of a picture."""
        number, width = rows[0, :2]
        if not np.isfinite(rows[0, :2]).all() or int(width) != _FIELDS or not 0 <= number < len(rows):
            raise self.error(
                f"bottom '{self.params.bottoms[1]}' has {number:g} objects of {width:g} numbers in item {item}, "
                f"expected 0 to {len(rows) - 1} of {_FIELDS}"
            )
        found = rows[1 : 1 + int(number)]
        if not np.isfinite(found[:, :6]).all():
            raise self.error(f"bottom '{self.params.bottoms[1]}' holds NaN or infinite numbers, expected finite ones")
        return found[:, :4], found[:, 5].astype(np.int64)

    def _picture(self, pixels: np.ndarray, change: _Change) -> np.ndarray:
        """What becomes of a picture, float32 (height, width, 3)."""
        pixels = pixels * np.float32(1 / _LEVELS)
        faded = change.saturation < 1 - 1 / _LEVELS
        if abs(change.hue) > _TINY or faded:
            hue = change.hue if abs(change.hue) > _TINY else 0.0
            moves = np.array([hue, 0, 0], np.float32), np.array([1, change.saturation if faded else 1, 1], np.float32)
            pixels = (cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV) + moves[0]) * moves[1]
            pixels = cv2.cvtColor(pixels, cv2.COLOR_HSV2BGR)
        pixels = pixels - self._mean(pixels.shape[1], pixels.shape[0])
        if change.flip:
            pixels = cv2.flip(pixels, 1)
        if change.size != (pixels.shape[1], pixels.shape[0]):
            pixels = cv2.resize(pixels, change.size, interpolation=cv2.INTER_CUBIC)
        if abs(change.angle) > _TINY:
            wide, high = _rotated_size(change.size, change.angle)
            turned = np.zeros((high, wide, 3), np.float32)
            matrix = _rotation(change.size, change.angle)
            border = cv2.BORDER_TRANSPARENT
            pixels = cv2.warpAffine(pixels, matrix, (wide, high), turned, cv2.INTER_LINEAR, border)
        return _cut(pixels, self.coverage.size, change.corner) * np.float32(_LEVELS)

    def _mean(self, wide: int, high: int) -> np.ndarray:
        if self.mean is None:
            return self.mean_values if self.mean_values.size else np.zeros(1, np.float32)
        whole = np.ascontiguousarray(self.mean.transpose(1, 2, 0), np.float32)
        resized = cv2.resize(whole, (wide, high), interpolation=cv2.INTER_CUBIC)
        return resized * np.float32(1 / _LEVELS)


class _Augmentation:
    """``detectnet_augmentation_param``."""

    def __init__(self, params: Params) -> None:
        section = params.section("detectnet_augmentation_param")
        self.hue = self._chance(params, section, "hue_rotation_prob"), float(section.hue_rotation)
        self.desaturation = self._chance(params, section, "desaturation_prob"), float(section.desaturation_max)
        self.flip = self._chance(params, section, "flip_prob")
        self.scale = self._chance(params, section, "scale_prob"), float(section.scale_min), float(section.scale_max)
        self.rotation = self._chance(params, section, "rotation_prob"), float(section.max_rotate_degree)
        self.crop = self._chance(params, section, "crop_prob"), int(section.shift_x), int(section.shift_y)
        if not 0 < self.scale[1] <= self.scale[2] < math.inf:
            scales = f"{self.scale[1]:g} to {self.scale[2]:g}"
            raise params.error(f"detectnet_augmentation_param has scales {scales}, expected 0 < min <= max")

    @staticmethod
    def _chance(params: Params, section: Section, name: str) -> float:
        chance = float(section.value(name))
        if not 0 <= chance <= 1:
            raise params.error(f"detectnet_augmentation_param.{name} is {chance:g}, expected 0 to 1")
        return chance

    def drawn(self, size: tuple[int, int], wanted: tuple[int, int], draw: Callable[[], float]) -> _Change:
        """A change of a picture of (width, height); the draws are in the original's order."""
        hue, saturation, scaled, angle = 0.0, 1.0, size, 0.0
        if draw() <= self.hue[0]:
            hue = max(min((draw() - 0.5) * 2 * self.hue[1], 180.0), -180.0)
        if draw() <= self.desaturation[0]:
            saturation = 1 - draw() * self.desaturation[1]
        flip = draw() <= self.flip
        if draw() <= self.scale[0]:
            factor = np.float32(self.scale[1] + (self.scale[2] - self.scale[1]) * draw())
            scaled = (_round(float(size[0] * factor)), _round(float(size[1] * factor)))
        if draw() <= self.rotation[0]:
            angle = (draw() - 0.5) * 2 * self.rotation[1]
        whole = _rotated_size(scaled, angle) if abs(angle) > _TINY else scaled
        part, shift = (0.5, 0.5), (0, 0)
        if draw() <= self.crop[0]:
            part, shift = (draw(), draw()), self.crop[1:]
        corner = [
            _round(part[axis] * (whole[axis] - wanted[axis] + shift[axis]) - shift[axis] // 2) for axis in range(2)
        ]
        return _Change(scaled, hue, saturation, flip, angle, (corner[0], corner[1]))


class _Coverage:
    """``detectnet_groundtruth_param``: which cells of a grid see which object.

    Attributes:
        size: (width, height) of pictures.
        shape: of the targets of one: channels, rows and columns.
    """

    def __init__(self, params: Params) -> None:
        section = params.section("detectnet_groundtruth_param")
        section.ignore("coverage_type")  # there is one
        self.stride, self.scale = int(section.stride), np.float32(section.scale_cvg)
        self.smallest = section.enum("gridbox_type") == "GRIDBOX_MIN"
        bounds = int(section.min_cvg_len), int(section.max_cvg_len)
        self.length = np.float32(bounds[0] if self.smallest else bounds[1])
        self.size = int(section.image_size_x), int(section.image_size_y)
        if self.stride < 1 or min(self.size) < 1 or not self.scale >= 0:
            raise params.error(
                f"detectnet_groundtruth_param has stride {self.stride}, images of {self.size[0]} x {self.size[1]} and "
                f"scale_cvg {self.scale:g}, expected positive numbers"
            )
        self.least_norm = np.float32(0 if section.obj_norm else 1)
        self.crop = bool(section.crop_bboxes)
        self.classes = {int(entry.src): int(entry.dst) for entry in section.object_class} or {1: 0}
        part = np.float32(1 / self.stride)
        columns, rows = (int(np.rint(np.float32(side) * part)) for side in self.size)
        self.shape = (_FIXED + 1 + max(self.classes.values()), rows, columns)

    def fill(self, targets: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> None:
        """Write the targets of a picture, of 0 before.

        Args:
            targets: float32 [channels, rows, columns].
            boxes: [G, 4] x, y, width, height.
            classes: [G].
        """
        for box, number in zip(boxes, classes, strict=True):
            if self.crop:
                box = _intersection(box, np.array([0, 0, *self.size], np.float32))
            if int(number) in self.classes and not box[2] * box[3] < _TINY:
                self._put(targets, box, self.classes[int(number)])

    def _put(self, targets: np.ndarray, box: np.ndarray, number: int) -> None:
        covered = self._covered(box)
        stride = np.float32(self.stride)
        first = np.maximum(np.floor(covered[:2] / stride), 0).astype(np.int64)
        last = np.minimum(np.ceil((covered[:2] + covered[2:]) / stride), (self.shape[2], self.shape[1]))
        x, y = (np.arange(low, int(high), dtype=np.int64) for low, high in zip(first, last, strict=True))
        sides = [
            np.maximum(np.minimum(edge + stride, corner + side) - np.maximum(edge, corner), 0)
            for edge, corner, side in ((x * stride, covered[0], covered[2]), (y * stride, covered[1], covered[3]))
        ]
        area = stride * stride
        rows, columns = np.nonzero(sides[1][:, None] * sides[0] / area > _TINY)
        rows, columns = y[rows], x[columns]
        left, top = columns * stride, rows * stride
        targets[_FIXED:, rows, columns] = 0
        targets[_FIXED + number, rows, columns] = 1
        targets[0, rows, columns] = 1
        for channel, (edge, corner) in enumerate(
            ((box[0], left), (box[1], top), (box[0] + box[2], left), (box[1] + box[3], top)), 1
        ):
            targets[channel, rows, columns] = edge - corner
        targets[5, rows, columns], targets[6, rows, columns] = 1 / box[2], 1 / box[3]
        if len(rows):
            targets[7, rows, columns] = max(self.least_norm, area / (covered[2] * covered[3]))

    def _covered(self, box: np.ndarray) -> np.ndarray:
        """The middle part of a box that counts as the object, x, y, width, height."""
        centre = (box[:2] + (box[:2] + box[2:])) * np.float32(0.5)
        sides = box[2:] * self.scale
        if self.smallest:
            sides = np.minimum(box[2:], np.maximum(self.length, sides))
        else:
            sides = np.minimum(self.length, sides)
        low, high = centre - sides * np.float32(0.5), centre + sides * np.float32(0.5)
        return np.concatenate([low, high - low])


def _moved(boxes: np.ndarray, change: _Change, size: tuple[int, int]) -> np.ndarray:
    """Where objects of a picture of (width, height) get, [G, 4] x, y, width, height in float32."""
    boxes = boxes.astype(np.float32)
    if change.flip:
        boxes[:, 0] = size[0] - boxes[:, 0] - boxes[:, 2] - 1
    if change.size != size:
        factors = np.array(change.size, np.float32) / np.array(size, np.float32)
        boxes *= np.tile(factors, 2)
    if abs(change.angle) > _TINY:
        matrix = _rotation(change.size, change.angle).astype(np.float32)
        far = boxes[:, :2] + boxes[:, 2:]
        centres = (boxes[:, :2] + far) * np.float32(0.5)
        boxes[:, :2] = centres @ matrix[:, :2].T + matrix[:, 2] - (far - centres)
    boxes[:, :2] -= np.array(change.corner, np.float32)
    return boxes


def _intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of two rectangles x, y, width, height; all 0 where there is none, as OpenCV's."""
    low = np.maximum(one[:2], other[:2])
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - low
    return np.concatenate([low, sides]) if (sides > 0).all() else np.zeros(4, np.float32)


def _cut(pixels: np.ndarray, size: tuple[int, int], corner: tuple[int, int]) -> np.ndarray:
    """The crop of (width, height) at (x, y); 0 outside of the picture."""
    made = np.zeros((size[1], size[0], 3), np.float32)
    left, top = (max(place, 0) for place in corner)
    part = pixels[top : max(corner[1] + size[1], 0), left : max(corner[0] + size[0], 0)]
    made[top - corner[1] :, left - corner[0] :][: part.shape[0], : part.shape[1]] = part
    return made


def _corners(centre: tuple[float, float], size: tuple[int, int], angle: float) -> np.ndarray:
    """Of a rectangle that is turned by some degrees, float32 [4, 2]."""
    return np.asarray(cv2.boxPoints((centre, size, angle)), np.float32)


def _around(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upright rectangle around: its corner and its size, whole numbers, as RotatedRect::boundingRect."""
    low, high = np.floor(corners.min(0)).astype(np.int64), np.ceil(corners.max(0)).astype(np.int64)
    return low, high - low + 1


def _rotated_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """(width, height) around a picture that is turned; the original turns it about a whole pixel."""
    _, sides = _around(_corners((int(0.5 * size[0]), int(0.5 * size[1])), size, angle))
    return int(sides[0]), int(sides[1])


def _rotation(size: tuple[int, int], angle: float) -> np.ndarray:
    """The map [2, 3] of a picture's pixels to those of the turned one."""
    centre = (size[0] * 0.5, size[1] * 0.5)
    low, _ = _around(_corners(centre, size, angle))
    there = _corners((centre[0] - float(low[0]), centre[1] - float(low[1])), size, angle)
    return np.asarray(cv2.getAffineTransform(_corners(centre, size, 0)[:3].copy(), there[:3].copy()))


def _round(value: float) -> int:
    """C's: a half goes away from 0."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
