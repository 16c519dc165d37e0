"""Windows that slide over height and width, and the poolings over them.

Caffe's windows are not torch's in three ways (BVLC Caffe 1.0, ``pooling_layer.cpp``), see :class:`PoolWindow`:

* without padding, a last window may lie wholly beyond the image (stride > kernel): MAX is -FLT_MAX there, AVE the sum 0
  over a negative or zero area, so -0, 0 or NaN;
* the padding may be larger than half the kernel;
* MAX never selects NaN or -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.looking import may_look
from caffe_compat.layers.params import ConvWindow
from caffe_compat.layers.sliding import patches
from caffe_compat.random import Draw

__all__ = ["FLT_MAX", "Size", "PoolWindow", "average_pool", "max_pool", "stochastic_pool"]

FLT_MAX = float(np.finfo(np.float32).max)
Size = tuple[int, int]


@dataclass(frozen=True)
class PoolWindow:
    """A window that slides over height and width.

    Attributes:
        pad: of both ends of each axis.
        ceil: whether a partial last window counts (Caffe's default) or not.
        tail: padding at the ends of the axes, where it is not that at their starts.
        inside: whether AVE divides by what of a window lies in the image; else padding counts.
        clipped: whether no window starts beyond the image without padding either.
    """

    kernel: Size
    stride: Size
    pad: Size
    ceil: bool = True
    tail: Size | None = None
    inside: bool = False
    clipped: bool = False

    @property
    def after(self) -> Size:
        """Padding at the ends of the axes."""
        return self.pad if self.tail is None else self.tail

    @property
    def any_pad(self) -> bool:
        """Whether there is padding."""
        return any(self.pad) or any(self.after)

    def sizes(self, image: Sequence[int]) -> Size:
        """Number of positions per axis; a padded image keeps no window that starts beyond image and pad."""
        result = []
        for size, kernel, stride, pad, after in zip(image, self.kernel, self.stride, self.pad, self.after, strict=True):
            rest = size + pad + after - kernel
            out = (-(-rest // stride) if self.ceil else rest // stride) + 1
            if (self.any_pad or self.clipped) and (out - 1) * stride >= size + pad:
                out -= 1
            result.append(out)
        return result[0], result[1]

    def reads(self, outs: Size) -> Size:
        """Length of image and padding that so many positions cover."""
        first, second = ((o - 1) * s + k for o, s, k in zip(outs, self.stride, self.kernel, strict=True))
        return first, second

    def beyond(self, image: Sequence[int], outs: Size) -> bool:
        """Whether a last window starts at the end of the image and its padding, or after it."""
        starts = (((o - 1) * s, n + p) for o, s, n, p in zip(outs, self.stride, image, self.pad, strict=True))
        return any(start >= end for start, end in starts)

    def as_torch(self, image: Sequence[int], outs: Size) -> bool:
        """Whether torch's own pooling has the same windows."""
        even = self.pad == self.after and all(2 * p <= k for p, k in zip(self.pad, self.kernel, strict=True))
        return even and not self.beyond(image, outs)

    def ends(self, image: Sequence[int], outs: Size) -> Size:
        """What the positions cover past the image; negative if they leave some of it out."""
        first, second = (r - p - n for r, p, n in zip(self.reads(outs), self.pad, image, strict=True))
        return first, second

    def padded(self, x: Tensor, outs: Size, value: float) -> Tensor:
        """``x`` padded or cropped to exactly what the positions cover."""
        (top, left), (bottom, right) = self.pad, self.ends(x.shape[2:], outs)
        return F.pad(x, (left, right, top, bottom), value=value)

    def ends_of_any(self) -> Size:
        """Padding at the ends of an image of any size with which the whole windows in it are exactly the positions."""
        ends = []
        for kernel, stride, pad in zip(self.kernel, self.stride, self.after, strict=True):
            end = pad + (stride - 1 if self.ceil else 0)
            ends.append(min(end, kernel - 1) if self.any_pad or self.clipped else end)
        return ends[0], ends[1]

    def lengths(self, image: Sequence[int], outs: Size) -> list[np.ndarray]:
        """Length of each window within image and padding (``inside``: within the image), per axis, float64; 0 or less
        beyond them."""
        result = []
        sides = zip(image, outs, self.kernel, self.stride, self.pad, self.after, strict=True)
        for size, out, kernel, stride, pad, after in sides:
            start = np.arange(out, dtype=np.float64) * stride
            first, last = (pad, size + pad) if self.inside else (0, size + pad + after)
            result.append(np.minimum(start + kernel, last) - np.maximum(start, first))
        return result

    def areas(self, image: Sequence[int], outs: Size) -> np.ndarray:
        """Caffe's divisors of AVE, float64 [out_h, out_w]: padding counts unless ``inside``, what is beyond never."""
        rows, columns = self.lengths(image, outs)
        products: np.ndarray = rows[:, None] * columns
        return products


def max_pool(x: Tensor, window: PoolWindow, mask: bool) -> tuple[Tensor, Tensor | None]:
    """The first maximum of each window, and where it is (row * width + column, -1 for nowhere) if ``mask``.

    On the CPU, NaN and -inf are never selected, as in Caffe.  On other devices a NaN reaches the top, since to look for
    one would make every call wait for the device.
    """
    image, outs = tuple(x.shape[2:]), window.sizes(x.shape[2:])
    if window.as_torch(image, outs) and not mask:
        top = F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil)
        if not may_look(top) or bool(top.detach().amin() > -FLT_MAX):
            return top, None
    lowest = torch.full((), -FLT_MAX, dtype=x.dtype, device=x.device)
    infinite = torch.full_like(lowest, -torch.inf)
    wide = window.padded(torch.where(x > lowest, x, infinite), outs, -torch.inf)
    top, places = F.max_pool2d(wide, window.kernel, window.stride, return_indices=True)
    empty = top == infinite
    top = torch.where(empty, lowest, top)
    if not mask:
        return top, None
    rows = places.div(wide.shape[3], rounding_mode="floor") - window.pad[0]
    columns = places.remainder(wide.shape[3]) - window.pad[1]
    return top, torch.where(empty, -1, rows * image[1] + columns).to(x.dtype)


