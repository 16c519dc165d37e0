"""A net as an ONNX model: layer by layer, without tracing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Unpack

import onnx

from caffe_compat.compare import Place
from caffe_compat.errors import ExportError, LayerError, in_file, nearest
from caffe_compat.layers import Layer, Shape, count
from caffe_compat.net import Net, Node
from caffe_compat.net.plan import ancestors
from caffe_compat.onnx.fold import fold_affine
from caffe_compat.onnx.graph import OPSETS
from caffe_compat.onnx.metadata import MASKS, NET, PREPARATION, ROIS, SIZES, add_facts
from caffe_compat.onnx.options import Dynamic, ExportOptions, Options
from caffe_compat.onnx.parts import Parts, infer_values, join
from caffe_compat.onnx.placement import refuse_lost_kernels
from caffe_compat.onnx.postprocess import add_postprocessing
from caffe_compat.onnx.preprocess import add_preprocessing
from caffe_compat.onnx.regions import cell_stride, region_inputs
from caffe_compat.onnx.save import check_model, save_onnx
from caffe_compat.onnx.shapes import KINDS, Size, find_sizes, infer_shapes, net_shapes
from caffe_compat.onnx.write import Writer

__all__ = ["export_onnx", "export_parts", "bare_parts", "export_places", "wrap"]

PathLike = str | os.PathLike[str]
_MANY = 5  #: layers that one error names


def export_onnx(net: Net, path: PathLike | None = None, **options: Unpack[ExportOptions]) -> onnx.ModelProto:
    """Export a net in the TEST phase.

    Blobs keep their names (the last value of an in-place blob has it), nodes have the names of their layers, and
    parameters are stored once, in float32.  Only the layers that the outputs depend on are exported.  The model has
    passed onnx.checker.

    Args:
        path: file to write, whole or not at all; see :func:`save_onnx`.
        options: see :class:`~caffe_compat.onnx.options.Options`.

    Raises:
        ExportError: ONNX cannot express the net; names the layer.
    """
    parts = export_parts(net, **options)
    if path is not None:
        save_onnx(parts, path, check=False)
    return join(parts)


def export_parts(net: Net, **options: Unpack[ExportOptions]) -> Parts:
    """The same with model and weights apart: none of the weights is copied, but those of other types than float32."""
    wanted = Options(**options)
    return wrap(bare_parts(net, wanted), wanted)


def bare_parts(net: Net, wanted: Options) -> Parts:
    """The same of the net alone: without preprocessing and postprocessing in the graph."""
    with in_file(net.description.source):
        return _bare_parts(net, wanted)


def _bare_parts(net: Net, wanted: Options) -> Parts:
    _check_request(net, wanted.dynamic)
    boxes = wanted.postprocess.blobs if wanted.postprocess else None
    outputs = _output_blobs(net, boxes if wanted.outputs is None else wanted.outputs)
    nodes, needed = ancestors(net.plan, outputs)
    _check_nodes(net, nodes)
    shapes = _input_shapes(net, needed, wanted.inputs or {})
    _check_shapes(net, nodes, shapes)
    parts, sizes = _try_choices(net, nodes, outputs, shapes, wanted)
    facts = {NET: net.description.name, SIZES: {size.name: size.value for size in sizes}, **_regions(net, nodes)}
    if wanted.preparation is not None:
        facts[PREPARATION] = wanted.preparation.text()
    add_facts(parts.model, {**facts, **(wanted.metadata or {})})
    if wanted.fold:
        parts = fold_affine(parts)
    infer_values(parts)
    check_model(parts)
    if wanted.roi == "gpu":
        refuse_lost_kernels(parts.model)
    return parts


def wrap(parts: Parts, wanted: Options) -> Parts:
    """A bare model with the preprocessing and postprocessing that are wanted in its graph.

    Raises:
        ExportError: they do not fit it.
    """
    if wanted.preprocess is None and wanted.postprocess is None:
        return parts
    if wanted.preprocess is not None:
        parts = add_preprocessing(parts, wanted.preprocess)
    if wanted.postprocess is not None:
        parts = add_postprocessing(parts, wanted.postprocess)
    infer_values(parts)
    check_model(parts)
    if wanted.roi == "gpu":
        refuse_lost_kernels(parts.model)
    return parts


def export_places(net: Net, inputs: Mapping[str, Shape], places: Sequence[Place]) -> tuple[onnx.ModelProto, list[str]]:
    """A model of fixed sizes that computes what some layers make, as it is right after them.

    Args:
        inputs: shapes of all inputs.
        places: (number of the layer, number of the top).

    Returns:
        The model, and the names of its outputs in the order of the places.

    Raises:
        ExportError: ONNX cannot express the net; names the layer.
    """
    _check_request(net, False)
    if not places:
        raise ExportError(f"net '{net.description.name}' has no output to export")
    nodes, needed = ancestors(net.plan, {net.nodes[number].top_ids[top] for number, top in places})
    _check_nodes(net, nodes)
    shapes = _input_shapes(net, needed, inputs)
    _check_shapes(net, nodes, shapes)
    writer = Writer(net, nodes, net_shapes(net, nodes, shapes, []), OPSETS[0])
    parts = writer.parts_of(places)
    check_model(parts)
    return join(parts), [writer.values[place][0] for place in places]


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
    written = {blob for node in net.nodes if not node.is_input for blob in node.top_ids}
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
        return [KINDS, KINDS[:2], ()] if dynamic else [()]
    return [tuple(kind for kind in KINDS if kind in dynamic)]


def _regions(net: Net, nodes: Sequence[Node]) -> dict[str, Any]:
    """What holds of inputs with boxes."""
    found, stride = region_inputs(net, nodes), cell_stride(net, nodes)
    return ({ROIS: found} if found else {}) | ({MASKS: {"stride": stride}} if stride else {})


def _try_choices(
    net: Net, nodes: Sequence[Node], outputs: Sequence[int], inputs: Mapping[str, Shape], wanted: Options
) -> tuple[Parts, list[Size]]:
    """The model with the most dynamic sizes, and these."""
    error: ExportError | None = None
    for kinds in _choices(wanted.dynamic) if inputs else [()]:
        try:
            sizes, refusals = find_sizes(net, nodes, inputs, kinds)
            if wanted.dynamic is not True and refusals:
                kind, reason = next(iter(refusals.items()))
                raise ExportError(
                    f"net '{net.description.name}' cannot have a dynamic {kind}, leave it fixed: {reason}"
                )
            shapes = net_shapes(net, nodes, inputs, sizes)
            return Writer(net, nodes, shapes, wanted.opset, wanted.roi).parts(outputs), sizes
        except ExportError as refusal:
            error = refusal
    raise error or ExportError("nothing to export")


def _check_nodes(net: Net, nodes: Sequence[Node]) -> None:
    """Name the layers that cannot be exported, all of them at once."""
    refused = []
    for layer in (node.layer for node in nodes):
        if type(layer).to_onnx is Layer.to_onnx:
            refused.append(layer.export_error(layer.onnx_reason or "has no ONNX form"))
        elif layer.training or layer.layer_phase == "TRAIN":
            refused.append(layer.export_error("is in the TRAIN phase, only the TEST phase can be exported"))
    if len(refused) > _MANY:
        refused[_MANY:] = [ExportError(f"and {len(refused) - _MANY} more")]
    if refused:
        raise ExportError("; ".join(map(str, refused)))


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
