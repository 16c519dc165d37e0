"""A net as an ONNX model: layer by layer, without tracing."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import onnx

from caffe_compat.errors import ExportError, LayerError, nearest
from caffe_compat.layers import Layer, Shape, count
from caffe_compat.net import Net, Node
from caffe_compat.onnx.graph import Dim, GraphBuilder
from caffe_compat.onnx.metadata import NET, RENAMED, SIZES, add_facts
from caffe_compat.onnx.save import check_model, save_onnx
from caffe_compat.onnx.shapes import KINDS, NetShapes, Size, find_sizes, infer_shapes, net_shapes

__all__ = ["Dynamic", "export_onnx"]

PathLike = str | os.PathLike[str]
Dynamic = bool | Sequence[str]


def export_onnx(
    net: Net,
    path: PathLike | None = None,
    *,
    inputs: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic: Dynamic = ("batch",),
    opset: int = 17,
    metadata: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Export a net in the TEST phase.

    Blobs keep their names (the last value of an in-place blob has it), nodes have the names of their layers, and
    parameters are stored once, in float32.  Only the layers that the outputs depend on are exported.  The model has
    passed onnx.checker.

    Args:
        path: file to write, whole or not at all; see :func:`save_onnx`.
        inputs: other shapes for inputs than those in the prototxt.
        outputs: blobs to compute; by default those that nothing consumes.
        dynamic: sizes that are left open until run time, out of ``"batch"``, ``"height"`` and ``"width"``; ``True``
            leaves open what the net allows, ``False`` or ``()`` nothing.  The batch is axis 0 of every input, height
            and width are axes 2 and 3 of inputs with four axes.
        opset: 17 to 21.
        metadata: facts to store in the model, such as the preprocessing (``{"mean_bgr": [104, 117, 123]}``).

    Raises:
        ExportError: ONNX cannot express the net; names the layer.
    """
    _check_request(net, dynamic)
    wanted = _output_blobs(net, outputs)
    nodes, needed = _needed(net, wanted)
    _check_nodes(net, nodes)
    shapes = _input_shapes(net, needed, inputs or {})
    _check_shapes(net, nodes, shapes)
    model, sizes = _try_choices(net, nodes, wanted, shapes, dynamic, opset)
    facts = {NET: net.description.name, SIZES: {size.name: size.value for size in sizes}}
    add_facts(model, {**facts, **(metadata or {})})
    if path is None:
        check_model(model)
    else:
        save_onnx(model, path)
    return model


# -- what is asked for ------------------------------------------------------------------------------------------


def _check_request(net: Net, dynamic: Dynamic) -> None:
    if not isinstance(dynamic, bool):
        unknown = [kind for kind in dynamic if kind not in KINDS]
        if unknown or isinstance(dynamic, str):
            raise ExportError(
                f"dynamic is {dynamic!r}, expected True or a sequence out of {', '.join(KINDS)}, or False"
            )
    if net.description.state.phase != "TEST":
        raise ExportError(
            f"net '{net.description.name}' was built for the {net.description.state.phase} phase, only a net of the "
            "TEST phase can be exported: load_net(..., phase='TEST')"
        )


def _output_blobs(net: Net, names: Sequence[str] | None) -> list[int]:
    """Numbers of the blobs to compute; inputs that no layer touches are none."""
    written = {blob for node in net.nodes if node.type != "Input" for blob in node.top_ids}
    if names is None:
        result = [blob for blob in net.plan.outputs if blob in written]
    else:
        for name in names:
            if name not in net.plan.names:
                raise ExportError(f"net '{net.description.name}' has no blob '{name}'{nearest(name, net.plan.names)}")
        if len(set(names)) != len(names):
            raise ExportError(f"outputs are {list(names)}, expected each blob once")
        result = [net.plan.names.index(name) for name in names]
    for blob in result:
        if blob not in written:
            raise ExportError(f"blob '{net.plan.names[blob]}' is an input, expected a blob that a layer computes")
    if not result:
        raise ExportError(f"net '{net.description.name}' has no output to export")
    return result


def _choices(dynamic: Dynamic) -> list[tuple[str, ...]]:
    """Kinds of sizes to try, in order."""
    if isinstance(dynamic, bool):
        return [KINDS, KINDS[:1], ()] if dynamic else [()]
    return [tuple(kind for kind in KINDS if kind in dynamic)]


