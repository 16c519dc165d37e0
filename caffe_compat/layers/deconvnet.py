"""DeconvNet's layers: Unpooling in its three methods, EltwiseAccuracy.

Source: HyeonwooNoh/caffe, ``unpooling_layer.cpp``, ``eltwise_accuracy_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.layers.unpooling import MaskUpsample, scatter_places

__all__ = ["EltwiseAccuracy", "MaskUnpooling", "Unpooling"]


def _pair(layer: Layer, section: Section, names: tuple[str, str, str], default: int | None) -> tuple[int, int]:
    """Two sizes: of one field for both, or of one for each."""
    one, both = names[0], names[1:]
    given = [section.has(name) for name in both]
    if any(given) and (section.has(one) or not all(given)):
        raise layer.error(f"unpooling_param: expected {one}, or {both[0]} and {both[1]}")
    if not any(given) and not section.has(one):
        if default is None:
            raise layer.error(f"unpooling_param: expected {one}, or {both[0]} and {both[1]}")
        return default, default
    high, wide = (int(section.value(name)) for name in (both if all(given) else (one, one)))
    return high, wide


def _read(layer: Layer) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, and height and width of the top."""
    section = layer.params.section("unpooling_param")
    section.ignore("engine")
    kernel = _pair(layer, section, ("kernel_size", "kernel_h", "kernel_w"), None)
    stride = _pair(layer, section, ("stride", "stride_h", "stride_w"), 1)
    pad = _pair(layer, section, ("pad", "pad_h", "pad_w"), 0)
    size = _pair(layer, section, ("unpool_size", "unpool_h", "unpool_w"), None)
    if pad != (0, 0):
        raise layer.error(f"unpooling_param.pad is {list(pad)}, expected 0, as in the fork")
    for name, found in (("kernel_size", kernel), ("stride", stride), ("unpool_size", size)):
        if min(found) < 1:
            raise layer.error(f"unpooling_param.{name} is {list(found)}, expected positive numbers")
    return kernel, stride, size


def _by_mask(params: Params) -> bool:
    return len(params.bottoms) == 2 and params.section("unpooling_param").enum("unpool") == "MAX"


@register(when=_by_mask, dialect="deconvnet")
class MaskUnpooling(MaskUpsample):
    """``unpool: MAX`` with a mask, the second top of a Pooling: every value goes to the pixel that its mask names.

    The top has ``unpool_size`` squared pixels, or ``unpool_h`` x ``unpool_w``; the others are 0.  The last value of
    several at one pixel stays, the gradient goes to all of them.
    """

    caffe_type = "Unpooling"

    def read_size(self, params: Params) -> tuple[int, int]:
        """That of the top."""
        params.section("unpooling_param").enum("unpool")
        return _read(self)[2]


