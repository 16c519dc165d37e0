"""A delivered ONNX file, in any precision, as the reference of a comparison layer by layer.

A value of the file belongs to the top of a layer if it has the name that the exporter gives that top, or, where values
were renamed, if the node that makes it has the name of the layer.  What was folded into a neighbour has no value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from caffe_compat.compare.layers import Place, check_inputs, computed
from caffe_compat.deploy.facts import NET, PRECISION, RENAMED
from caffe_compat.errors import DataError, ExportError, MissingFileError, ModelFileError, UsageError, one_line
from caffe_compat.files import open_existing
from caffe_compat.layers import Layer, Shape
from caffe_compat.media import Preparation
from caffe_compat.net import Net
from caffe_compat.net.plan import ancestors
from caffe_compat.onnx.graph import OPSETS
from caffe_compat.onnx.metadata import read_fact
from caffe_compat.onnx.parts import Parts, split
from caffe_compat.onnx.pictures import Feed
from caffe_compat.onnx.postprocess import cut_postprocessing
from caffe_compat.onnx.roles import element_types
from caffe_compat.onnx.rounding import rounding_model
from caffe_compat.onnx.samples import random_inputs
from caffe_compat.onnx.shapes import consumers, net_shapes
from caffe_compat.onnx.tidy import prune
from caffe_compat.onnx.verify import open_session
from caffe_compat.onnx.write import Writer

__all__ = ["LAYER_TOLERANCES", "Delivered", "read_delivered"]

LAYER_TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "float16": 0.02, "int8": 0.5}
"""Largest relative difference of a sound layer by precision of the file."""
_LIKE_PICTURES = 64.0  #: standard deviation of random images for int8: that of pictures, for whose ranges it was made


@dataclass(frozen=True)
class Delivered:
    """What a file computes.

    Attributes:
        path: the file.
        precision: ``float32``, ``float16`` or ``int8``.
        inputs: that the net and the file were given.
        values: by place, those that the file has.
        absent: places that have no value of their own in the file.
    """

    path: str
    precision: str
    inputs: dict[str, np.ndarray]
    values: dict[Place, np.ndarray]
    absent: tuple[Place, ...]

    def lines(self, net: Net) -> list[str]:
        """For the terminal."""
        number = len(self.values) + len(self.absent)
        lines = [f"{self.path}: {self.precision}, has {len(self.values)} of {number} values of layers"]
        if self.absent:
            names = list(dict.fromkeys(net.nodes[number].name for number, _ in self.absent))
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"not in the file (folded, pruned or renamed): {', '.join(names[:8])}{more}")
        return lines


def read_delivered(
    net: Net,
    path: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    picture: tuple[str, Preparation] | None = None,
    seed: int = 0,
) -> Delivered:
    """Run a file on the CPU and say what each layer made.

    Values of float16 are rounded as on a device that computes in it, see ``rounding.py``; those that the file gives out
    are taken from the file as it is.

    Args:
        net: the net that it should be of.
        inputs: for the net; by default random ones of the file's fixed sizes, else of the prototxt's, for int8 as
            large as pictures.
        picture: instead of these a picture, and how pictures become inputs; further inputs are random.

    Raises:
        MissingFileError, ModelFileError: no such file, or none of ONNX.
        DataError: it is not of this net.
        ExportError: ONNX Runtime refuses it or the inputs.
    """
    model = _load(path)
    cut_postprocessing(model)
    precision = _precision(model)
    outputs = {value.name: value.name for value in model.graph.output} | read_fact(model, RENAMED)
    model = _from_inputs(model, net, os.fspath(path))
    if picture is not None:
        inputs = _of_picture(net, model, *picture)
    given = dict(inputs) if inputs is not None else _random(net, model, precision, seed)
    check_inputs(net, given)
    places = _find(net, model, outputs.values(), {name: tuple(array.shape) for name, array in given.items()})
    if not places:
        made = [name for node in model.graph.node for name in node.output]
        raise DataError(
            f"{os.fspath(path)}: is not of net '{net.description.name}': it computes {', '.join(made[:4])}, ..., and "
            f"no layer of the net makes any of it{_said(model)}"
        )
    values = _run(model, given, places, precision)
    numbers = _needed(net, outputs.values())
    absent = tuple(place for place in computed(net) if place[0] in numbers and place not in values)
    return Delivered(os.fspath(path), precision, given, values, absent)


def _load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    with open_existing(path, "ONNX model"):
        pass
    try:
        model = onnx.load(os.fspath(path), format="protobuf")
    except FileNotFoundError as error:
        raise MissingFileError(error.filename or "of its weights", f"weights of {os.fspath(path)}") from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelFileError(f"{os.fspath(path)}: expected an ONNX model, all of it: {one_line(error)}") from error
    if not model.graph.node:
        raise ModelFileError(f"{os.fspath(path)}: expected an ONNX model, it has no nodes")
    return model


def _precision(model: onnx.ModelProto) -> str:
    """What the file says, or else what is in it."""
    said = next((entry.value for entry in model.metadata_props if entry.key == PRECISION), "")
    if said in LAYER_TOLERANCES:
        return said
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        return "int8"
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "float16" if halves else "float32"


def _said(model: onnx.ModelProto) -> str:
    name = next((entry.value for entry in model.metadata_props if entry.key == NET), "")
    return f" (it says that it is of net '{name}')" if name else ""


# -- inputs -----------------------------------------------------------------------------------------------------


def _from_inputs(model: onnx.ModelProto, net: Net, path: str) -> onnx.ModelProto:
    """The model from the net's inputs on: what prepares pictures for them is cut off; inputs have the net's names.

    Raises:
        DataError: the file takes something that the net does not.
    """
    taken = [value.name for value in model.graph.input]
    wanted = list(net.input_names)
    made = {name for node in model.graph.node for name in node.output}
    inner = [name for name in wanted if name in made]
    if inner:
        types = element_types(model)
        for name in inner:
            axes = [size if axis == 1 else f"{name}_axis{axis}" for axis, size in enumerate(net.blob_shapes[name])]
            model.graph.input.append(helper.make_tensor_value_info(name, types[name], axes))
        for node in model.graph.node:
            node.output[:] = [f"{name}__cut_off" if name in inner else name for name in node.output]
        kept = prune(model.graph.node, [value.name for value in model.graph.output])
        del model.graph.node[:]
        model.graph.node.extend(kept)
        used = {name for node in kept for name in node.input}
        inputs = [value for value in model.graph.input if value.name in used]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        taken = [value.name for value in inputs]
    strange = [name for name in taken if name not in wanted]
    free = [name for name in wanted if name not in taken]
    if strange and len(strange) != len(free):
        raise DataError(
            f"{path}: is not of net '{net.description.name}': it takes {', '.join(taken)}, the net "
            f"{', '.join(wanted) or 'nothing'}{_said(model)}"
        )
    if strange:
        _rename(model, dict(zip(strange, free, strict=True)))
    return model


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    for value in model.graph.input:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _of_picture(net: Net, model: onnx.ModelProto, path: str, wants: Preparation) -> dict[str, np.ndarray]:
    feed = Feed(net, model, wants)
    if len(feed.images) != 1:
        raise UsageError(f"one picture for the inputs {', '.join(feed.images)}, expected a net that takes one")
    return next(feed.batches([dict.fromkeys(feed.images, path)]))


def _random(net: Net, model: onnx.ModelProto, precision: str, seed: int) -> dict[str, np.ndarray]:
    """Random values for all inputs of the net."""
    shapes: dict[str, Shape] = {net.plan.names[blob]: net.plan.shapes[blob] for blob in net.plan.inputs}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == len(shapes[value.name]):
            known = zip(dims, shapes[value.name], strict=True)
            shapes[value.name] = tuple(dim.dim_value or size for dim, size in known)
    found = random_inputs(net, shapes, np.random.default_rng(seed))
    if precision == "int8":
        readers = consumers(net)
        for name, values in found.items():
            asked = any(type(node.layer).sample is not Layer.sample for node, _ in readers.get(name, []))
            if values.ndim == 4 and not asked:
                found[name] = values * np.float32(_LIKE_PICTURES)
    return found


# -- values -----------------------------------------------------------------------------------------------------


def _needed(net: Net, outputs: Iterable[str]) -> list[int]:
    """Numbers of the layers that the outputs depend on, of those that are blobs of the net; all if none is."""
    blobs = {net.plan.names.index(name) for name in outputs if name in net.plan.names}
    if not blobs:
        return list(range(len(net.nodes)))
    nodes, _ = ancestors(net.plan, blobs)
    kept = {id(node) for node in nodes}
    return [number for number, node in enumerate(net.nodes) if id(node) in kept]


def _find(net: Net, model: onnx.ModelProto, outputs: Iterable[str], inputs: Mapping[str, Shape]) -> dict[Place, str]:
    """Which value of the file each place is, as far as it has one."""
    numbers = _needed(net, outputs)
    expected = _expected_names(net, numbers, inputs)
    known = {name for names in expected.values() for name in names}
    made = {name: node for node in model.graph.node for name in node.output}
    nodes = {node.name: node for node in model.graph.node if node.name}
    found: dict[Place, str] = {}
    for place in computed(net):
        if place not in expected:
            continue
        name = next((name for name in expected[place] if name in made), None)
        node = nodes.get(net.nodes[place[0]].name)
        if name is None and node is not None and place[1] < len(node.output) and node.output[place[1]] not in known:
            name = node.output[place[1]]
        if name is not None:
            found[place] = name
    return found


def _expected_names(net: Net, numbers: Sequence[int], inputs: Mapping[str, Shape]) -> dict[Place, Sequence[str]]:
    """What the exporter may call the value at each place, the likeliest name first."""
    nodes = [net.nodes[number] for number in numbers]
    try:
        writer = Writer(net, nodes, net_shapes(net, nodes, inputs, []), OPSETS[0])
    except ExportError:  # a layer without an ONNX form: the file is of something else, or of an older exporter
        last = {blob: number for number in numbers for blob in net.nodes[number].top_ids}
        return {
            (number, top): [*([name] if last[blob] == number else []), f"{name}__{net.nodes[number].name}"]
            for number in numbers
            for top, blob in enumerate(net.nodes[number].top_ids)
            for name in [net.plan.names[blob]]
        }
    return {place: [value, *writer.builder.aliases(value)] for place, (value, _) in writer.values.items()}


def _run(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], places: Mapping[Place, str], precision: str
) -> dict[Place, np.ndarray]:
    """What the file makes at the places."""
    own = [value.name for value in model.graph.output]
    types = element_types(model)
    names = [name for name in dict.fromkeys(places.values()) if name not in own]
    values = _session_values(model, inputs, [name for name in places.values() if name in own]) if own else {}
    shown = rounding_model(model)[0] if precision == "float16" else split(model)
    del shown.model.graph.output[:]
    for name in names:
        shown.model.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    if names:
        values |= _session_values(shown, inputs, names)
    return {place: values[name].astype(np.float32, copy=False) for place, name in places.items()}


def _session_values(
    model: onnx.ModelProto | Parts, inputs: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
    session = open_session(model)
    given = {name: np.asarray(inputs[name], value.kind) for name, value in session.inputs.items()}
    found = session(given)
    return {name: found[name] for name in names}
