"""Graphs without nodes that compute nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx
from onnx import helper

from caffe_compat.description.graph import ancestors

__all__ = ["prune", "reads", "remove_aliases"]


def remove_aliases(
    nodes: Iterable[onnx.NodeProto], fixed: Collection[str], outputs: Sequence[str], blobs: Collection[str]
) -> list[onnx.NodeProto]:
    """Drop Identity nodes; their outputs and their input become one name.

    That name is, in this order: a graph input or initializer, a graph output, the first blob of the net, the input.
    An Identity stays where a graph output would lose its name.

    Args:
        nodes: in the order of computation; those that are kept are changed.
        fixed: names of graph inputs and initializers.
        blobs: names that belong to blobs of the net.
    """
    sources: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    kept: list[onnx.NodeProto] = []
    for node in nodes:
        if node.op_type != "Identity":
            kept.append(node)
            continue
        source = sources.get(node.input[0], node.input[0])
        sources[node.output[0]] = source
        groups.setdefault(source, [source]).append(node.output[0])
    names: dict[str, str] = {}
    for source, group in groups.items():
        wanted = [name for name in group if name in outputs]
        if source in fixed:
            chosen = source
        elif wanted:
            chosen = wanted[0]
        else:
            chosen = next((name for name in group if name in blobs), source)
        names.update((name, chosen) for name in group)
        kept += [helper.make_node("Identity", [chosen], [name]) for name in wanted if name != chosen]
    for node in kept:
        if node.op_type != "Identity":
            _rename(node, names)
    return kept


def prune(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on."""
    return ancestors(nodes, outputs, lambda node: node.output, reads)[0]


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values that a node reads, those that its subgraphs read included."""
    inner = (name for graph in _subgraphs(node) for child in graph.node for name in child.input)
    return [*node.input, *inner]


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for graph in _subgraphs(node):
        for inner in graph.node:
            _rename(inner, names)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
