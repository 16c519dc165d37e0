"""Receptive fields: the part of the pictures that a unit of a feature depends on, from the layers' own geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from caffe_compat.errors import NetError, nearest
from caffe_compat.layers import Shape
from caffe_compat.layers.reach import Spans
from caffe_compat.net.plan import Node, Plan, walk_nodes

__all__ = ["Field", "Grid", "ReceptiveFields"]


@dataclass(frozen=True)
class Field:
    """What one unit sees.

    Attributes:
        window: rows and columns (first, last) of the whole field; where windows reach into padding it begins before
            the picture, or ends behind it.  Neighbouring units have windows of one size.
        inside: the pixels that the unit does depend on.  Not always the window cut to the picture: rows and columns at
            its end that a stride leaves out are missing too.
    """

    window: Spans
    inside: Spans


@dataclass(frozen=True)
class Grid:
    """Where the fields of a feature lie, if they lie regularly: height first, in pixels.

    Attributes:
        size: of a field.
        jump: from a field to that of the next unit.
        offset: first row and column of the field of unit (0, 0); negative with padding.
    """

    size: tuple[int, int]
    jump: tuple[int, int]
    offset: tuple[int, int]

    def __str__(self) -> str:
        size, jump = (
            f"{pair[0]} x {pair[1]}" if pair[0] != pair[1] else f"{pair[0]}" for pair in (self.size, self.jump)
        )
        return f"fields of {size} pixels, one every {jump}, the first from {self.offset[0]}, {self.offset[1]} on"


class ReceptiveFields:
    """The fields of all units of a feature.

    A feature without height and width, or behind a layer that mixes all pixels, has fields as large as the picture.

    Args:
        plan: of a net, in any phase.
        blob: the feature; of an in-place blob the last value is meant.
        shape: of the pictures, (N, C, H, W).
        source: the blob with the pictures; by default the only input.

    Attributes:
        units: height and width of the feature's map.
        image: height and width of the pictures.

    Raises:
        NetError: no such blob, or the feature does not depend on the pictures.
        ShapeError: the net cannot take pictures of that size.
    """

    def __init__(self, plan: Plan, blob: str, shape: Shape, source: str = "") -> None:
        net = plan.description.name
        for name in filter(None, (blob, source)):
            if name not in plan.names:
                raise NetError(f"net '{net}' has no blob '{name}'{nearest(name, plan.names)}")
        if not source and len(plan.inputs) != 1:
            raise NetError(f"net '{net}' has {len(plan.inputs)} inputs, expected the name of the one with the pictures")
        self._source = plan.names.index(source) if source else plan.inputs[0]
        self._blob = plan.names.index(blob)
        inputs = {number: plan.shapes[number] for number in plan.inputs} | {self._source: shape}
        self._steps: list[tuple[Node, list[Shape], list[Shape]]] = []
        known: dict[int, Shape] = dict(inputs)
        for step in walk_nodes(plan.nodes, inputs):
            self._steps.append(step)
            known.update(zip(step[0].top_ids, step[2], strict=True))
        self.units = _pixels(known[self._blob])
        self.image = _pixels(known[self._source])
        self._name = f"net '{net}': blob '{blob}'"
        if self._traced(_all(self.units)) is None:
            raise NetError(f"{self._name} does not depend on '{plan.names[self._source]}'")

    def field(self, row: int, column: int) -> Field:
        """What a unit sees.

        Raises:
            NetError: a unit that the map does not have.
        """
        if not (0 <= row < self.units[0] and 0 <= column < self.units[1]):
            raise NetError(
                f"{self._name} is a map of {self.units[0]} x {self.units[1]}, it has no unit ({row}, {column})"
            )
        found = self._traced(((row, row), (column, column)))
        nothing: Spans = ((0, -1), (0, -1))
        return found or Field(nothing, nothing)

    @cached_property
    def grid(self) -> Grid | None:
        """Size, jump and offset of the fields; None where they have no regular places, or there is one unit."""
        if min(self.units) < 2:
            return None
        rows = [self.field(row, 0).window[0] for row in range(self.units[0])]
        columns = [self.field(0, column).window[1] for column in range(self.units[1])]
        found = []
        for spans in (rows, columns):
            sizes = {last - first + 1 for first, last in spans}
            jumps = {after[0] - before[0] for before, after in zip(spans, spans[1:], strict=False)}
            if len(sizes) != 1 or len(jumps) != 1:
                return None
            found.append((sizes.pop(), jumps.pop(), spans[0][0]))
        (size, jump, offset) = zip(*found, strict=True)
        return Grid((size[0], size[1]), (jump[0], jump[1]), (offset[0], offset[1]))

    def _traced(self, units: Spans) -> Field | None:
        """From some units of the feature back to the pictures, layer by layer."""
        wanted = {self._blob: Field(units, units)}
        for node, bottoms, tops in reversed(self._steps):
            asked = [(number, wanted.pop(blob)) for number, blob in enumerate(node.top_ids) if blob in wanted]
            if not node.bottom_ids:
                wanted.update((node.top_ids[number], field) for number, field in asked)
                continue
            for number, field in asked:
                for bottom, blob in enumerate(node.bottom_ids):
                    seen = _seen(node, bottom, number, field, (bottoms, tops[number]))
                    if seen is not None:
                        wanted[blob] = _hull(wanted[blob], seen) if blob in wanted else seen
        return wanted.get(self._source)


def _seen(node: Node, bottom: int, top: int, field: Field, shapes: tuple[Sequence[Shape], Shape]) -> Field | None:
    """What of a bottom decides a field of a top; None: nothing."""
    bottoms, top_shape = shapes
    pixels = _pixels(bottoms[bottom])
    everything = _all(pixels)
    found = []
    for spans in (field.window, field.inside):
        reached: Spans | None = None
        if len(bottoms[bottom]) == len(top_shape) == 4:
            reached = node.layer.reach(bottom, top, spans, bottoms)
        found.append(everything if reached is None else reached)
    window, inside = found[0], _cut(found[1], pixels)
    return None if _empty(window) or _empty(inside) else Field(window, inside)


def _pixels(shape: Shape) -> tuple[int, int]:
    """Height and width; a blob that is no map is one unit."""
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def _all(pixels: tuple[int, int]) -> Spans:
    return (0, pixels[0] - 1), (0, pixels[1] - 1)


def _cut(spans: Spans, pixels: tuple[int, int]) -> Spans:
    rows, columns = ((max(first, 0), min(last, n - 1)) for (first, last), n in zip(spans, pixels, strict=True))
    return rows, columns


def _empty(spans: Spans) -> bool:
    return any(last < first for first, last in spans)


def _hull(one: Field, other: Field) -> Field:
    window, inside = (
        tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(first, second, strict=True))
        for first, second in ((one.window, other.window), (one.inside, other.inside))
    )
    return Field((window[0], window[1]), (inside[0], inside[1]))
