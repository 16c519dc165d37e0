"""The graph builder by itself."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from onnx_nets import make_net, source

from caffe_compat.errors import ExportError
from caffe_compat.onnx import GraphBuilder


def initializers(builder: GraphBuilder) -> dict[str, np.ndarray]:
    names = list(builder._initializers)
    builder.node("Concat", names, ["out"], axis=0)
    return {t.name: numpy_helper.to_array(t) for t in builder.model({}, {"out": [1]}).graph.initializer}


def test_types_of_constants():
    builder = GraphBuilder("g")
    names = [
        builder.constant(1),
        builder.constant(1.0),
        builder.constant([1, 2]),
        builder.constant([]),
        builder.constant(np.array([1, 2], np.int32)),
        builder.constant(np.array([1.5, 2.5])),
        builder.constant([1, 2], np.float32),
        builder.constant(2.5, np.float64),
    ]
    types = [initializers(builder)[name].dtype.name for name in names]
    assert types == ["int64", "float32", "int64", "int64", "int32", "float32", "float32", "float64"]


def test_equal_constants_share_but_types_and_shapes_count():
    builder = GraphBuilder("g")
    assert builder.constant(1.0) == builder.constant(np.float32(1))
    assert len({builder.constant(1.0), builder.constant(1), builder.constant([1]), builder.constant([1.0])}) == 4


def test_fresh_names_avoid_blobs():
    builder = GraphBuilder("g", blobs=["Relu", "Relu__2"])
    assert builder.add("Relu", ["x"]) == "Relu__3"


def test_attributes_that_are_none_are_left_out():
    builder = GraphBuilder("g")
    builder.node("Gemm", ["a", "b"], ["y"], transB=None, alpha=2.0)
    (node,) = builder.model({"a": [1, 1], "b": [1, 1]}, {"y": [1, 1]}).graph.node
    assert [attribute.name for attribute in node.attribute] == ["alpha"]


def test_shapes():
    builder = GraphBuilder("g")
    builder.set_shape("x", (None, 3, 4))
    assert builder.shape("x") == (None, 3, 4)
    with pytest.raises(ExportError, match=r"blob 'x' .*axes \[0\].*fixed ones for the sum"):
        builder.static_shape("x", "the sum")
    with pytest.raises(ExportError, match="shape of 'y' is not known"):
        builder.shape("y")


def test_chains_of_identities_go_and_dead_nodes_with_them():
    builder = GraphBuilder("g", blobs=["x", "a", "b", "y", "z"])
    builder.node("Relu", ["x"], ["a__first"])
    builder.node("Identity", ["a__first"], ["a"])
    builder.node("Identity", ["a"], ["b"])
    builder.node("Abs", ["b"], ["y"])
    builder.node("Neg", ["b"], ["unused"])
    graph = builder.model({"x": [1]}, {"y": [1]}).graph
    assert [(n.op_type, list(n.input), list(n.output)) for n in graph.node] == [
        ("Relu", ["x"], ["a"]),
        ("Abs", ["a"], ["y"]),
    ]


def test_outputs_keep_their_names():
    builder = GraphBuilder("g", blobs=["x", "a", "b"])
    builder.node("Relu", ["x"], ["a"])
    builder.node("Identity", ["a"], ["b"])
    builder.node("Identity", ["x"], ["c"])
    graph = builder.model({"x": [1]}, {"a": [1], "b": [1], "c": [1]}).graph
    assert [(n.op_type, n.input[0], n.output[0]) for n in graph.node] == [
        ("Relu", "x", "a"),
        ("Identity", "a", "b"),
        ("Identity", "x", "c"),
    ]


def test_wrong_attribute_names_the_layer():
    class Wrong(type(make_net(source("x", 1)).nodes[0].layer)):  # type: ignore[misc]
        def to_onnx(self, graph, bottoms, tops):
            graph.node("Relu", bottoms, tops, wrong=object())

    layer = make_net(source("x", 1)).nodes[0].layer
    layer.__class__ = Wrong
    with pytest.raises(ExportError, match="layer 'x' .*ONNX does not know"):
        GraphBuilder("g").write(layer, ["a"], ["b"])