def _try_choices(
    net: Net, nodes: Sequence[Node], outputs: Sequence[int], inputs: Mapping[str, Shape], dynamic: Dynamic, opset: int
) -> tuple[onnx.ModelProto, list[Size]]:
    """The model with the most dynamic sizes, and these."""
    error: ExportError | None = None
    for kinds in _choices(dynamic) if inputs else [()]:
        try:
            sizes, refusals = find_sizes(net, nodes, inputs, kinds)
            if dynamic is not True and refusals:
                kind, reason = next(iter(refusals.items()))
                raise ExportError(
                    f"net '{net.description.name}' cannot have a dynamic {kind}, leave it fixed: {reason}"
                )
            return _write(net, nodes, outputs, net_shapes(net, nodes, inputs, sizes), opset), sizes
        except ExportError as refusal:
            error = refusal
    raise error or ExportError("nothing to export")


def _needed(net: Net, outputs: Iterable[int]) -> tuple[list[Node], set[int]]:
    """The layers that the outputs depend on, in order, and the blobs they touch."""
    needed = set(outputs)
    nodes = []
    for node in reversed(net.nodes):
        if not needed.isdisjoint(node.top_ids):
            nodes.append(node)
            needed.update(node.bottom_ids)
    return nodes[::-1], needed


def _check_nodes(net: Net, nodes: Sequence[Node]) -> None:
    for node in nodes:
        if type(node.layer).to_onnx is Layer.to_onnx:
            raise node.layer.export_error(node.layer.onnx_reason or "has no ONNX form")
        if node.layer.training or node.layer.layer_phase == "TRAIN":
            raise node.layer.export_error("is in the TRAIN phase, only the TEST phase can be exported")


def _input_shapes(net: Net, needed: Collection[int], given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the inputs; the caller's come first."""
    result = {}
    for blob in net.plan.inputs:
        name = net.plan.names[blob]
        shape = tuple(int(dim) for dim in given.get(name, net.plan.shapes[blob]))
        if blob in needed and count(shape) < 1:
            raise ExportError(f"input '{name}' has the shape {list(shape)}, expected positive sizes: give its shape")
        if blob in needed:
            result[name] = shape
    for name in given:
        if name not in net.input_names:
            raise ExportError(f"net '{net.description.name}' has no input '{name}'{nearest(name, net.input_names)}")
    return result


def _check_shapes(net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape]) -> None:
    try:
        infer_shapes(net, nodes, inputs)
    except LayerError as error:
        empty = [name for name, shape in inputs.items() if not shape]
        hint = f"; the prototxt gives input '{empty[0]}' no shape, give one" if empty else ""
        raise ExportError(f"inputs of shapes { {n: list(s) for n, s in inputs.items()} }: {error}{hint}") from error


# -- writing ----------------------------------------------------------------------------------------------------


def _write(net: Net, nodes: Sequence[Node], outputs: Sequence[int], shapes: NetShapes, opset: int) -> onnx.ModelProto:
    """Let each layer write its nodes.

    The last layer that writes a blob writes its name; a graph input keeps its name, so layers that change it in place
    all write others, and the metadata say so if such a blob is an output.
    """
    names = net.plan.names
    builder = GraphBuilder(net.description.name, opset, names)
    last = {blob: number for number, node in enumerate(nodes) for blob in node.top_ids}
    inputs: dict[str, list[Dim]] = {}
    current: dict[int, str] = {}
    dims: dict[int, list[Dim]] = {}
    for number, node in enumerate(nodes):
        bottoms = [current[blob] for blob in node.bottom_ids]
        for blob, sizes_of_top in zip(node.top_ids, shapes.dims[number], strict=True):
            own = node.type == "Input" or (last[blob] == number and blob not in net.plan.inputs)
            current[blob] = names[blob] if own else builder.fresh(f"{names[blob]}__{node.name}")
            dims[blob] = [f"{names[blob]}_axis{axis}" if dim is None else dim for axis, dim in enumerate(sizes_of_top)]
            if node.type == "Input" and names[blob] in shapes.inputs:
                inputs[names[blob]] = dims[blob]
        if node.type == "Input":
            continue
        for bottom, shape in zip(bottoms, shapes.bottoms[number], strict=True):
            builder.set_shape(bottom, shape)
        builder.write(node.layer, bottoms, [current[blob] for blob in node.top_ids])
    tops = {current[blob]: dims[blob] for blob in outputs}
    model = builder.model(inputs, tops, f"Caffe net '{net.description.name}'")
    renamed = {current[blob]: names[blob] for blob in outputs if current[blob] != names[blob]}
    if renamed:
        add_facts(model, {RENAMED: renamed})
    return model
