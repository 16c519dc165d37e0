"""Layers that move numbers without changing them: Flatten, Reshape, Concat, Slice, Split, Silence.

Flatten, Reshape, Split and Concat of one bottom share memory with their bottom, as in Caffe.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Share

__all__ = ["Concat", "Flatten", "Reshape", "ReshapeInPlace", "Silence", "Slice", "Split"]

INT64_MAX = 2**63 - 1


@register
class Flatten(Layer):
    """Merges axes ``axis`` to ``end_axis`` (inclusive) into one."""

    homogeneous = True
    caffe_type = "Flatten"
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("flatten_param")
        self._span(len(bottoms[0]))

    def _span(self, rank: int) -> tuple[int, int]:
        start, end = self.section.axis("axis", rank), self.section.axis("end_axis", rank) + 1
        self.require(start <= end, f"flatten_param.axis {start} is behind end_axis {end - 1}")
        return start, end

    def shared_memory(self) -> tuple[Share, ...]:
        """Top and bottom; the backward pass gives the bottom the diff of the top."""
        return (Share(0, 0, "backward"),)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims before ``axis``, the product, the dims behind ``end_axis``."""
        shape = tuple(bottoms[0])
        start, end = self._span(len(shape))
        return [(*shape[:start], count(shape, start, end), *shape[end:])]

    def forward(self, bottom: Tensor) -> Tensor:
        """A view."""
        return bottom.reshape(self.top_shapes([bottom.shape])[0])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Flatten where it is ONNX's, else Reshape."""
        rank = len(graph.shape(bottoms[0]))
        start, end = self._span(rank)
        if (start, end) == (1, rank):
            graph.node("Flatten", bottoms, tops, axis=1)
        else:
            _reshape(graph, bottoms[0], tops, [*range(start), -1, *range(end, rank)])


@register
class Reshape(Layer):
    """Replaces ``num_axes`` axes from ``axis`` on by ``shape``, where 0 copies a dim and -1 takes what is left."""

    homogeneous = True
    caffe_type = "Reshape"
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        reshape = params.section("reshape_param")
        reshape.ignore("pixelshuffler")  # 1 here; PixelShuffler is of another meaning
        self.dims = [int(dim) for dim in reshape.shape.dim]
        self.first, self.num_axes = int(reshape.value("axis")), int(reshape.num_axes)
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            raise self.error(f"reshape_param.shape is {self.dims}, expected dims of at least -1 and at most one -1")
        if self.num_axes < -1:
            raise self.error(f"reshape_param.num_axes is {self.num_axes}, expected -1 or more")

    def _span(self, rank: int) -> tuple[int, int]:
        start = self.first if self.first >= 0 else rank + self.first + 1
        self.require(
            0 <= start <= rank,
            f"reshape_param.axis is {self.first}, expected {-rank - 1} to {rank} for a blob of {rank} axes",
        )
        end = rank if self.num_axes == -1 else start + self.num_axes
        self.require(
            end <= rank, f"reshape_param.axis + num_axes is {end}, expected at most the {rank} axes of the bottom"
        )
        return start, end

    def shared_memory(self) -> tuple[Share, ...]:
        """Top and bottom, data and diff."""
        return (Share(0, 0, "setup"),)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The dims before, the replaced ones, the dims behind; the count stays."""
        shape = tuple(bottoms[0])
        start, end = self._span(len(shape))
        new = list(self.dims)
        for index, dim in enumerate(new):
            if dim == 0:
                self.require(
                    start + index < len(shape),
                    f"reshape_param.shape copies dim {start + index} (entry 0), the bottom has {len(shape)} axes",
                )
                new[index] = shape[start + index]
        top = [*shape[:start], *new, *shape[end:]]
        if -1 in new:
            explicit = -count(top)
            self.require(
                explicit > 0 and count(shape) % explicit == 0,
                f"the count of the bottom {list(shape)} is not divisible by the product {explicit} of the given dims",
            )
            top[start + new.index(-1)] = count(shape) // explicit
        self.require(
            count(top) == count(shape),
            f"the output count {count(top)} of shape {top} must match the input count {count(shape)} of {list(shape)}",
        )
        return [tuple(top)]

    def forward(self, bottom: Tensor) -> Tensor:
        """A view."""
        return bottom.reshape(self.top_shapes([bottom.shape])[0])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape; copied dims may be dynamic."""
        rank = len(graph.shape(bottoms[0]))
        start, end = self._span(rank)
        middle: list[int | list[int]] = []
        for index, dim in enumerate(self.dims):
            middle.append(start + index if dim == 0 else -1 if dim == -1 else [dim])
        _reshape(graph, bottoms[0], tops, [*range(start), *middle, *range(end, rank)])