def average_pool(x: Tensor, window: PoolWindow) -> Tensor:
    """The sum of each window over its area within image and padding."""
    image, outs = tuple(x.shape[2:]), window.sizes(x.shape[2:])
    if window.kernel == image and outs == (1, 1) and window.pad == (0, 0):
        return x.mean((2, 3), keepdim=True)
    if window.as_torch(image, outs):
        return F.avg_pool2d(
            x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil, count_include_pad=not window.inside
        )
    sums = F.avg_pool2d(window.padded(x, outs, 0.0), window.kernel, window.stride, divisor_override=1)
    return sums / torch.as_tensor(window.areas(image, outs), dtype=x.dtype, device=x.device)


def stochastic_pool(x: Tensor, window: PoolWindow, draw: Draw | None) -> Tensor:
    """Zeiler and Fergus: pick a value with probability in proportion to it, or weight each value with itself.

    Caffe has this on GPUs only.  TRAIN: the first value (row-major) at which the running sum reaches u times the sum, u
    uniform in [0, 1), from ``draw``.  TEST (no ``draw``): sum of squares over sum, 0 where the sum is not positive.
    """
    outs = window.sizes(x.shape[2:])
    wide = window.padded(x, outs, 0.0)
    if draw is not None:
        found = patches(wide, ConvWindow(window.kernel, window.stride, (0, 0), (1, 1))).flatten(4)
        sums = found.detach().cumsum(4)
        threshold = torch.empty_like(sums[..., -1:]).uniform_(generator=draw.generator(x.device)) * sums[..., -1:]
        return found.gather(4, (sums >= threshold).byte().argmax(4, keepdim=True)).squeeze(4)
    sums = F.avg_pool2d(wide, window.kernel, window.stride, divisor_override=1)
    squares = F.avg_pool2d(wide.square(), window.kernel, window.stride, divisor_override=1)
    positive = sums > 0
    return torch.where(positive, squares / torch.where(positive, sums, 1), 0)
