"""Nodes before and after a finished graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from caffe_compat.description.names import UniqueNames
from caffe_compat.onnx.metadata import SIZES, add_facts, read_fact
from caffe_compat.onnx.parts import Parts, Weight, make_tensor

__all__ = ["Patch", "dims_of"]


class Patch:
    """A copy of a model with more nodes; names of what is added begin with a prefix, and none is given twice.

    Args:
        parts: the model; stays as it is.
        prefix: such as ``preprocess/``.
    """

    def __init__(self, parts: Parts, prefix: str) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(parts.model)
        self.weights: dict[str, Weight] = dict(parts.weights)
        self.prefix = prefix
        graph = self.model.graph
        values = {name for node in graph.node for name in (*node.input, *node.output)}
        values |= {entry.name for entries in (graph.input, graph.output, graph.initializer) for entry in entries}
        self._values, self._nodes = UniqueNames(values), UniqueNames({node.name for node in graph.node})
        self._added: list[onnx.NodeProto] = []
        self.opset = next(entry.version for entry in self.model.opset_import if not entry.domain)

    def fresh(self, base: str) -> str:
        """A name that no value has yet."""
        return self._values.fresh(base)

    def add(self, op: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; by default with one output, of a fresh name.  Returns the first output."""
        made = list(outputs) or [self.fresh(f"{self.prefix}{op}")]
        name = self._nodes.fresh(f"{self.prefix}{op}")
        self._added.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return made[0]

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """An initializer."""
        array = np.asarray(value, dtype)
        name = self.fresh(f"{self.prefix}constant")
        tensor, whole = make_tensor(name, array)
        self.model.graph.initializer.append(tensor)
        if not whole:
            self.weights[name] = array
        return name

    def take_input(self, name: str) -> None:
        """Remove a graph input; a node is to compute what it was."""
        for entry in [entry for entry in self.model.graph.input if entry.name == name]:
            self.model.graph.input.remove(entry)
            self.model.graph.value_info.append(entry)

    def add_input(self, name: str, kind: int, dims: Sequence[int | str]) -> None:
        """A graph input, after those that there are."""
        self.model.graph.input.append(helper.make_tensor_value_info(name, kind, list(dims)))

    def add_output(self, name: str, kind: int, dims: Sequence[int | str]) -> None:
        """The same of an output."""
        self.model.graph.output.append(helper.make_tensor_value_info(name, kind, list(dims)))

    def rename(self, value: str, name: str) -> None:
        """Let the node that was added last, and writes ``value``, write ``name``."""
        self._added[-1].output[list(self._added[-1].output).index(value)] = name

    def fact(self, key: str, value: Any) -> None:
        """Store something in the model's metadata."""
        add_facts(self.model, {key: value})

    def open_sizes(self, sizes: Mapping[str, int]) -> None:
        """Note what sizes that are open by name may be, with those of the net."""
        known = read_fact(self.model, SIZES) | dict(sizes)
        for entry in [entry for entry in self.model.metadata_props if entry.key == SIZES]:
            self.model.metadata_props.remove(entry)
        self.fact(SIZES, known)

    def finish(self, before: bool) -> Parts:
        """The model with the nodes that were added, before all others or after them."""
        graph = self.model.graph
        nodes = [*self._added, *graph.node] if before else [*graph.node, *self._added]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
        return Parts(self.model, self.weights)


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes of a graph input or output; those that are open by name."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
