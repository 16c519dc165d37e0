"""Net surgery: weights of several models, layer by layer, into one net."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from caffe_compat.documents import read_json
from caffe_compat.errors import UsageError, WeightsError, nearest
from caffe_compat.net.net import Net, load_net
from caffe_compat.net.plan import Node
from caffe_compat.net.weights import blobs_in

__all__ = ["Copy", "Operation", "SurgeryReport", "operate", "read_operations"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Copy:
    """All blobs of layer ``source`` go into layer ``dest``; ``reshape`` allows other shapes of equal count."""

    source: str
    dest: str
    reshape: bool = False


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
    """Read the JSON file: a list of ``{prototxt, model, copy_ops: {source, dest, reshape}}``.

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
    if not isinstance(ops, dict) or not {"source", "dest"} <= set(ops) <= {"source", "dest", "reshape"}:
        raise UsageError(f"{where}: copy_ops is expected to have the lists source, dest and reshape")
    for name, values in ops.items():
        kind: Any = (bool, int) if name == "reshape" else str
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise UsageError(f"{where}: copy_ops.{name} is expected to be a list of " + _kinds(name))
    sources, dests = ops["source"], ops["dest"]
    reshapes = ops.get("reshape", [0] * len(sources))
    if not len(sources) == len(dests) == len(reshapes):
        raise UsageError(
            f"{where}: source, dest and reshape have {len(sources)}, {len(dests)} and {len(reshapes)} entries, "
            "expected equally many"
        )
    copies = (Copy(s, d, bool(r)) for s, d, r in zip(sources, dests, reshapes, strict=True))
    return Operation(entry["prototxt"], entry["model"], tuple(copies))


def _kinds(name: str) -> str:
    return "0 or 1" if name == "reshape" else "layer names"


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
                copy.reshape,
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


def _find(net: Net, name: str, path: PathLike) -> Node:
    """The last layer of that name that has weights, as pycaffe's ``net.params[name]``."""
    found = {node.name: node for node in net.nodes if node.layer.blobs}
    if name not in found:
        raise WeightsError(f"{path}: no layer '{name}' with weights{nearest(name, found)}")
    return found[name]


def _copy_layer(what: str, source: Node, dest: Node, reshape: bool) -> None:
    ours, theirs = dest.layer.blob_shapes, source.layer.blob_shapes
    if len(ours) != len(theirs):
        raise WeightsError(f"{what}: {len(theirs)} blobs into {len(ours)}, expected equally many")
    for index, (have, want) in enumerate(zip(theirs, ours, strict=True)):
        values, place = source.layer.blob(index), dest.layer.blob(index)
        if values.numel() != place.numel() or (have != want and not reshape):
            hint = " (reshape: 1 would allow it)" if values.numel() == place.numel() else ""
            raise WeightsError(f"{what}: blob {index} has the shape {list(have)}, expected {list(want)}{hint}")
        with torch.no_grad():
            place.copy_(values.reshape(place.shape))
