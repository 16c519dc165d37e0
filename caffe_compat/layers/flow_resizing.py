"""FlowNet2's Resample, Downsample and Accum.  Source: lmb-freiburg/flownet2, the layers' ``.cpp`` and ``.cu``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["Accum", "Downsample", "Resample"]


def _rounded(values: np.ndarray) -> np.ndarray:
    """C's round: halves away from zero; float32 as it is."""
    whole = np.trunc(values)
    away = np.where(np.abs(values - whole) >= 0.5, np.copysign(1, values), 0)
    rounded: np.ndarray = (whole + away).astype(np.int64)
    return rounded


@dataclass(frozen=True)
class _Taps:
    """What each pixel of an axis is made of: ``places`` (T x n), their ``weights``, and which of them are ``used``."""

    places: np.ndarray
    weights: np.ndarray
    used: np.ndarray

    @classmethod
    def around(cls, centres: np.ndarray, reach: int, size: int, weights: np.ndarray) -> _Taps:
        """Taps -reach to reach around ``centres``, of which those inside of ``size`` pixels count."""
        places = centres + np.arange(-reach, reach + 1)[:, None]
        used = (places >= 0) & (places < size)
        return cls(places.clip(0, size - 1), np.where(used, weights, 0).astype(np.float32), used)

    def matrix(self, size: int) -> np.ndarray:
        """The same as a matrix n x size."""
        matrix = np.zeros((self.places.shape[1], size), np.float32)
        for place, weight in zip(self.places, self.weights, strict=True):
            np.add.at(matrix, (np.arange(len(place)), place), weight)
        return matrix

    def total(self) -> np.ndarray:
        """The sum of the weights of each pixel."""
        total: np.ndarray = self.weights.sum(0)
        return total

    def sums(self, values: Tensor, axis: int) -> Tensor:
        """Weighted sums along an axis; what is not finite stays within its windows."""
        shape = [1] * values.dim()
        shape[axis] = -1
        made: Tensor | None = None
        for place, weight, used in zip(self.places, self.weights, self.used, strict=True):
            if not used.any():
                continue
            chosen = values.index_select(axis, torch.from_numpy(place).to(values.device))
            part = chosen * torch.from_numpy(weight).to(values).view(shape)
            if not used.all():
                part = torch.where(torch.from_numpy(used).to(values.device).view(shape), part, 0)
            made = part if made is None else made + part
        if made is None:
            sizes = list(values.shape)
            sizes[axis] = self.places.shape[1]
            return values.new_zeros(sizes)
        return made


def _cubic(x: np.ndarray) -> np.ndarray:
    near, x = np.abs(x) <= 1, np.abs(x)
    inner, outer = x * x * (1.5 * x - 2.5) + 1, x * (x * (-0.5 * x + 2.5) - 4) + 2
    return np.where(near, inner, np.where(x < 2, outer, 0))


def _triangle(x: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1 - np.abs(x), 0)
    return weights


class _Resizing(Layer):
    """A map of 4 axes to another height and width, those of a second bottom if there is one."""

    bottom_count = (1, 2)
    no_gradient = (0, 1)
    size: tuple[int, int]

    def size_of(self, bottoms: Sequence[Shape]) -> tuple[int, int]:
        """Height and width of the top."""
        return (bottoms[1][2], bottoms[1][3]) if len(bottoms) > 1 else self.size

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        for bottom in bottoms:
            self.require(len(bottom) == 4, f"expected 4 axes, a bottom has the shape {list(bottom)}")
        shape, made = tuple(bottoms[0]), self.size_of(bottoms)
        self.require(min(made) > 0, f"the top has {made[0]} x {made[1]} pixels, expected positive numbers")
        self.require(min(shape[2:]) > 0, f"the bottom has the shape {list(shape)}, expected some pixels")
        self.require_memory("the top", [(*shape[:2], *made)])
        self.check_sizes((shape[2], shape[3]), made)
        return [(*shape[:2], *made)]

    def check_sizes(self, have: tuple[int, int], made: tuple[int, int]) -> None:
        """Refuse what the fork has no numbers for."""


