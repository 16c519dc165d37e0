"""A plan as values and what computes them: aliases resolved, layers that go well together joined.

In a plan a blob may be overwritten; here every result is a value with a number of its own, and a layer that returns its
bottom (Split, Dropout in TEST) is gone.  What a caller wants to see is never joined away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from caffe_compat.layers import Shape
from caffe_compat.layers.roles import Add, Affine, Convolve, Product, Rectify, Role, Same, role
from caffe_compat.net.plan import Node, Plan, layer_shapes

__all__ = ["Graph", "Op", "View", "join", "trace"]


TAME = 1e15
"""Factors below this may go into weights."""


@dataclass(frozen=True)
class View(Role):
    """The first value in the shape of the second: a buffer under another name."""


@dataclass
class Op:
    """One thing to compute.

    Attributes:
        number, node: the layer; of joined ones the first.
        role: what it is; None: the layer's own ``forward``.
        reads, writes: numbers of values.
        known: whether the shapes of the bottoms are known before the net runs.
        chain: numbers of all layers that this computes.
        scale, shift: joined factors and summands of the channels, float64.
        slope: of a joined rectifier.
        added: whether the last value of ``reads`` is added before the rectifier.
        folded: the layers that ``scale`` and ``shift`` come from.
    """

    number: int
    node: Node
    role: Role | None
    reads: list[int]
    writes: list[int]
    known: bool = True
    chain: tuple[int, ...] = ()
    scale: Tensor | None = None
    shift: Tensor | None = None
    slope: float | None = None
    added: bool = False
    folded: tuple[int, ...] = ()

    def take(self, affine: Affine, number: int) -> None:
        """Multiply and add behind what is there, as layer ``number`` does."""
        self.folded = (*self.folded, number)
        if self.scale is None or self.shift is None:
            self.scale, self.shift = affine.scale, affine.shift
        else:
            self.scale, self.shift = self.scale * affine.scale, self.shift * affine.scale + affine.shift


@dataclass
class Graph:
    """What is to be computed, in order.

    Attributes:
        shapes: of the values; of those that depend on other values the largest.
        inputs: values by number of the input blob.
        results: values by number of the blob that is asked for.
        number: how many values there are.
    """

    ops: list[Op] = field(default_factory=list)
    shapes: dict[int, Shape] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    results: dict[int, int] = field(default_factory=dict)
    number: int = 0

    def new(self, shape: Shape) -> int:
        """A value."""
        self.shapes[self.number] = shape
        self.number += 1
        return self.number - 1


def trace(plan: Plan, inputs: Mapping[int, Shape], kept: Collection[int], check: Callable[..., None]) -> Graph:
    """The values of a plan for inputs of these shapes.

    Args:
        inputs: shapes by number of the blob; of what layers without bottoms make too, if they have run.
        kept: blobs that are asked for.
        check: called with each layer and the shapes of its tops.

    Raises:
        ShapeError: a layer cannot take its bottoms.
    """
    return _Trace(plan, check).run(inputs, kept)


class _Trace:
    def __init__(self, plan: Plan, check: Callable[..., None]) -> None:
        self.plan, self.check, self.graph = plan, check, Graph()
        self.where: dict[int, int] = {}  # value by number of the blob
        self.held: dict[int, int] = {}  # value by number of the buffer
        self.loose: set[int] = set()  # values whose shape is known at run time only

    def run(self, inputs: Mapping[int, Shape], kept: Collection[int]) -> Graph:
        for number, node in enumerate(self.plan.nodes):
            if not node.bottom_ids and all(blob in inputs for blob in node.top_ids):
                for blob in node.top_ids:
                    self.graph.inputs[blob] = self._write(blob, inputs[blob])
            else:
                self._add(number, node)
        for blob in kept:
            if blob in self.where:
                self.graph.results[blob] = (
                    self._now(len(self.plan.nodes) - 1, blob) if blob in self.plan.outdated else self.where[blob]
                )
        return self.graph

    def _write(self, blob: int, shape: Shape) -> int:
        value = self.graph.new(shape)
        self.where[blob] = self.held[self.plan.buffers[blob]] = value
        return value

    def _now(self, number: int, blob: int) -> int:
        """What the buffer of a blob holds, in the blob's shape."""
        graph, held, like = self.graph, self.held[self.plan.buffers[blob]], self.where[blob]
        if graph.shapes[held] == graph.shapes[like] and not self.loose.intersection((held, like)):
            return held
        value = graph.new(graph.shapes[like])
        if like in self.loose:
            self.loose.add(value)
        graph.ops.append(Op(number, self.plan.nodes[number], View(), [held, like], [value], like not in self.loose))
        return value

    def _add(self, number: int, node: Node) -> None:
        graph = self.graph
        reads = [self.where[blob] for blob in node.bottom_ids]
        for index in node.outdated:
            reads[index] = self._now(number, node.bottom_ids[index])
        shapes = [graph.shapes[value] for value in reads]
        tops = layer_shapes(node.layer, shapes)
        known = not self.loose.intersection(reads)
        if known:
            self.check(node, tops)
        found = role(node.layer, shapes) if known else None
        if isinstance(found, Same):
            for blob in node.top_ids:
                self.where[blob] = reads[0]
            return
        shared = {share.top for share in node.shares if share.bottom is not None}
        writes = []
        for index, (blob, shape) in enumerate(zip(node.top_ids, tops, strict=True)):
            value = graph.new(shape)
            self.where[blob] = value
            if index not in shared:
                self.held[self.plan.buffers[blob]] = value
            writes.append(value)
        if not known or _sized_at_run_time(node):
            self.loose.update(writes)
        if isinstance(found, Convolve):
            for read, write in zip(reads, writes, strict=True):
                graph.ops.append(Op(number, node, found, [read], [write], chain=(number,)))
            return
        op = Op(number, node, found, reads, writes, known, (number,))
        if isinstance(found, Affine):
            op.take(found, number)
        graph.ops.append(op)


