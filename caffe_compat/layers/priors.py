"""SSD's Permute and PriorBox: predictions in the order of boxes, and the boxes that they are relative to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Share

__all__ = ["Permute", "PriorBox", "PriorBoxClustered"]

_SAME = 1e-6  #: aspect ratios closer than this are one


@register
class Permute(Layer):
    """Axes in another order; those that ``order`` leaves out follow in ascending order (weiliu89/caffe).

    Where that changes nothing, the top is the buffer of the bottom.
    """

    homogeneous = True
    caffe_type = "Permute"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.rank = len(bottoms[0])
        order = [int(axis) for axis in params.section("permute_param").order]
        if len(set(order)) != len(order):
            raise self.error(f"permute_param.order is {order}, expected every axis once at most")
        if max(order, default=0) >= max(self.rank, 1):
            raise self.shape_error(f"permute_param.order is {order}, expected axes 0 to {self.rank - 1} of the bottom")
        self.order = (*order, *(axis for axis in range(self.rank) if axis not in order))

    @property
    def identity(self) -> bool:
        """Whether the order is the one that the bottom has."""
        return self.order == tuple(range(self.rank))

    def shared_memory(self) -> tuple[Share, ...]:
        """Top and bottom, where nothing moves; the backward pass gives the bottom the diff of the top."""
        return (Share(0, 0, "backward"),) if self.identity else ()

    def batch_axis(self, bottom: int) -> int:
        """The first, wherever it goes."""
        return 0

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims in the new order."""
        (bottom,) = bottoms
        self.require(
            len(bottom) == self.rank, f"the bottom has the shape {list(bottom)}, expected {self.rank} axes as at first"
        )
        return [tuple(bottom[axis] for axis in self.order)]

    def forward(self, bottom: Tensor) -> Tensor:
        """A copy in the new order, a view where it is the old one."""
        if self.identity:
            return bottom.view_as(bottom)
        return bottom.permute(self.order).clone(memory_format=torch.contiguous_format)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Transpose, or nothing."""
        if self.identity:
            graph.node("Identity", bottoms, tops)
        else:
            graph.node("Transpose", bottoms, tops, perm=list(self.order))


@dataclass(frozen=True)
class _Image:
    """Sizes that PriorBox's numbers depend on, as (height, width): of the map, of the image, and the step if given."""

    cells: tuple[int, int]
    pixels: tuple[int, int]
    step: tuple[float, float] | None


