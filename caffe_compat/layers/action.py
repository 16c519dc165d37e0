"""What action recognition by segments has of layers: Gather and Scatter of several processes, BatchReduction.

Source: yjxiong/caffe, branch action_recog, ``gather_layer.cpp``, ``scatter_layer.cpp``, ``batch_reduction_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Share

__all__ = ["BatchReduction", "Gather", "Scatter"]


@register(dialect="yjxiong/caffe")
class Gather(Layer):
    """Its bottoms, in the same buffers: what the fork does outside MPI.

    Between its processes the fork puts their batches together here, for layers that work on all of them; processes
    here train whole nets and add up gradients, so that a batch stays with its process.
    """

    caffe_type = "Gather"
    bottom_count = (1, UNLIMITED)
    top_count = (1, UNLIMITED)
    equal_counts = True
    homogeneous = True
    pointwise = True
    precision = "any"

    def shared_memory(self) -> tuple[Share, ...]:
        """Each top is its bottom, data and diff."""
        return tuple(Share(index, index, "setup") for index in range(len(self.params.bottoms)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Those of the bottoms."""
        return [tuple(bottom) for bottom in bottoms]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Views."""
        return tuple(bottom.view_as(bottom) for bottom in bottoms)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Identities."""
        for bottom, top in zip(bottoms, tops, strict=True):
            graph.node("Identity", [bottom], [top])


@register(dialect="yjxiong/caffe")
class Scatter(Gather):
    """Its bottoms, in the same buffers; the counterpart of :class:`Gather`."""

    caffe_type = "Scatter"


@register(dialect="yjxiong/caffe")
class BatchReduction(Layer):
    """Sum, mean, or mean of the ``k`` largest, along an axis or along the parts of a pyramid in it.

    ``level`` 1 (the default) takes the whole axis, which goes.  Other levels l are parts of l^2 numbers, one behind the
    other, which fill the axis; it becomes one of as many numbers as there are levels.  With ``pos`` two axes of equal
    sizes, ``axis`` and the next, are reduced to their diagonal first (one level).  TOPK is for one level; which of
    equal numbers get its gradient is open in the fork, here the first that are found.  ``coeff`` is not read, as there;
    ASUM and SUMSQ are refused, as there.
    """

    caffe_type = "BatchReduction"
    homogeneous = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("batch_reduction_param")
        inner = section.reduction_param
        self.operation = inner.ReductionOp.Name(inner.operation)
        self.given_axis, self.k = int(inner.axis), int(inner.k)
        self.levels = [int(level) for level in section.level] or [1]
        self.pos = bool(section.pos)
        if self.operation not in ("SUM", "MEAN", "TOPK"):
            raise self.error(
                f"reduction_param.operation is {self.operation}, expected SUM, MEAN or TOPK, as in the fork"
            )
        if min(self.levels) < 1:
            raise self.error(f"batch_reduction_param.level is {self.levels}, expected positive numbers")
        if len(self.levels) > 1 and (self.pos or self.operation == "TOPK"):
            raise self.error(f"batch_reduction_param has {len(self.levels)} levels, expected one with pos or TOPK")

    def _axis(self, rank: int) -> int:
        return self.params.section("batch_reduction_param").canonical_axis(
            self.given_axis, rank, "reduction_param.axis"
        )

    def _parts(self, size: int) -> list[int]:
        """How many numbers each level takes of an axis."""
        return [size] if self.levels == [1] else [level * level for level in self.levels]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Without the axis, or with one number for each level."""
        shape = tuple(bottoms[0])
        axis = self._axis(len(shape))
        size, rest = shape[axis], shape[axis + 1 :]
        if self.pos:
            self.require(
                len(shape) > axis + 1 and shape[axis + 1] == size,
                f"the bottom has the shape {list(shape)}, expected with pos axes {axis} and {axis + 1} of one size",
            )
            rest = rest[1:]
        parts = self._parts(size)
        self.require(
            sum(parts) == size,
            f"axis {axis} of the bottom {list(shape)} has {size} numbers, levels {self.levels} take {sum(parts)}",
        )
        self.require(
            self.operation != "TOPK" or 1 <= self.k <= size,
            f"reduction_param.k is {self.k}, expected 1 to {size}, the numbers along axis {axis}",
        )
        return [(*shape[:axis], *([] if self.levels == [1] else [len(parts)]), *rest)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Part by part."""
        axis = self._axis(bottom.dim())
        if self.pos:
            bottom = torch.diagonal(bottom, 0, axis, axis + 1).movedim(-1, axis)
        size = bottom.shape[axis]
        if self.operation == "TOPK":
            found = bottom.topk(self.k, axis)[0].sum(axis) / self.k
            return found if self.levels == [1] else found.unsqueeze(axis)
        made = [part.sum(axis) for part in bottom.split(self._parts(size), axis)]
        if self.operation == "MEAN":
            made = [one / max(count, 1) for one, count in zip(made, self._parts(size), strict=True)]
        return made[0] if self.levels == [1] else torch.stack(made, axis)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ReduceSum of slices, or of what TopK finds; a static size of the axis."""
        shape = graph.shape(bottoms[0])
        axis = self._axis(len(shape))
        size, x = shape[axis], bottoms[0]
        if size is None:
            raise self.export_error("expected a static size of the axis")
        if self.pos:
            diagonal = torch.eye(size).reshape(size, size, *[1] * (len(shape) - axis - 2)).numpy()
            x = graph.add("Mul", [x, graph.constant(diagonal)])
            x = graph.add("ReduceSum", [x, graph.constant([axis + 1])], keepdims=0)
        made, start, parts = [], 0, self._parts(size)
        if self.operation == "TOPK":
            values, found = f"{tops[0]}/values", f"{tops[0]}/indices"
            graph.node("TopK", [x, graph.constant([self.k])], [values, found], axis=axis)
            x, parts = values, [self.k]
        for count in parts:
            begin, end = graph.constant([start]), graph.constant([start + count])
            part = graph.add("Slice", [x, begin, end, graph.constant([axis])])
            total = graph.add("ReduceSum", [part, graph.constant([axis])], keepdims=int(self.levels != [1]))
            mean = self.operation != "SUM" and count > 1
            made.append(graph.add("Div", [total, graph.constant(float(count))]) if mean else total)
            start += count
        graph.node("Concat" if len(made) > 1 else "Identity", made, tops, axis=axis if len(made) > 1 else None)