def _sized_at_run_time(node: Node) -> bool:
    """Whether the shapes of the tops need not be those that the shapes of the bottoms tell."""
    layer = node.layer
    return layer.sized_by_values or not node.bottom_ids or not layer.on_meta or layer.instance is not None


def join(graph: Graph) -> None:
    """Join what can be computed at once: factors and summands, rectifiers and sums into what makes their bottom."""
    graph.ops[:] = _Join(graph).run()


class _Join:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.ops = graph, list[Op]()
        self.maker: dict[int, int] = {}  # by value, the place in ``ops``
        self.readers: dict[int, int] = {}
        for value in (*(value for op in graph.ops for value in op.reads), *graph.results.values()):
            self.readers[value] = self.readers.get(value, 0) + 1

    def run(self) -> list[Op]:
        for op in self.graph.ops:
            place = self._place(op)
            if place is None:
                place = len(self.ops)
                self.ops.append(op)
            else:
                before = self.ops[place]
                before.writes, before.chain = op.writes, (*before.chain, op.number)
            for value in op.writes:
                self.maker[value] = place
        return self.ops

    def _place(self, op: Op) -> int | None:
        """Where the earlier op is that now does what ``op`` does, if there is one."""
        if isinstance(op.role, Add):
            return self._adder(op)
        place = self.maker.get(op.reads[0]) if isinstance(op.role, Affine | Rectify) else None
        if place is None or self.readers[op.reads[0]] != 1 or self.ops[place].slope is not None:
            return None
        before = self.ops[place]
        if isinstance(op.role, Rectify) and isinstance(before.role, Convolve | Product | Affine):
            before.slope = op.role.slope
            return place
        if isinstance(op.role, Affine) and not before.added and _takes_factors(before) and _is_tame(op.role):
            before.take(op.role, op.number)
            return place
        return None

    def _adder(self, op: Op) -> int | None:
        """The later of the two that made the bottoms, if it is a convolution that can add the other."""
        places = [self.maker.get(value, -1) for value in op.reads]
        index = int(places[1] > places[0])
        place, before = places[index], self.ops[places[index]] if self.ops else op
        if places[0] == places[1] or not isinstance(before.role, Convolve) or self.readers[op.reads[index]] != 1:
            return None
        if before.slope is not None or before.added:
            return None
        before.reads.append(op.reads[1 - index])
        before.added = True
        return place


def _takes_factors(op: Op) -> bool:
    """Whether factors of the channels (axis 1) of its top can go into its weights."""
    return isinstance(op.role, Convolve | Affine) or (isinstance(op.role, Product) and op.role.axis == 1)


def _is_tame(affine: Affine) -> bool:
    """Whether a sum of products is the same with its factors inside: with infinite ones, inf - inf would come up."""
    return all(bool((values.abs() < TAME).all()) for values in (affine.scale, affine.shift))