@register(when=lambda params: not _by_mask(params), dialect="deconvnet")
class Unpooling(Layer):
    """Every value written to the corner of its window (MAX without a mask), or added to each of its pixels.

    ``TILE`` adds the value itself, ``AVE`` its part: divided by the pixels that the window has in the top, of
    ``unpool_size`` squared pixels or ``unpool_h`` x ``unpool_w``.  A corner outside the top is moved to its last row or
    column, where the last value stays.  The gradient of TILE is divided as that of AVE is, as in the fork: it is not
    the derivative.  The fork's loops on the CPU add to what the top holds; here, as on its GPU, it begins with 0.
    """

    caffe_type = "Unpooling"
    bottom_count = (1, 2)
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.kernel, self.stride, self.size = _read(self)
        self.method = params.section("unpooling_param").enum("unpool")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"expected N x C x H x W, bottom 0 has the shape {list(shape)}")
        self.require_memory("the top", [(*shape[:2], *self.size)])
        return [(*shape[:2], *self.size)]

    def _corners(self, image: Sequence[int]) -> list[np.ndarray]:
        """Rows and columns where windows begin."""
        return [np.arange(n) * stride for n, stride in zip(image, self.stride, strict=True)]

    def _pixels(self, image: Sequence[int]) -> np.ndarray:
        """How many pixels of the top each window has; 1 where it has none."""
        found = [
            np.maximum(np.minimum(corner + kernel, size) - corner, 0)
            for corner, kernel, size in zip(self._corners(image), self.kernel, self.size, strict=True)
        ]
        pixels: np.ndarray = np.maximum(found[0][:, None] * found[1], 1)
        return pixels

    def forward(self, bottom: Tensor, mask: Tensor | None = None) -> Tensor:
        """A scatter, or a transposed convolution with ones."""
        image, (high, wide) = bottom.shape[2:], self.size
        if not bottom.numel():
            return bottom.new_zeros(*bottom.shape[:2], high, wide)
        if self.method == "MAX":
            rows, columns = (
                np.minimum(corner, size - 1) for corner, size in zip(self._corners(image), self.size, strict=True)
            )
            places = torch.from_numpy(rows[:, None] * wide + columns).to(bottom.device).flatten()
            places = places.expand(*bottom.shape[:2], -1)
            return scatter_places(bottom.flatten(2), places, high * wide).view(*bottom.shape[:2], high, wide)
        parts = torch.from_numpy(1 / self._pixels(image)).to(bottom)
        values = bottom * parts if self.method == "AVE" else _Tiled.apply(bottom, parts)
        channels, (rows, columns) = bottom.shape[1], self._inside(image)
        kernel, stride = self._small(self.kernel), self._small(self.stride)
        ones = bottom.new_ones(channels, 1, *kernel)
        spread = F.conv_transpose2d(values[:, :, :rows, :columns], ones, stride=stride, groups=channels)
        below, right = self._missing((rows, columns), kernel)
        return F.pad(spread, (0, right, 0, below))

    def _small(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Sizes of windows or between them, none larger than the top: nothing lies behind it."""
        high, wide = (min(one, size) for one, size in zip(sizes, self.size, strict=True))
        return high, wide

    def _inside(self, image: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the bottom whose windows begin within the top."""
        high, wide = (min(n, -(-size // s)) for n, size, s in zip(image, self.size, self.stride, strict=True))
        return high, wide

    def _missing(self, image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        """Rows and columns that a transposed convolution lacks; negative: has too many."""
        made = ((n - 1) * s + k for n, s, k in zip(image, self._small(self.stride), kernel, strict=True))
        below, right = (size - side for size, side in zip(self.size, made, strict=True))
        return below, right

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ConvTranspose with ones, padded or cut; static channels and sizes."""
        channels, *image = graph.shape(bottoms[0])[1:]
        known = [n for n in image if n is not None]
        if channels is None or len(known) < 2:
            raise self.export_error("expected static channels, height and width")
        kernel = (1, 1) if self.method == "MAX" else self._small(self.kernel)
        rows, columns = self._inside(known)
        if self.method == "MAX" and any(
            corner[-1] >= size for corner, size in zip(self._corners(known), self.size, strict=True)
        ):
            raise self.export_error("windows begin outside the top, where values write over each other")
        x = bottoms[0]
        if self.method == "AVE":
            x = graph.add("Mul", [x, graph.constant((1 / self._pixels(known)).astype(np.float32))])
        ones = graph.constant(np.ones((channels, 1, *kernel), np.float32))
        if [rows, columns] != known:
            x = graph.add("Slice", [x, graph.constant([0, 0]), graph.constant([rows, columns]), graph.constant([2, 3])])
        spread = graph.add("ConvTranspose", [x, ones], strides=list(self._small(self.stride)), group=channels)
        below, right = self._missing((rows, columns), kernel)
        graph.node("Pad", [spread, graph.constant([0, 0, 0, 0, 0, 0, below, right])], tops)


class _Tiled(torch.autograd.Function):
    """The values themselves, with a gradient that is multiplied by ``parts``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: Tensor) -> Tensor:
        ctx.save_for_backward(parts)
        return x.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (parts,) = ctx.saved_tensors
        return seed * parts, None


@register(dialect="deconvnet")
class EltwiseAccuracy(Layer):
    """Part of the pixels whose label is among the ``top_k`` best scores (Tensor[1, 1, 1, 1]).

    Of equal scores the last class counts as the better one.  Pixels with ``ignore_label`` count for nothing; without
    any other pixel the top is 0 (the fork: 0 / 0).  No gradient.
    """

    caffe_type = "EltwiseAccuracy"
    judges_classes = True
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    onnx_reason = "accuracy is for testing; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("eltwise_accuracy_param")
        self.top_k, self.ignored = int(section.top_k), section.optional("ignore_label")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One number."""
        legacy_rank(self, bottoms)
        self.require(len(bottoms[0]) > 1, f"bottom 0 has the shape {list(bottoms[0])}, expected N x C x ...")
        scores, labels = (((*bottom, 1, 1, 1, 1)[:4]) for bottom in bottoms)
        self.require(
            labels == (scores[0], 1, *scores[2:]),
            f"the labels have the shape {list(bottoms[1])}, expected {[scores[0], 1, *scores[2:]]}",
        )
        self.require(
            self.top_k <= scores[1],
            f"eltwise_accuracy_param.top_k is {self.top_k}, expected at most {scores[1]} classes",
        )
        return [(1, 1, 1, 1)]

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Labels."""
        return random.integers(0, max((*shapes[0], 1, 1)[1], 1), shapes[1]) if bottom == 1 else None

    @torch.no_grad()
    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Scores that are better, counted."""
        rows = scores.reshape(*scores.shape[:2], count(scores.shape, 2))
        classes = torch.arange(rows.shape[1], device=rows.device)[:, None]
        wanted = label.reshape(len(rows), 1, rows.shape[2]).to(torch.int64)
        known = (wanted >= 0) & (wanted < rows.shape[1])
        own = rows.gather(1, wanted.clamp(0, max(rows.shape[1] - 1, 0)))
        better = ((rows > own) | ((rows == own) & (classes > wanted))).sum(1, keepdim=True)
        counted = torch.ones_like(known) if self.ignored is None else wanted != self.ignored
        right = (better < self.top_k) & known & counted
        return (right.sum().to(scores) / counted.sum().clamp(min=1).to(scores)).reshape(1, 1, 1, 1)
