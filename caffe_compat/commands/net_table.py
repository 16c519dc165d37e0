"""A table of the layers of a net: shapes, parameters, multiply-adds, memory.

The plain listing needs no torch; shapes come from the layers themselves, built without memory (on torch's meta
device), so a net of any size is described at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from caffe_compat.description import INPUT, NetDescription, State, describe_net
from caffe_compat.description.table import aligned, sizes
from caffe_compat.errors import MissingFileError, UsageError, nearest
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.read import read_net_text

if TYPE_CHECKING:
    from caffe_compat.net import Node
    from caffe_compat.net.net import Net

__all__ = ["LayerRow", "NetTable", "describe"]

Shape = tuple[int, ...]
FORMATS = ("text", "markdown", "json")


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        top_shapes: one per top; None in a plain listing.
        parameters: elements of its blobs; those of another layer that it shares are not counted again.
        multiply_adds: of one forward pass, of layers that multiply by weights or window; 0 for others.
        memory: bytes of its tops (float32); 0 for what is computed in place, and for views.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    top_shapes: tuple[Shape, ...] | None = None
    parameters: int = 0
    multiply_adds: int = 0
    memory: int = 0
    weight_shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class NetTable:
    """A described net.

    Attributes:
        phase: of the state it was described in.
        plain: whether shapes and all that follows from them were left out.
        caffe_memory: bytes in the line "Memory required for data" of Caffe's log: every top counts, also of splits.
    """

    name: str
    phase: str
    plain: bool
    layers: list[LayerRow] = field(default_factory=list)
    caffe_memory: int = 0

    def total(self, what: str) -> int:
        """Sum of a column: ``parameters``, ``multiply_adds`` or ``memory``."""
        return sum(getattr(row, what) for row in self.layers)

    def render(self, form: str) -> str:
        """As ``text``, ``markdown`` or ``json``.

        Raises:
            UsageError: another format.
        """
        if form not in FORMATS:
            raise UsageError(f"format is '{form}', expected one of {', '.join(FORMATS)}")
        if form == "json":
            return json.dumps(self._tree(), indent=2)
        head, rows = self._cells()
        return (
            _markdown(head, rows) if form == "markdown" else aligned(head, rows, range(5, len(head))) + self._footer()
        )

    def _tree(self) -> dict[str, Any]:
        layers = [asdict(row) for row in self.layers]
        if self.plain:
            layers = [{key: row[key] for key in ("name", "type", "bottoms", "tops")} for row in layers]
            return {"name": self.name, "phase": self.phase, "layers": layers}
        totals = {what: self.total(what) for what in ("parameters", "multiply_adds", "memory")}
        totals["caffe_memory_required_for_data"] = self.caffe_memory
        return {"name": self.name, "phase": self.phase, "layers": layers, "totals": totals}

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        head = ["layer", "type", "bottoms", "tops"]
        rows = [[row.name, row.type, ", ".join(row.bottoms), ", ".join(row.tops)] for row in self.layers]
        if self.plain:
            return head, rows
        head += ["top shape", "parameters", "multiply-adds", "memory"]
        for cells, row in zip(rows, self.layers, strict=True):
            cells += [
                sizes(row.top_shapes or (), once=True),
                *(_grouped(n) for n in (row.parameters, row.multiply_adds)),
                _bytes(row.memory),
            ]
        totals = (self.total("parameters"), self.total("multiply_adds"))
        rows.append(["total", "", "", "", "", *(f"{n:,}" for n in totals), _bytes(self.total("memory")) or "0"])
        return head, rows

    def _footer(self) -> str:
        if self.plain:
            return ""
        weights = _bytes(4 * self.total("parameters")) or "0"
        return (
            f"\n{self.name or 'net'} ({self.phase}): {len(self.layers)} layers, weights {weights} as float32; Caffe's "
            f"'Memory required for data': {self.caffe_memory}\n"
        )


def describe(
    model: str,
    phase: str = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
    shapes: Mapping[str, Shape] | None = None,
    plain: bool = False,
    dialect: str = "",
) -> NetTable:
    """Describe a net file of any format that Caffe ever had.

    Args:
        shapes: of blobs that inputs or data layers make.  A data layer all of whose tops are given is not opened.
        plain: names, types and blobs only; also for nets whose data are elsewhere.
        dialect: as of :func:`caffe_compat.net.load_net`.

    Raises:
        CaffeCompatError: the net cannot be read, or its shapes do not fit.
    """
    message, lines = read_net_text(model)
    state = State(phase, level, tuple(stages))
    if not plain:
        _give_shapes(model, message, dict(shapes or {}))
    description = describe_net(message, state, source=model, lines=lines, dialect=dialect)
    if plain:
        kept = [layer for layer in description.layers if not layer.is_split]
        rows = [LayerRow(layer.name, layer.type, tuple(layer.message.bottom), layer.tops) for layer in kept]
        return NetTable(description.name, phase, True, rows)
    try:
        return _measured(description)
    except MissingFileError as error:
        raise UsageError(
            f"{error}; to describe the net without its data give --shape for what its data layers make, or --plain"
        ) from error


def _give_shapes(model: str, message: Any, shapes: dict[str, Shape]) -> None:
    """Turn layers without bottoms into Input layers where the shapes of all their tops are given."""
    makers = [layer for layer in message.layer if not layer.bottom]
    known = [top for layer in makers for top in layer.top]
    for name in shapes:
        if name not in known:
            raise UsageError(f"--shape {name}: no input or data layer of {model} makes that blob{nearest(name, known)}")
    for layer in makers:
        missing = [top for top in layer.top if top not in shapes]
        if len(missing) == len(layer.top):
            continue
        if missing:
            raise UsageError(f"layer '{layer.name}' ({layer.type}): give --shape for {', '.join(missing)} too")
        given = caffe_pb2.LayerParameter(name=layer.name, type=INPUT, top=layer.top)
        given.include.extend(layer.include)
        given.exclude.extend(layer.exclude)
        for top in layer.top:
            given.input_param.shape.add().dim.extend(shapes[top])
        layer.CopyFrom(given)


def _measured(description: NetDescription) -> NetTable:
    import torch

    from caffe_compat.net import Net
    from caffe_compat.net.debug import memory_required

    with torch.device("meta"):
        net = Net(description, fill=False)
    kept = [_row(net, number, node) for number, node in enumerate(net.nodes) if not node.description.is_split]
    return NetTable(description.name, description.state.phase, False, kept, memory_required(net))


def _row(net: Net, number: int, node: Node) -> LayerRow:
    shapes = net.plan.shapes
    tops = tuple(shapes[blob] for blob in node.top_ids)
    bottoms = [shapes[blob] for blob in node.bottom_ids]
    owned = [shape for i, shape in enumerate(node.layer.blob_shapes) if (number, i) not in net.plan.shared]
    views = {node.top_ids[share.top] for share in node.shares if share.bottom is not None}
    old = views.union(node.bottom_ids)
    fresh = [shape for blob, shape in zip(node.top_ids, tops, strict=True) if blob not in old]
    return LayerRow(
        name=node.name,
        type=node.type,
        bottoms=tuple(node.description.message.bottom),  # as written, not the tops of splits
        tops=tuple(net.plan.names[blob] for blob in node.top_ids),
        top_shapes=tops,
        parameters=sum(math.prod(shape) for shape in owned),
        multiply_adds=node.layer.multiply_adds(bottoms, tops),
        memory=4 * sum(math.prod(shape) for shape in fresh),
        weight_shapes=tuple(node.layer.blob_shapes),
    )


def _grouped(value: int) -> str:
    return f"{value:,}" if value else ""


def _bytes(value: int) -> str:
    if not value:
        return ""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value} B"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] * 5 + ["---:"] * 3
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule[: len(head)], *escaped])