@register
class PriorBox(Layer):
    """Boxes of several sizes and shapes around each cell of a map, and the variances of their coordinates.

    Bottoms: the map (N x C x H x W) and the image (its size counts, unless ``img_size`` or ``img_h`` and ``img_w`` tell
    it).  Top: 1 x 2 x (H W P 4), corners x1 y1 x2 y2 as parts of the image, then as many variances.  In each cell, for
    each ``min_size``: the square of that side, with a ``max_size`` the square of sqrt(min max), then one of each aspect
    ratio but 1; ``flip`` adds the reciprocals.  Source: weiliu89/caffe, prior_box_layer.cpp.  Sizes are cut to whole
    pixels, as there.  Steps are image / map in float32 unless given.  No gradient.
    """

    caffe_type = "PriorBox"
    bottom_count = (1, 2)
    no_gradient = (0, 1)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("prior_box_param")
        self.sides = self._sides(section)
        self.variances = np.array(section.variance or [0.1], np.float32)
        if len(self.variances) not in (1, 4) or not (self.variances > 0).all():
            raise self.error(
                f"prior_box_param.variance is {list(section.variance)}, expected none, 1 or 4 positive numbers"
            )
        self.clip, self.offset = bool(section.clip), np.float32(section.offset)
        self.image = self._pair(section, "img_size", "img_h", "img_w")
        self.step = self._pair(section, "step", "step_h", "step_w")
        if self.image is None and len(bottoms) < 2:
            raise self.error("has no image, expected a second bottom, or prior_box_param.img_size, or img_h and img_w")
        self._made: dict[_Image, np.ndarray] = {}

    def _sides(self, section: Section) -> np.ndarray:
        """Widths and heights of a cell's boxes, of float32 values [P, 2]."""
        ratios = _ratios([np.float32(ratio) for ratio in section.aspect_ratio], bool(section.flip))
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
            raise self.error(f"prior_box_param.aspect_ratio is {list(section.aspect_ratio)}, expected positive numbers")
        sides: list[tuple[float, float]] = []
        for smallest, largest in self._sizes(section):
            sides.append((smallest, smallest))
            if largest is not None:
                root = math.sqrt(smallest * largest)
                sides.append((root, root))
            roots = [math.sqrt(float(ratio)) for ratio in ratios[1:]]
            sides += [(smallest * root, smallest / root) for root in roots]
        return np.array(sides, np.float32).astype(np.float64)

    def _sizes(self, section: Section) -> list[tuple[int, int | None]]:
        smallest, largest = list(section.min_size), list(section.max_size)
        if not smallest or not all(0 < size < 2**31 for size in smallest):
            raise self.error(f"prior_box_param.min_size is {smallest}, expected one or more positive numbers")
        if largest and len(largest) != len(smallest):
            raise self.error(
                f"prior_box_param has {len(smallest)} min_size and {len(largest)} max_size, expected as many or none"
            )
        for low, high in zip(smallest, largest, strict=False):
            if not low < high < 2**31:
                raise self.error(f"prior_box_param.max_size is {high:g}, expected more than the min_size {low:g}")
        if not largest:
            return [(int(low), None) for low in smallest]
        return [(int(low), int(high)) for low, high in zip(smallest, largest, strict=True)]

    def _pair(self, section: Section, both: str, high: str, wide: str) -> tuple[float, float] | None:
        """Height and width of a size that one field or two tell."""
        one, two = section.optional(both), (section.optional(high), section.optional(wide))
        if two != (None, None):
            if one is not None or None in two:
                raise self.error(f"prior_box_param: expected {both} OR both {high} and {wide}")
        elif one is not None:
            two = (one, one)
        else:
            return None
        if not all(math.isfinite(value) and value > 0 for value in two):
            raise self.error(f"prior_box_param: {both} or {high} and {wide} are {list(two)}, expected positive numbers")
        return two[0], two[1]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 2 x (H W P 4)."""
        legacy_rank(self, bottoms)
        height, width = _plane(bottoms[0])
        self.require(
            height * width > 0, f"the bottom has the shape {list(bottoms[0])}, expected a map of at least one cell"
        )
        self.require(
            self.image is not None or min(_plane(bottoms[-1])) > 0,
            f"the image has the shape {list(bottoms[-1])}, expected a height and a width",
        )
        top = (1, 2, height * width * len(self.sides) * 4)
        self.require_memory("the boxes", [top])
        self.require(count(top) < 2**31, f"has {count(top)} numbers, expected less than 2^31")
        return [top]

    def _sizes_of(self, bottoms: Sequence[Shape]) -> _Image:
        pixels = self.image or _plane(bottoms[-1])
        return _Image(_plane(bottoms[0]), (int(pixels[0]), int(pixels[1])), self.step)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """The same numbers for maps of one size, made once."""
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        if bottoms[0].is_meta:
            return bottoms[0].new_empty(self.top_shapes(shapes)[0])
        return torch.tensor(self._boxes(shapes), dtype=bottoms[0].dtype, device=bottoms[0].device)

    def _boxes(self, shapes: Sequence[Shape]) -> np.ndarray:
        """Boxes and variances, float32 [1, 2, H W P 4]."""
        image = self._sizes_of(shapes)
        if image not in self._made:
            self.top_shapes(shapes)
            boxes = self._corners(image)
            variances = np.resize(self.variances, boxes.size).astype(np.float32)
            self._made = {image: np.stack([boxes.reshape(-1), variances])[None]}
        return self._made[image]

    def _corners(self, image: _Image) -> np.ndarray:
        """Corners [H, W, P, 4], with C++'s types: centres and sides are float32, corners double until they are kept."""
        high, wide = image.pixels
        centres = []
        for axis, cells in enumerate(image.cells):
            step = np.float32(image.step[axis] if image.step else np.float32(image.pixels[axis]) / np.float32(cells))
            middle: np.ndarray = (np.arange(cells, dtype=np.float32) + self.offset) * step
            centres.append(middle.astype(np.float64))
        shape = (*image.cells, len(self.sides))
        y, x = np.broadcast_to(centres[0][:, None, None], shape), np.broadcast_to(centres[1][None, :, None], shape)
        half_w, half_h = self.sides.T / 2
        corners = [(x - half_w) / wide, (y - half_h) / high, (x + half_w) / wide, (y + half_h) / high]
        boxes = np.stack(self._adjusted(corners), -1).astype(np.float32)
        return boxes.clip(0, 1) if self.clip else boxes

    def _adjusted(self, corners: list[np.ndarray]) -> list[np.ndarray]:
        """Four coordinates [H, W, P] out of x1, y1, x2, y2."""
        return corners

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """A constant; the sizes of the map and the image cannot be open, the batch can."""
        planes = []
        for bottom in bottoms:
            plane = [size for size in (*graph.shape(bottom), 1, 1, 1)[2:4] if size is not None]
            if len(plane) < 2 and not (bottom != bottoms[0] and self.image is not None):
                raise self.export_error(f"the height and width of '{bottom}' decide the boxes, expected fixed ones")
            planes.append((1, 1, *plane))
        graph.node("Identity", [graph.constant(self._boxes(planes))], tops)


@register
class PriorBoxClustered(PriorBox):
    """PriorBox whose boxes have the widths and heights that are listed: those of clusters of the training boxes.

    ``prior_box_param`` has as many ``width`` as ``height``, in pixels, not cut to whole ones.  Bottoms, top and the
    other fields as of :class:`PriorBox`.  Source: the operation's specification in OpenVINO, whose Open Model Zoo has
    such nets.
    """

    caffe_type = "PriorBoxClustered"

    def _sides(self, section: Section) -> np.ndarray:
        section.ignore("flip")  # it belongs to aspect ratios
        wide, high = list(section.width), list(section.height)
        if not wide or len(wide) != len(high):
            raise self.error(
                f"prior_box_param has {len(wide)} width and {len(high)} height, expected as many of both, one at least"
            )
        if not all(math.isfinite(size) and size > 0 for size in wide + high):
            raise self.error(f"prior_box_param has width {wide} and height {high}, expected positive numbers")
        return np.stack([np.array(sizes, np.float32) for sizes in (wide, high)], -1).astype(np.float64)


def _plane(shape: Shape) -> tuple[int, int]:
    """Height and width of a blob, 1 where it has no such axis."""
    height, width = (*shape, 1, 1, 1, 1)[2:4]
    return height, width


def _ratios(given: Sequence[np.float32], flip: bool) -> list[np.float32]:
    """1, then each new ratio, with its reciprocal behind it if ``flip``."""
    ratios = [np.float32(1)]
    for ratio in given:
        if not any(abs(float(ratio) - float(known)) < _SAME for known in ratios):
            ratios.append(ratio)
            if flip and ratio:
                ratios.append(np.float32(1 / float(ratio)))
    return ratios