@register(dialect="flownet")
class Resample(_Resizing):
    """Resizing by windows: NEAREST, LINEAR or CUBIC; no gradient passes.

    ``width`` and ``height``, or those of a second bottom.  With f = size of the bottom / size of the top, in float32,
    pixel x of a row lies at x f_x + f_y / 2 - 1/2 and pixel y of a column at y f_y + f_x / 2 - 1/2: the fork has the
    two halves the wrong way round, which tells where the factors differ.  NEAREST rounds that, halves away from zero.
    LINEAR and CUBIC are means of the pixels around, weighted by a triangle or Catmull and Rom's cubic, divided by the
    weights inside of the map; both are stretched by f on both axes with ``antialias`` if either f is above 1.
    ``factor`` is not read, in the fork neither; AREA is refused there too.
    """

    caffe_type = "Resample"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("resample_param")
        section.ignore("factor")
        self.kind, self.antialias = section.enum("type"), bool(section.antialias)
        if self.kind == "AREA":
            raise self.error("resample_param.type is AREA, expected CUBIC, LINEAR or NEAREST: the fork has no other")
        self.size = (int(section.height), int(section.width))
        if len(bottoms) == 1 and min(self.size) < 1:
            raise self.error(
                f"resample_param has width {self.size[1]} and height {self.size[0]}, expected positive numbers, or a "
                "second bottom"
            )

    def check_sizes(self, have: tuple[int, int], made: tuple[int, int]) -> None:
        """NEAREST may point outside of the map."""
        if self.kind != "NEAREST":
            return
        for taps_of, size in zip(self._places(have, made), have, strict=True):
            rounded = _rounded(taps_of)
            self.require(
                rounded.min() >= 0 and rounded.max() < size,
                f"NEAREST from {have[0]} x {have[1]} to {made[0]} x {made[1]} pixels reads outside of the map in the "
                "fork, expected factors that are more alike",
            )

    @staticmethod
    def _factors(have: tuple[int, int], made: tuple[int, int]) -> tuple[np.float32, np.float32]:
        high, wide = (np.float32(one) / np.float32(other) for one, other in zip(have, made, strict=True))
        return high, wide

    def _places(self, have: tuple[int, int], made: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Where the rows and columns of the top lie."""
        high, wide = self._factors(have, made)
        two, half = np.float32(2), np.float32(0.5)
        rows = np.arange(made[0], dtype=np.float32) * high + wide / two - half
        return rows, np.arange(made[1], dtype=np.float32) * wide + high / two - half

    def _taps(self, have: tuple[int, int], made: tuple[int, int]) -> list[_Taps]:
        """Of rows and of columns."""
        factors, found = self._factors(have, made), []
        stretched = self.antialias and max(factors) > 1
        for at, factor, size in zip(self._places(have, made), factors, have, strict=True):
            centres = _rounded(at)
            if self.kind == "NEAREST":
                found.append(_Taps.around(centres, 0, size, np.ones((1, len(at)))))
                continue
            sharp = np.float32(1) / (factor if stretched else np.float32(1))
            width, weigh = (4, _cubic) if self.kind == "CUBIC" else (2, _triangle)
            reach = 2 if factor < 1 else math.ceil(np.float32(width) / sharp)
            places = centres + np.arange(-reach, reach + 1)[:, None]
            weights = sharp * weigh(sharp * (at - places.astype(np.float32)))
            found.append(_Taps.around(centres, reach, size, weights))
        return found

    @staticmethod
    def _divisors(rows: _Taps, columns: _Taps) -> np.ndarray:
        return np.outer(rows.total(), columns.total()).astype(np.float32)

    @torch.no_grad()
    def forward(self, bottom: Tensor, *like: Tensor) -> Tensor:
        """Along rows, along columns, divided by the weights; 0 where they sum up to 0."""
        shapes = [tuple(value.shape) for value in (bottom, *like)]
        if bottom.is_meta or not bottom.numel():
            return bottom.new_zeros(self.top_shapes(shapes)[0])
        rows, columns = self._taps((shapes[0][2], shapes[0][3]), self.size_of(shapes))
        top = rows.sums(columns.sums(bottom, 3), 2)
        if self.kind == "NEAREST":
            return top
        divisors = torch.from_numpy(self._divisors(rows, columns)).to(top)
        return torch.where(divisors == 0, 0, top / divisors)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Two MatMul and Div; Gather for NEAREST; the batch may be open."""
        shapes = []
        for blob in bottoms:
            shape = graph.shape(blob)
            if shape[2] is None or shape[3] is None:
                shape = graph.static_shape(blob, "the windows of Resample")
            shapes.append(tuple(int(size or 0) for size in shape))
        have = (shapes[0][2], shapes[0][3])
        rows, columns = self._taps(have, self.size_of(shapes))
        if self.kind == "NEAREST":
            wide = graph.add("Gather", [bottoms[0], graph.constant(columns.places[0])], axis=3)
            graph.node("Gather", [wide, graph.constant(rows.places[0])], tops, axis=2)
            return
        divisors = self._divisors(rows, columns)
        scale = np.where(divisors == 0, 0, 1 / np.where(divisors == 0, 1, divisors)).astype(np.float32)
        wide = graph.add("MatMul", [bottoms[0], graph.constant(columns.matrix(have[1]).T.copy())])
        total = graph.add("MatMul", [graph.constant(rows.matrix(have[0])), wide])
        graph.node("Mul", [total, graph.constant(scale)], tops)


@register(dialect="flownet")
class Downsample(_Resizing):
    """Means of the pixels around, weighted by a triangle and without those that are NaN; no gradient passes.

    ``top_height`` and ``top_width``, or those of a second bottom; the corners lie on each other.  A top is NaN where
    the weights of NaN are more than half of the others'.  Of equal sizes a copy.  Tops of one pixel a side, and such
    that are larger than the bottom, are refused: in the fork they are NaN.
    """

    caffe_type = "Downsample"
    onnx_reason = "leaves out numbers that are NaN, for ground truth; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("downsample_param")
        self.size = (int(section.top_height), int(section.top_width))
        if len(bottoms) == 1 and min(self.size) < 1:
            raise self.error(
                f"downsample_param has top_width {self.size[1]} and top_height {self.size[0]}, expected positive "
                "numbers, or a second bottom"
            )

    def check_sizes(self, have: tuple[int, int], made: tuple[int, int]) -> None:
        """From 2 pixels on, and no more than there are."""
        self.require(
            have == made or all(2 <= new <= old for new, old in zip(made, have, strict=True)),
            f"a bottom of {have[0]} x {have[1]} pixels cannot be brought to {made[0]} x {made[1]}, expected at most as "
            "many, and 2 or more",
        )

    @staticmethod
    def _taps(have: int, made: int) -> _Taps:
        scale = np.float32(have - 1) / np.float32(made - 1)
        at = np.arange(made, dtype=np.float32) / np.float32(made - 1) * np.float32(have - 1)
        centres, reach = _rounded(at), math.ceil(scale)
        places = (centres + np.arange(-reach, reach + 1)[:, None]).astype(np.float32)
        return _Taps.around(centres, reach, have, np.maximum(np.float32(0), 1 - np.abs(places - at) / scale))

    @torch.no_grad()
    def forward(self, bottom: Tensor, *like: Tensor) -> Tensor:
        """Values, known and unknown, along both axes."""
        shapes = [tuple(value.shape) for value in (bottom, *like)]
        if bottom.is_meta or not bottom.numel():
            return bottom.new_zeros(self.top_shapes(shapes)[0])
        have, made = (shapes[0][2], shapes[0][3]), self.size_of(shapes)
        if have == made:
            return bottom.clone()
        rows, columns = (self._taps(old, new) for old, new in zip(have, made, strict=True))
        unknown = bottom.isnan()

        def sums(values: Tensor) -> Tensor:
            return rows.sums(columns.sums(values, 3), 2)

        weight, missing = sums((~unknown).to(bottom)), sums(unknown.to(bottom))
        mean = sums(torch.where(unknown, 0, bottom)) / weight
        return torch.where(missing / weight > 0.5, torch.nan, mean)


@register(dialect="flownet")
class Accum(Layer):
    """Bottoms, brought to one height and width, one behind the other along the channels.

    Bilinear, the corner pixels on each other.  The size: that of the last bottom with ``have_reference``, which is no
    part of the top then and gets no gradient; else the next multiples of ``size_divisible_by``, or ``top_height`` and
    ``top_width``, if both are larger than the largest bottom; else the largest height and width.
    """

    caffe_type = "Accum"
    bottom_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("accum_param")
        self.like = bool(section.have_reference)
        self.multiple = int(section.size_divisible_by) if section.has("size_divisible_by") else None
        self.size = (int(section.top_height), int(section.top_width))
        if self.like and len(bottoms) < 2:
            raise self.error("accum_param.have_reference needs two bottoms or more, the last one as the reference")
        if self.multiple == 0:
            raise self.error("accum_param.size_divisible_by is 0, expected a positive number")

    def _made(self, bottoms: Sequence[Sequence[int]]) -> tuple[int, int]:
        if self.like:
            return bottoms[-1][2], bottoms[-1][3]
        largest = max(bottom[2] for bottom in bottoms), max(bottom[3] for bottom in bottoms)
        made = self.size
        if self.multiple is not None:
            made = (-(-largest[0] // self.multiple) * self.multiple, -(-largest[1] // self.multiple) * self.multiple)
        return made if made[0] > largest[0] and made[1] > largest[1] else largest

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x all channels x height x width."""
        for bottom in bottoms:
            self.require(len(bottom) == 4, f"expected 4 axes, a bottom has the shape {list(bottom)}")
        joined = bottoms[:-1] if self.like else bottoms
        numbers = {bottom[0] for bottom in joined}
        self.require(len(numbers) == 1, f"bottoms have {sorted(numbers)} items, expected one number")
        made = self._made(bottoms)
        self.require(
            min(made) > 1 and all(min(bottom[2:]) > 0 for bottom in joined),
            f"the top has {made[0]} x {made[1]} pixels, expected 2 or more a side: in the fork it is NaN",
        )
        shape = (joined[0][0], sum(bottom[1] for bottom in joined), *made)
        self.require_memory("the top", [shape])
        return [shape]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One interpolation each."""
        made = self._made([tuple(bottom.shape) for bottom in bottoms])
        joined = [bottom for bottom in (bottoms[:-1] if self.like else bottoms) if bottom.numel()]
        if not joined:
            return bottoms[0].new_zeros(self.top_shapes([tuple(bottom.shape) for bottom in bottoms])[0])
        resized = [F.interpolate(bottom, made, mode="bilinear", align_corners=True) for bottom in joined]
        return torch.cat(resized, 1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Resize and Concat."""
        joined = bottoms[:-1] if self.like else bottoms
        size = graph.add("Slice", [graph.add("Shape", bottoms[-1:]), graph.constant([2]), graph.constant([4])])
        if not self.like:
            shapes = [graph.static_shape(bottom, "the size of the top") for bottom in bottoms]
            size = graph.constant(list(self._made(shapes)))
        resized = []
        for bottom in joined:
            start = graph.add("Slice", [graph.add("Shape", [bottom]), graph.constant([0]), graph.constant([2])])
            sizes = graph.add("Concat", [start, size], axis=0)
            mode = "align_corners"
            resized.append(
                graph.add("Resize", [bottom, "", "", sizes], mode="linear", coordinate_transformation_mode=mode)
            )
        graph.node("Concat", resized, tops, axis=1)