def _was_allowed(params: Params) -> bool:
    return params.in_place and params.description.dialect.name == "locnet"


@register(when=_was_allowed, dialect="locnet")
class ReshapeInPlace(Reshape):
    """The same, and its top may be its bottom, as in Caffe until the autumn of 2015 and in gidariss/caffe_LocNet."""

    in_place = True
    caffe_type = "Reshape"

    def shared_memory(self) -> tuple[Share, ...]:
        """Top and bottom; in place they are one anyway."""
        return () if self.params.in_place else super().shared_memory()


def _reshape(graph: OnnxGraph, bottom: str, tops: Sequence[str], target: Sequence[int | list[int]]) -> None:
    """A Reshape node.  Target entries: ``i`` is dim i of the bottom, ``-1`` what is left, ``[n]`` the number n."""
    shape = graph.shape(bottom)
    moved = [i for k, i in enumerate(target) if isinstance(i, int) and i not in (-1, k) and shape[i] is None]
    if not moved:
        numbers = []
        for k, entry in enumerate(target):
            if isinstance(entry, list):
                numbers.append(entry[0])
            else:
                numbers.append(0 if entry == k else -1 if entry == -1 else _known(shape[entry]))
        graph.node("Reshape", [bottom, graph.constant(numbers)], tops)
        return
    if len(moved) == 1 and -1 not in target:  # the one dim that is only known at run time is what is left
        _reshape(graph, bottom, tops, [-1 if entry == moved[0] else entry for entry in target])
        return
    sizes = graph.add("Shape", [bottom])
    parts = []
    for entry in target:
        if isinstance(entry, list) or entry == -1:
            parts.append(graph.constant(entry if isinstance(entry, list) else [-1]))
        else:
            parts.append(graph.add("Gather", [sizes, graph.constant([entry])], axis=0))
    graph.node("Reshape", [bottom, graph.add("Concat", parts, axis=0)], tops)


def _known(dim: int | None) -> int:
    return -1 if dim is None else dim


