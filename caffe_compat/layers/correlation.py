"""How alike the places of two maps are, over displacements: FlowNet's Correlation and DispNet's Correlation1D.

Source: lmb-freiburg/flownet2, ``correlation_layer.cu`` and ``correlation_layer1d.cu`` (the fork has GPU code only).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["Correlation", "Correlation1D"]


class _Comparing(torch.autograd.Function):
    """What the layer makes of both padded maps; its gradients need no graph of hundreds of displacements."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, layer: Correlation, made: Sequence[int]) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.layer = layer
        return layer.compare(first, second, made)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor, Tensor, None, None]:
        first, second = ctx.saved_tensors
        return (*ctx.layer.gradients(first, second, seeds[0]), None, None)


@register(dialect="flownet")
class Correlation(Layer):
    """Of each place of the first map (Tensor[N, C, H, W]) the mean product with places around it in the second.

    Both maps get ``pad`` zeros around.  Windows of ``kernel_size`` (odd) lie ``stride_1`` apart, the first
    ``max_displacement`` from the border; displacements are multiples of ``stride_2`` of at most ``max_displacement`` on
    both axes.  Top: Tensor[N, D, H', W'], D = (2 floor(max_displacement / stride_2) + 1)^2 displacements row by row,
    W' = ceil((W + 2 pad - 2 (max_displacement + (kernel_size - 1) / 2)) / stride_1): the sum over window and channels
    over ``kernel_size``^2 C.  ``correlation_type: SUBTRACT``: absolute differences instead of products; their gradient
    is the fork's and no derivative: it compares a and b at one and the same place, for the gradient of a the displaced
    one, for that of b the one that is not displaced.  ``do_abs`` is read and not used, as in the fork.
    """

    caffe_type = "Correlation"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("correlation_param")
        section.ignore("do_abs")
        for name in ("kernel_size", "max_displacement"):
            if not section.has(name):
                raise self.error(f"correlation_param.{name} is not set")
        self.kernel, self.reach_of = int(section.kernel_size), int(section.max_displacement)
        self.pad, self.stride, self.step = int(section.pad), int(section.stride_1), int(section.stride_2)
        self.subtract = section.enum("correlation_type") == "SUBTRACT"
        if self.kernel % 2 == 0:
            raise self.error(f"correlation_param.kernel_size is {self.kernel}, expected an odd number")
        if min(self.stride, self.step) < 1:
            raise self.error(
                f"correlation_param has stride_1 {self.stride} and stride_2 {self.step}, expected positive numbers"
            )
        self.radius = self.reach_of // self.step
        self.pads, self.borders = (self.pad, self.pad), (self.reach_of, self.reach_of)
        self.lead = 0  #: columns of zeros before the padded map
        self._read_displacements(params)

    def _read_displacements(self, params: Params) -> None:
        """Rows and columns of the displacements."""
        if params.section("correlation_param").has("single_direction"):
            raise self.error("correlation_param.single_direction is for Correlation1D, not for Correlation")
        self.rows = self.columns = self._steps(-self.radius, 2 * self.radius + 1)

    def _steps(self, least: int, many: int) -> range:
        """So many displacements, in pixels."""
        return range(least * self.step, (least + many) * self.step, self.step)

    def backward_reads(self) -> Reads:
        """Nothing: padded copies are kept."""
        return Reads()

    def _sizes(self, bottom: Sequence[int]) -> tuple[int, int]:
        """Height and width of the top."""
        high, wide = (
            -(-(bottom[axis] + 2 * pad - 2 * border - (self.kernel - 1)) // self.stride)
            for axis, pad, border in zip((2, 3), self.pads, self.borders, strict=True)
        )
        return high, wide

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x displacements x height x width."""
        first, second = (tuple(bottom) for bottom in bottoms)
        self.require(
            len(first) == 4 and first == second,
            f"bottoms have the shapes {list(first)} and {list(second)}, expected equal ones of 4 axes",
        )
        made = self._sizes(first)
        self.require(
            min(made) >= 1,
            f"window and displacements do not fit into the bottom of shape {list(first)} with pad {self.pad}",
        )
        shape = (first[0], len(self.rows) * len(self.columns), *made)
        high, wide = (side + 2 * pad for side, pad in zip(first[2:], self.pads, strict=True))
        self.require_memory("two padded maps and the top", [(2, *first[:2], high, wide), shape])
        return [shape]

    def _padded(self, bottom: Tensor) -> Tensor:
        high, wide = self.pads
        return F.pad(bottom, (wide + self.lead, wide, high, high))

    def _region(self, padded: Tensor, made: Sequence[int], row: int = 0, column: int = 0) -> Tensor:
        """What the windows cover, displaced."""
        high, wide = ((size - 1) * self.stride + self.kernel for size in made)
        top, left = self.borders[0] + row, self.lead + self.borders[1] + column
        return padded[:, :, top : top + high, left : left + wide]

    def compare(self, padded: Tensor, second: Tensor, made: Sequence[int]) -> Tensor:
        """The top."""
        first = self._region(padded, made)
        planes = []
        for row, column in itertools.product(self.rows, self.columns):
            other = self._region(second, made, row, column)
            planes.append(((first - other).abs() if self.subtract else first * other).mean(1))
        return self._windows(torch.stack(planes, 1))

    def _windows(self, planes: Tensor) -> Tensor:
        """The means of windows."""
        return planes if self.kernel == self.stride == 1 else F.avg_pool2d(planes, self.kernel, self.stride)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """One displacement after the other."""
        if not a.numel():
            return a.new_zeros(self.top_shapes([tuple(a.shape), tuple(b.shape)])[0])
        top: Tensor = _Comparing.apply(self._padded(a), self._padded(b), self, self._sizes(a.shape))
        return top

    def gradients(self, first: Tensor, second: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both padded maps: products', or the fork's of differences."""
        made = seed.shape[2:]
        spread = seed / (self.kernel**2 * first.shape[1])
        if not self.kernel == self.stride == 1:
            spread = self._spread(spread)
        one, other = torch.zeros_like(first), torch.zeros_like(first)
        if self.subtract:
            signs = torch.where(first >= second, 1.0, -1.0).to(seed)
            first, second = -signs, signs
        for place, (row, column) in enumerate(itertools.product(self.rows, self.columns)):
            parts = spread[:, place, None]
            self._region(one, made).addcmul_(parts, self._region(second, made, row, column))
            self._region(other, made, row, column).addcmul_(parts, self._region(first, made))
        return one, other

    def _spread(self, seed: Tensor) -> Tensor:
        """To all pixels of each window."""
        high, wide = ((size - 1) * self.stride + self.kernel for size in seed.shape[2:])
        spread = seed.new_zeros(*seed.shape[:2], high, wide)
        for row, column in itertools.product(range(self.kernel), repeat=2):
            last = high - self.kernel + row + 1, wide - self.kernel + column + 1
            spread[:, :, row : last[0] : self.stride, column : last[1] : self.stride] += seed
        return spread

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pad; of each row of displacements a Slice, a Gather of its columns, Mul and ReduceSum; AveragePool."""
        sizes = graph.shape(bottoms[0])
        if sizes[2] is None or sizes[3] is None:
            sizes = graph.static_shape(bottoms[0], "the places that are compared")
        made = self._sizes([size or 0 for size in sizes])
        high, wide = ((size - 1) * self.stride + self.kernel for size in made)
        pads = graph.constant([0, 0, self.pads[0], self.pads[1] + self.lead, 0, 0, *self.pads])
        first, second = (graph.add("Pad", [bottom, pads]) for bottom in bottoms)
        axes, top, left = graph.constant([2, 3]), self.borders[0], self.borders[1] + self.lead
        ends = graph.constant([top + high, left + wide])
        first = graph.add("Slice", [first, graph.constant([top, left]), ends, axes])
        first = graph.add("Unsqueeze", [first, graph.constant([3])])
        places = graph.constant(np.add.outer([left + column for column in self.columns], np.arange(wide)))
        rows = []
        for row in self.rows:
            limits = [graph.constant([top + row]), graph.constant([top + row + high]), graph.constant([2])]
            line = graph.add("Gather", [graph.add("Slice", [second, *limits]), places], axis=3)
            apart = graph.add("Abs", [graph.add("Sub", [first, line])]) if self.subtract else ""
            product = apart or graph.add("Mul", [first, line])
            total = graph.add("ReduceSum", [product, graph.constant([1])], keepdims=0)
            mean = graph.add("Div", [total, graph.constant(float(sizes[1] or 1))])
            rows.append(graph.add("Transpose", [mean], perm=[0, 2, 1, 3]))
        if self.kernel == self.stride == 1:
            graph.node("Concat", rows, tops, axis=1)
            return
        planes = graph.add("Concat", rows, axis=1)
        graph.node("AveragePool", [planes], tops, kernel_shape=[self.kernel] * 2, strides=[self.stride] * 2)


@register(dialect="flownet")
class Correlation1D(Correlation):
    """Correlation with displacements along the row alone; only columns are padded and keep ``max_displacement`` free.

    D = 2 floor(max_displacement / stride_2) + 1 displacements; with ``single_direction`` 1 those from 0 to the right;
    with -1 floor(max_displacement / stride_2) + 1 to the left, without 0 and one further than ``max_displacement``.
    There the fork reads what comes before the row in memory: the padding of the row before, which is zeros, as here;
    so ``pad`` must be as large.
    """

    caffe_type = "Correlation1D"

    def _read_displacements(self, params: Params) -> None:
        way = int(params.section("correlation_param").single_direction)
        if way not in (-1, 0, 1):
            raise self.error(f"correlation_param.single_direction is {way}, expected -1, 0 or 1")
        many = self.radius + 1 if way else 2 * self.radius + 1
        least = {-1: -many, 0: -self.radius, 1: 0}[way]
        self.rows, self.columns = range(1), self._steps(least, many)
        self.pads, self.borders = (0, self.pad), (0, self.reach_of)
        self.lead = max(0, -self.columns[0] - self.reach_of)
        if self.lead > self.pad:
            raise self.error(
                f"correlation_param.pad is {self.pad}, expected {self.lead} or more: single_direction -1 reads so far "
                "before the row"
            )
