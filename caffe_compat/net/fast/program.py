"""The flat list that runs: what to call, with which values, and which values nobody needs after that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers import Shape
from caffe_compat.layers.roles import Convolve, Plain
from caffe_compat.net.fast.graph import Graph, Op, View, join, trace
from caffe_compat.net.fast.kernels import Kernel, Packs
from caffe_compat.net.plan import Node, Plan
from caffe_compat.net.running import explained, run_layer

__all__ = ["Program", "make_program"]

SAFE = 1e8
"""Numbers up to this are let pass when a value is looked at."""
LIMIT = 1e37
"""Where the proof that no sum is infinite ends; float32 ends at 3.4e38."""


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        run, exact: what is called; ``exact`` once a number was found that ``run`` is not meant for.
        reads, writes, done: numbers of values; ``done`` are not needed after this step.
        several: whether a tuple is returned.
        look: the value is looked at first.
    """

    node: Node
    run: Callable[..., Any]
    exact: Callable[..., Any]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    done: tuple[int, ...] = ()
    several: bool = False
    look: bool = False


@dataclass(frozen=True)
class Program:
    """A net for inputs of certain sizes and certain blobs that are asked for.

    Attributes:
        inputs: (number of the blob, value) of what is there before it runs.
        results: (name, value) of what is returned, in the net's order.
        maps: values that may be in the format ``channels_last``.
        number: of values.
    """

    steps: tuple[Step, ...]
    inputs: tuple[tuple[int, int], ...]
    results: tuple[tuple[str, int], ...]
    maps: frozenset[int]
    number: int

    def __call__(self, inputs: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Run it on these blobs."""
        values: list[Any] = [None] * self.number
        for blob, value in self.inputs:
            values[value] = inputs[blob]
        exact = False
        for step in self.steps:
            given = [values[value] for value in step.reads]
            if step.look and not exact:
                exact = not _is_safe(given[0])
            try:
                found = (step.exact if exact else step.run)(*given)
            except (MemoryError, RuntimeError) as error:
                if (told := explained(step.node, given, error)) is not None:
                    raise told from error
                raise
            if step.several:
                for value, top in zip(step.writes, found, strict=True):
                    values[value] = top
            else:
                values[step.writes[0]] = found
            for value in step.done:
                values[value] = None
        return {
            name: values[value].contiguous() if value in self.maps else values[value] for name, value in self.results
        }


def _is_safe(value: Tensor) -> bool:
    """Whether all numbers are small enough for the proof; NaN is not."""
    if not value.numel():
        return True
    if value.dim() == 4 and not value.is_contiguous():
        value = value.permute(0, 2, 3, 1)  # as maps lie in memory, so that nothing is copied
    low, high = torch.aminmax(value)
    return float(low) >= -SAFE and float(high) <= SAFE


def make_program(
    plan: Plan, keys: Sequence[str], given: Mapping[int, Tensor], kept: Collection[int], packs: Packs | None
) -> Program:
    """A program for blobs of these shapes and types.

    Args:
        keys: names of the blobs in the result.
        given: by number, the blobs that there are before it runs.
        kept: numbers of the blobs to return.
        packs: None: every layer is computed by its own ``forward``.

    Raises:
        ShapeError: a layer cannot take its bottoms.
    """
    graph = trace(plan, {blob: tuple(value.shape) for blob, value in given.items()}, kept, _require_memory)
    if packs is not None:
        join(graph)
    whole = {graph.inputs[blob] for blob, value in given.items() if not value.is_floating_point()}
    return _Lowering(graph, packs, whole).program(keys)


def _require_memory(node: Node, tops: Sequence[Shape]) -> None:
    on_cpu = all(blob.device.type == "cpu" for blob in node.layer.blobs)
    if on_cpu and not (node.description.in_place or node.shares):
        node.layer.require_memory("tops", tops)


class _Lowering:
    def __init__(self, graph: Graph, packs: Packs | None, whole: set[int]) -> None:
        self.graph, self.packs = graph, packs
        self.whole = whole  # values that may be integers
        self.maps: set[int] = set()
        self.fresh: set[int] = set()  # values whose memory nothing else shows
        self.bound: dict[int, float] = {}  # by value, the largest number there can be if all looks were safe
        self.last: dict[int, int] = {}
        kept = set(graph.results.values())
        for place, op in enumerate(graph.ops):
            for value in (*op.reads, *op.writes):
                self.last[value] = place
        self.kept = kept

    def program(self, keys: Sequence[str]) -> Program:
        graph = self.graph
        steps = tuple(self._step(place, op) for place, op in enumerate(graph.ops))
        inputs = tuple(graph.inputs.items())
        results = tuple((keys[blob], graph.results[blob]) for blob in sorted(graph.results))
        return Program(steps, inputs, results, frozenset(self.maps), graph.number)

    def _step(self, place: int, op: Op) -> Step:
        shapes = [self.graph.shapes[value] for value in op.reads]
        done = {value for value in (*op.reads, *op.writes) if self.last[value] == place} - self.kept
        kernel = None
        if self.packs is not None and op.known and self.whole.isdisjoint(op.reads):
            over = op.added and op.reads[1] in done & self.fresh - {op.reads[0]}
            kernel = self.packs.kernel(op, shapes, op.reads[0] in self.maps, over)
        common = (tuple(op.reads), tuple(op.writes), tuple(done))
        if kernel is None:
            self.fresh.difference_update(op.reads)  # a top may be a view of them
        if isinstance(op.role, View):
            return Step(op.node, torch.Tensor.reshape_as, torch.Tensor.reshape_as, *common)
        if kernel is None:
            return Step(op.node, *self._by_layer(op), *common, several=True)
        look, hopeless = self._follow(op, kernel)
        if kernel.maps:
            self.maps.update(op.writes)
        if isinstance(op.role, Convolve) and kernel.maps:
            self.fresh.update(op.writes)
        return Step(op.node, kernel.exact if hopeless else kernel.run, kernel.exact, *common, look=look)

    def _follow(self, op: Op, kernel: Kernel) -> tuple[bool, bool]:
        """Note how large the numbers of the top can be.

        Returns:
            Whether the bottom has to be looked at first, and whether even then only ``exact`` will do.
        """
        first, *others = (self.bound.get(value, torch.inf) for value in op.reads)

        def largest(bottom: float) -> float:
            found = kernel.gain * bottom + kernel.offset + sum(others)
            return found if found < LIMIT and bottom <= kernel.most else torch.inf  # also instead of NaN

        look = kernel.fragile and largest(first) == torch.inf
        hopeless = look and largest(SAFE) == torch.inf
        if look and not hopeless:
            self.bound[op.reads[0]] = first = SAFE
        self.bound[op.writes[0]] = largest(first)
        return look and not hopeless, hopeless

    def _by_layer(self, op: Op) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The layer's own forward; maps are put into the usual format for layers that may need it."""
        mixed = not self.maps.isdisjoint(op.reads)
        if not self.whole.isdisjoint(op.reads):
            self.whole.update(op.writes)
        if isinstance(op.role, Plain):
            largest = max(self.bound.get(value, torch.inf) for value in op.reads)
            self.bound.update(dict.fromkeys(op.writes, op.role.gain * largest))
        if mixed and op.role is not None:
            self.maps.update(op.writes)
        run = partial(_call, op.node.layer) if op.known else partial(_call_checked, op.node, [None])
        if mixed and op.role is None:
            run = partial(_call_contiguous, run)
        return run, run


def _call(layer: Callable[..., Any], *bottoms: Tensor) -> tuple[Tensor, ...]:
    found = layer(*bottoms)
    return found if isinstance(found, tuple) else (found,)


def _call_checked(node: Node, checked: list[tuple[Shape, ...] | None], *bottoms: Tensor) -> tuple[Tensor, ...]:
    return run_layer(checked, 0, node, bottoms)


def _call_contiguous(run: Callable[..., Any], *bottoms: Tensor) -> Any:
    return run(*(bottom.contiguous() for bottom in bottoms))
