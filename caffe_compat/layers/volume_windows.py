"""Windows that slide over length, height and width, and the poolings over them.

Sources: ``pool3d_layer.cpp`` of facebook/C3D, and the part for 3 axes of ``pooling_layer.cpp`` of intel/caffe.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import OnnxGraph, Shape, count
from caffe_compat.layers.looking import may_look
from caffe_compat.layers.windows import FLT_MAX

__all__ = ["Volume", "average_volumes", "max_volumes", "shared_gradient", "write_volumes"]


@dataclass(frozen=True)
class Volume:
    """A window over three axes; numbers of positions are rounded up.

    Attributes:
        pad: of both ends of each axis.
        clipped: whether, with padding, a last window that starts beyond volume and padding is left out.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    clipped: bool

    def sizes(self, volume: Sequence[int]) -> Shape:
        """Number of positions per axis."""
        result = []
        for size, kernel, stride, pad in zip(volume, self.kernel, self.stride, self.pad, strict=True):
            out = -(-(size + 2 * pad - kernel) // stride) + 1
            beyond = self.clipped and any(self.pad) and (out - 1) * stride >= size + pad
            result.append(out - beyond)
        return tuple(result)

    def ends(self, volume: Sequence[int]) -> Shape:
        """What the positions cover past the volume; negative where they leave some of it out."""
        sides = zip(volume, self.sizes(volume), self.kernel, self.stride, self.pad, strict=True)
        return tuple((out - 1) * stride + kernel - pad - size for size, out, kernel, stride, pad in sides)

    def padded(self, x: Tensor, value: float) -> Tensor:
        """``x`` padded or cropped to exactly what the positions cover."""
        pairs = list(zip(self.pad, self.ends(x.shape[2:]), strict=True))
        if not any(any(pair) for pair in pairs):
            return x
        return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=value)

    def areas(self, volume: Sequence[int]) -> np.ndarray:
        """Caffe's divisors of means, float64 [positions of each axis]: padding counts, what is beyond never."""
        lengths = []
        for size, out, kernel, stride, pad in zip(
            volume, self.sizes(volume), self.kernel, self.stride, self.pad, strict=True
        ):
            start = np.arange(out, dtype=np.float64) * stride
            lengths.append(np.minimum(start + kernel, size + 2 * pad) - start)
        product: np.ndarray = functools.reduce(np.multiply.outer, lengths)
        return product


def max_volumes(x: Tensor, window: Volume, mask: bool = False) -> tuple[Tensor, Tensor | None]:
    """The first maximum of each window of Tensor[N, C, L, H, W], and where it is if ``mask`` ((l H + h) W + w; -1 for
    nowhere).  On the CPU NaN and -inf are never selected, as in Caffe."""
    plain = not mask and not any(window.pad) and max(window.ends(x.shape[2:])) <= 0
    if plain:
        top = F.max_pool3d(x, window.kernel, window.stride)
        if not may_look(top) or bool(top.detach().amin() > -FLT_MAX):
            return top, None
    lowest = torch.full((), -FLT_MAX, dtype=x.dtype, device=x.device)
    infinite = torch.full_like(lowest, -torch.inf)
    wide = window.padded(torch.where(x > lowest, x, infinite), -torch.inf)
    top, places = F.max_pool3d(wide, window.kernel, window.stride, return_indices=True)
    empty = top == infinite
    top = torch.where(empty, lowest, top)
    if not mask:
        return top, None
    (_, high, wide_), (depth, row, column) = wide.shape[2:], window.pad
    found = [places.div(high * wide_, rounding_mode="floor") - depth, places.div(wide_, rounding_mode="floor") % high]
    flat = (found[0] * x.shape[3] + found[1] - row) * x.shape[4] + places % wide_ - column
    return top, torch.where(empty, -1, flat).to(x.dtype)


def average_volumes(x: Tensor, window: Volume) -> Tensor:
    """The sum of each window over its area within volume and padding."""
    areas = window.areas(x.shape[2:])
    whole = count(window.kernel)
    if (areas == whole).all():
        return F.avg_pool3d(window.padded(x, 0.0), window.kernel, window.stride)
    sums = F.avg_pool3d(window.padded(x, 0.0), window.kernel, window.stride, divisor_override=1)
    return sums / torch.as_tensor(areas, dtype=x.dtype, device=x.device)


def shared_gradient(x: Tensor, top: Tensor, seed: Tensor, window: Volume) -> Tensor:
    """C3D's gradient of maxima, of windows without padding: all that equal the maximum get the whole of its diff."""
    diff = torch.zeros_like(x)
    for offsets in itertools.product(*map(range, window.kernel)):
        places: list[Any] = [...]
        tops: list[Any] = [...]
        for offset, stride, size, out in zip(offsets, window.stride, x.shape[2:], top.shape[2:], strict=True):
            inside = max(0, min(out, -(-(size - offset) // stride)))
            places.append(slice(offset, offset + inside * stride, stride))
            tops.append(slice(0, inside))
        here, there = tuple(places), tuple(tops)
        diff[here] += seed[there] * (x[here] == top[there])
    return diff


def write_volumes(graph: OnnxGraph, method: str, bottom: str, tops: Sequence[str], window: Volume) -> None:
    """One pooling of a bottom of known size as Pad, MaxPool or AveragePool, and what partial means are multiplied by.

    Args:
        method: MAX or AVE.
    """
    volume = [size for size in graph.shape(bottom)[2:] if size is not None]
    attributes: dict[str, Any] = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    ends = [max(0, end) for end in window.ends(volume)]
    pads = [0, 0, *window.pad, 0, 0, *ends]
    padded = bottom
    if any(pads):
        value = graph.constant(-FLT_MAX if method == "MAX" else 0.0)
        padded = graph.add("Pad", [bottom, graph.constant(pads), value])
    if method == "MAX":
        graph.node("MaxPool", [padded], tops, **attributes)
        return
    areas = window.areas(volume)
    if padded != bottom:
        attributes["auto_pad"] = "VALID"  # ONNX Runtime merges Pad and pooling otherwise, some versions wrongly
    if (areas == count(window.kernel)).all():
        graph.node("AveragePool", [padded], tops, **attributes)
        return
    factors = graph.constant((count(window.kernel) / areas).astype(np.float32)[None, None])
    graph.node("Mul", [graph.add("AveragePool", [padded], **attributes), factors], tops)
