"""Net surgery: weights of several models, layer by layer, into one net."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from caffe_compat.description import State, describe_net
from caffe_compat.documents import read_json
from caffe_compat.errors import UsageError, WeightsError, nearest
from caffe_compat.net.load import load_net
from caffe_compat.net.net import Net
from caffe_compat.net.plan import Node
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import read_net

__all__ = ["Copy", "Operation", "SurgeryReport", "input_origins", "operate", "read_operations"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Copy:
    """All blobs of layer ``source`` go into layer ``dest``; ``reshape`` allows other shapes of equal count.

    ``scale``: factor on all blobs, which for a layer before a ReLU is a factor on its output.
    """

    source: str
    dest: str
    reshape: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Operation:
    """What is copied from one model."""

    prototxt: str
    model: str
    copies: tuple[Copy, ...]


@dataclass
class SurgeryReport:
    """How often each layer with weights of the new net was written."""

    counts: dict[str, int] = field(default_factory=dict)
    zero: set[str] = field(default_factory=set)
    """Layers that were not copied and have no filler, so that their weights are 0."""

    def lines(self) -> list[str]:
        """One line per layer that was not copied exactly once."""
        return [f"layer '{name}' {self._what(name, count)}" for name, count in self.counts.items() if count != 1]

    def _what(self, name: str, count: int) -> str:
        if count:
            return f"was copied {count} times"
        return "was not copied, " + ("its weights are 0" if name in self.zero else "it keeps its filler")


def read_operations(path: PathLike) -> list[Operation]:
    """Read the JSON file: a list of ``{prototxt, model, copy_ops: {source, dest, reshape, scale}}``.

    ``reshape`` and ``scale`` (not in the branch) may be left out.

    Raises:
        MissingFileError: no such file.
        UsageError: it is not such a list; names the entry and the field.
    """
    entries = read_json(path, "net surgery", UsageError)
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path}: expected a list of objects with prototxt, model and copy_ops")
    return [_operation(f"{path}: entry {index}", entry) for index, entry in enumerate(entries)]


def _operation(where: str, entry: Any) -> Operation:
    if not isinstance(entry, dict) or set(entry) != {"prototxt", "model", "copy_ops"}:
        raise UsageError(f"{where}: expected an object with exactly prototxt, model and copy_ops")
    for name in ("prototxt", "model"):
        if not isinstance(entry[name], str):
            raise UsageError(f"{where}: {name} is {entry[name]!r}, expected a file name")
    ops = entry["copy_ops"]
    if not isinstance(ops, dict) or not {"source", "dest"} <= set(ops) <= {"source", "dest", *_KINDS}:
        raise UsageError(f"{where}: copy_ops is expected to have the lists source, dest and reshape")
    for name, values in ops.items():
        kind, expected = _KINDS.get(name, (str, "layer names"))
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise UsageError(f"{where}: copy_ops.{name} is expected to be a list of {expected}")
    sources, dests = ops["source"], ops["dest"]
    reshapes, scales = ops.get("reshape", [0] * len(sources)), ops.get("scale", [1] * len(sources))
    if not len(sources) == len(dests) == len(reshapes):
        raise UsageError(
            f"{where}: source, dest and reshape have {len(sources)}, {len(dests)} and {len(reshapes)} entries, "
            "expected equally many"
        )
    if len(scales) != len(sources):
        raise UsageError(f"{where}: scale has {len(scales)} entries, expected {len(sources)}, as source has")
    every = zip(sources, dests, reshapes, scales, strict=True)
    copies = (Copy(source, dest, bool(reshape), float(scale)) for source, dest, reshape, scale in every)
    return Operation(entry["prototxt"], entry["model"], tuple(copies))


_KINDS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {"reshape": ((bool, int), "0 or 1"), "scale": ((int, float), "numbers")}
)
"""Lists that may be there, and what they are of."""


def operate(
    out_net_def: PathLike, operations: list[Operation], out_net_file: PathLike, device: torch.device | str = "cpu"
) -> SurgeryReport:
    """Build a net, copy layers into it and write its weights (whole or not at all).

    Args:
        out_net_def: prototxt of the new net.
        operations: what to copy; where two write the same layer, the later wins.
        out_net_file: ``.caffemodel`` to write, or ``.h5``.
        device: where the new net stands.

    Raises:
        WeightsError: a layer that a net or a weights file does not have, or blobs that do not fit.
        CaffeCompatError: a file that cannot be used.
    """
    target = load_net(out_net_def).to(device)
    report = SurgeryReport({node.name: 0 for node in target.nodes if node.layer.blobs})
    for operation in operations:
        source = load_net(operation.prototxt, operation.model)
        stored = blobs_in([operation.model])
        for copy in operation.copies:
            if not stored.get(copy.source):
                raise WeightsError(
                    f"{operation.model}: has no weights of layer '{copy.source}'" + nearest(copy.source, stored)
                )
            _copy_layer(
                f"'{copy.source}' of {operation.prototxt} to '{copy.dest}' of {out_net_def}",
                _find(source, copy.source, operation.prototxt),
                _find(target, copy.dest, out_net_def),
                copy,
            )
            report.counts[copy.dest] += 1
    report.zero = {
        node.name for node in target.nodes if report.counts.get(node.name) == 0 and not node.layer.blob(0).any()
    }
    if str(out_net_file).endswith(".h5"):
        target.save_hdf5(out_net_file)
    else:
        target.save(out_net_file)
    return report


def input_origins(prototxt: PathLike) -> dict[str, tuple[str, ...]]:
    """For each layer of a test net, in its order, which of the net's pictures it is computed from, by input.

    Pictures are inputs of four axes, or tops of layers without bottoms of which no sizes are known before they run.

    Raises:
        CaffeCompatError: the prototxt cannot be used.
    """
    net = describe_net(read_net(prototxt), State("TEST"), source=os.fspath(prototxt))
    origins: dict[str, tuple[str, ...]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for layer in net.layers:
        seen = dict.fromkeys(name for blob in layer.bottoms for name in origins.get(blob, ()))
        shapes = layer.message.input_param.shape
        if not layer.bottoms:
            sizes = [len(shape.dim) for shape in shapes]
            seen = {}
            for place, top in enumerate(layer.tops):
                picture = not sizes or sizes[min(place, len(sizes) - 1)] == 4
                origins[top] = (top,) if picture else ()
        else:
            origins.update((top, tuple(seen)) for top in layer.tops)
        found[layer.name] = tuple(seen)
    return found


def _find(net: Net, name: str, path: PathLike) -> Node:
    """The last layer of that name that has weights, as pycaffe's ``net.params[name]``."""
    found = {node.name: node for node in net.nodes if node.layer.blobs}
    if name not in found:
        raise WeightsError(f"{path}: no layer '{name}' with weights{nearest(name, found)}")
    return found[name]


def _copy_layer(what: str, source: Node, dest: Node, copy: Copy) -> None:
    ours, theirs = dest.layer.blob_shapes, source.layer.blob_shapes
    if len(ours) != len(theirs):
        raise WeightsError(f"{what}: {len(theirs)} blobs into {len(ours)}, expected equally many")
    for index, (have, want) in enumerate(zip(theirs, ours, strict=True)):
        values, place = source.layer.blob(index), dest.layer.blob(index)
        if values.numel() != place.numel() or (have != want and not copy.reshape):
            hint = " (reshape: 1 would allow it)" if values.numel() == place.numel() else ""
            raise WeightsError(f"{what}: blob {index} has the shape {list(have)}, expected {list(want)}{hint}")
        with torch.no_grad():
            place.copy_(values.reshape(place.shape) * copy.scale if copy.scale != 1 else values.reshape(place.shape))