class _Along(Layer):
    """Common to Concat and Slice: ``axis``, or its deprecated unsigned name."""

    def __init__(self, params: Params, bottoms: Sequence[Shape], field: str, old: str) -> None:
        super().__init__(params, bottoms)
        self.section: Section = params.section(field)
        if self.section.has("axis") and self.section.has(old):
            raise self.error(f"{field} has both axis and {old}, expected one of them")
        self.old = old if self.section.has(old) else None
        self.section.ignore("axis", old)

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels, unless maps are put side by side or cut."""
        return spans if self.axis(len(bottoms[0])) < 2 else None

    def axis(self, rank: int) -> int:
        """The axis for a bottom of that many axes."""
        if self.old is None:
            return self.section.axis("axis", rank)
        axis = int(self.section.value(self.old))
        self.require(axis < rank, f"{self.section.field}.{self.old} is {axis}, expected 0 to {rank - 1}")
        return axis


@register
class Concat(_Along):
    """Bottoms one behind the other along an axis; the top of a single bottom shares its memory."""

    homogeneous = True
    caffe_type = "Concat"
    precision = "any"
    bottom_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, "concat_param", "concat_dim")
        self.section.ignore("per_fla_fuse")  # FlatConcat is of another meaning

    def shared_memory(self) -> tuple[Share, ...]:
        """The top of a single bottom is that bottom, data and diff."""
        return (Share(0, 0, "setup"),) if len(self.params.bottoms) == 1 else ()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottoms, their sizes along the axis added up."""
        first = tuple(bottoms[0])
        axis = self.axis(len(first))
        for number, shape in enumerate(bottoms):
            self.require(
                len(shape) == len(first) and (*shape[:axis], *shape[axis + 1 :]) == (*first[:axis], *first[axis + 1 :]),
                f"bottom {number} has shape {list(shape)}, expected that of bottom 0, {list(first)}, "
                f"except along axis {axis}",
            )
        return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """torch.cat."""
        if len(bottoms) == 1:
            return bottoms[0].view_as(bottoms[0])
        return torch.cat(bottoms, self.axis(bottoms[0].dim()))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Concat."""
        if len(bottoms) == 1:
            graph.node("Identity", bottoms, tops)
        else:
            graph.node("Concat", bottoms, tops, axis=self.axis(len(graph.shape(bottoms[0]))))


@register
class Slice(_Along):
    """Parts of the bottom along an axis: cut at ``slice_point``, or equal ones.  Of one top: shares memory.

    A last point equal to the size of the axis is accepted and makes an empty last top.
    """

    caffe_type = "Slice"
    precision = "any"
    top_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, "slice_param", "slice_dim")
        self.points = [int(point) for point in self.section.slice_point]
        self.tops = len(params.tops)
        if self.points and len(self.points) != self.tops - 1:
            raise self.error(
                f"slice_param.slice_point has {len(self.points)} entries, expected {self.tops - 1}, one less than tops"
            )
        if any(low >= high for low, high in zip([0, *self.points], self.points, strict=False)):
            raise self.error(f"slice_param.slice_point is {self.points}, expected growing positive numbers")

    def shared_memory(self) -> tuple[Share, ...]:
        """A single top is the bottom, data and diff."""
        return (Share(0, 0, "setup"),) if self.tops == 1 else ()

    def _sizes(self, shape: Sequence[int]) -> list[int]:
        axis = self.axis(len(shape))
        dim = shape[axis]
        self.require(self.tops <= dim, f"cannot make {self.tops} tops from {dim} entries along axis {axis}")
        if not self.points:
            self.require(
                dim % self.tops == 0, f"cannot cut {dim} entries along axis {axis} into {self.tops} equal tops"
            )
            return [dim // self.tops] * self.tops
        self.require(
            self.points[-1] <= dim,
            f"slice_param.slice_point is {self.points}, expected at most {dim} along axis {axis}",
        )
        edges = [0, *self.points, dim]
        return [high - low for low, high in zip(edges, edges[1:], strict=False)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom with the size of each part along the axis."""
        shape = tuple(bottoms[0])
        axis = self.axis(len(shape))
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in self._sizes(shape)]

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        """Views."""
        if self.tops == 1:
            return (bottom.view_as(bottom),)
        return torch.split(bottom, self._sizes(bottom.shape), self.axis(bottom.dim()))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Split; one Slice a top where the size of the axis is only known at run time and points cut it."""
        shape = graph.shape(bottoms[0])
        axis = self.axis(len(shape))
        dim = shape[axis]
        if self.tops == 1:
            graph.node("Identity", bottoms, tops)
        elif dim is not None:
            sizes = self._sizes([1] * axis + [dim] + [1] * (len(shape) - axis - 1))
            graph.node("Split", [bottoms[0], graph.constant(sizes)], tops, axis=axis)
        elif not self.points:
            graph.node("Split", bottoms, tops, axis=axis, num_outputs=self.tops if graph.opset >= 18 else None)
        else:
            edges = [0, *self.points, INT64_MAX]
            for top, low, high in zip(tops, edges, edges[1:], strict=False):
                cut = [graph.constant([number]) for number in (low, high, axis)]
                graph.node("Slice", [bottoms[0], *cut], [top])


@register
class Split(Layer):
    """The bottom as several tops that share its memory; gradients add up."""

    homogeneous = True
    caffe_type = "Split"
    precision = "any"
    pointwise = True
    top_count = (1, UNLIMITED)

    def shared_memory(self) -> tuple[Share, ...]:
        """All tops are the bottom; each has a diff of its own."""
        return tuple(Share(top, 0) for top in range(len(self.params.tops)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom for each top."""
        return [tuple(bottoms[0])] * len(self.params.tops)

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        """Views."""
        return tuple(bottom.view_as(bottom) for _ in self.params.tops)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Identities."""
        for top in tops:
            graph.node("Identity", bottoms, [top])


@register
class Silence(Layer):
    """Takes bottoms that nobody wants; their gradient is zero."""

    caffe_type = "Silence"
    precision = "any"
    bottom_count = (1, UNLIMITED)
    top_count = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """No top."""
        return []

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Nothing."""
