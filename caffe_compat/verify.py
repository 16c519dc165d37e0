"""Compare a net layer by layer with a reference, and name the first layer that diverges.

Every layer's tops are looked at right after it ran, so a value that a later in-place layer overwrites counts too.  For
that a reference that runs nets itself gets the net *unrolled*: every in-place top has a name of its own.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat.description import NetDescription, describe_net
from caffe_compat.errors import DataError, ExportError, UsageError, WeightsError, nearest
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.net import BlobNet, Net, Node
from caffe_compat.proto import format_text
from caffe_compat.proto.caffe_pb2 import NetParameter
from caffe_compat.proto.schema import PHASES

__all__ = ["Comparison", "Place", "Row", "compare", "from_module", "from_npz", "from_onnx", "read_npz", "unroll"]

PathLike = str | os.PathLike[str]
Place = tuple[int, int]
"""Number of a layer (Split layers counted) and of one of its tops."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One blob after one layer.

    Attributes:
        absolute: largest absolute difference; infinite for another shape, or NaN or infinity on one side only.
        relative: the same divided by the largest magnitude in the reference.
        note: what else is wrong, such as another shape.
    """

    layer: str
    type: str
    blob: str
    absolute: float
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All rows in the order of the net."""

    rows: tuple[Row, ...]
    tolerance: float

    @property
    def first(self) -> Row | None:
        """The first blob beyond the tolerance; None if there is none."""
        return next((row for row in self.rows if not row.relative <= self.tolerance), None)

    def lines(self) -> list[str]:
        """A table, and the verdict."""
        width = max((len(row.layer) for row in self.rows), default=0)
        blob_width = max((len(row.blob) for row in self.rows), default=0)
        lines = [f"{'layer':<{width}}  {'blob':<{blob_width}}  {'max abs':>9}  {'max rel':>9}"]
        for row in self.rows:
            mark = "" if row.relative <= self.tolerance else "  <- " + (row.note or "beyond the tolerance")
            numbers = f"{row.absolute:9.3g}  {row.relative:9.3g}"
            lines.append(f"{row.layer:<{width}}  {row.blob:<{blob_width}}  {numbers}{mark}")
        first = self.first
        if first is None:
            return [*lines, f"{len(self.rows)} blobs agree within {self.tolerance:g}"]
        return [
            *lines,
            f"first divergence: layer '{first.layer}' ({first.type}), blob '{first.blob}': "
            + (first.note or f"{first.absolute:.3g} absolute, {first.relative:.3g} relative")
            + f" (tolerance {self.tolerance:g})",
        ]


def compare(
    net: Net, inputs: Mapping[str, np.ndarray], reference: Mapping[Place, np.ndarray], tolerance: float = 1e-4
) -> Comparison:
    """Run a net and hold the top of every layer against the reference.

    Args:
        inputs: values for all inputs of the net, of any shapes that it can take.
        reference: values by place; places that it does not have are not compared.
        tolerance: largest difference allowed, relative to the largest magnitude of the blob in the reference.

    Raises:
        DataError: nothing of the reference can be compared.
        CaffeCompatError: the net cannot run on the inputs.
    """
    rows = []
    for number, node, tops in _run(net, inputs):
        for index, values in enumerate(tops):
            wanted = reference.get((number, index))
            if wanted is not None:
                blob = net.plan.names[node.top_ids[index]]
                rows.append(Row(node.name, node.type, blob, *_difference(values, wanted)))
    if not rows:
        raise DataError(f"the reference has no blob that a layer of net '{net.description.name}' computes")
    return Comparison(tuple(rows), tolerance)


def _run(net: Net, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[int, Node, list[np.ndarray]]]:
    """Number, node and copies of the tops of every layer, in-place ones included, right after it ran."""
    engine = BlobNet(net)
    _check_inputs(net, inputs)
    for name, values in inputs.items():
        blob = engine.blob(name)
        blob.reshape(*values.shape)
        blob.data[...] = values
    engine.reshape()
    for number, node in enumerate(net.nodes):
        if node.type == "Input":
            continue
        with torch.no_grad():
            engine.forward_layer(number)
        yield number, node, [engine.blobs[blob].tensor.detach().cpu().numpy().copy() for blob in node.top_ids]


def _check_inputs(net: Net, inputs: Mapping[str, np.ndarray]) -> None:
    for name in net.input_names:
        if name not in inputs:
            raise UsageError(f"there are no values for input '{name}' of net '{net.description.name}'")
    for name in inputs:
        if name not in net.input_names:
            raise UsageError(
                f"net '{net.description.name}' has no input '{name}'{nearest(name, net.input_names)}; it has "
                f"{', '.join(net.input_names) or 'none'}"
            )


def _difference(got: np.ndarray, wanted: np.ndarray) -> tuple[float, float, str]:
    if got.shape != wanted.shape:
        return np.inf, np.inf, f"shape {list(got.shape)}, the reference has {list(wanted.shape)}"
    mine, theirs = got.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        apart = np.where(same, 0.0, np.abs(mine - theirs))
    absolute = float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))
    largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0))
    return absolute, absolute / largest if largest else absolute, ""


# -- nets without in-place layers ---------------------------------------------------------------------------------


def unroll(description: NetDescription) -> tuple[Any, dict[Place, str]]:
    """The same net without in-place layers, Split layers written out.

    Returns:
        A ``NetParameter`` with as many layers, and the name of the blob at every place.
    """
    message = NetParameter(name=description.name)
    current: dict[str, str] = {}
    taken = {top for layer in description.layers for top in layer.tops}
    places: dict[Place, str] = {}
    for number, layer in enumerate(description.layers):
        copy = message.layer.add()
        copy.CopyFrom(layer.message)
        for field in ("bottom", "top", "loss_weight", "include", "exclude"):
            copy.ClearField(field)
        copy.loss_weight.extend(layer.loss_weights)
        copy.phase = PHASES.index(layer.phase)
        copy.bottom.extend(current[bottom] for bottom in layer.bottoms)
        for index, top in enumerate(layer.tops):
            name = top
            if top in current:
                name = f"{top}@{layer.name}"
                while name in taken:
                    name += "+"
                taken.add(name)
            current[top] = places[number, index] = name
            copy.top.append(name)
    return message, places


# -- references ----------------------------------------------------------------------------------------------------


def read_npz(path: PathLike) -> Arrays:
    """The arrays of an ``.npz`` file; nothing in it is executed.

    Raises:
        MissingFileError: no such file.
        DataError: it is no such file, or holds Python objects.
    """
    with open_existing(path, "reference") as stream:
        if stream.read(2) != b"PK":
            raise DataError(f"{os.fspath(path)}: is no .npz file")
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{os.fspath(path)}: is no .npz file of plain arrays: {error}") from error


def from_npz(net: Net, path: PathLike) -> tuple[Arrays, dict[Place, np.ndarray]]:
    """Inputs and reference values of a file.

    Its arrays are ``in/BLOB`` (inputs), ``out/BLOB`` or plain ``BLOB`` (values at the end), ``after/LAYER/BLOB``
    (values right after that layer) and ``param/LAYER/INDEX`` (written into the net); others are left alone.  That is
    the form of the golden cases.

    Raises:
        DataError: the file cannot be read.
        WeightsError: parameters that the net does not have.
    """
    inputs: Arrays = {}
    values: dict[Place, np.ndarray] = {}
    last = {blob: (n, t) for n, node in enumerate(net.nodes) for t, blob in enumerate(node.top_ids)}
    final = {net.plan.names[blob]: place for blob, place in last.items()}
    after = {
        f"after/{node.name}/{net.plan.names[blob]}": (n, t)
        for n, node in enumerate(net.nodes)
        for t, blob in enumerate(node.top_ids)
    }
    for name, array in read_npz(path).items():
        if name.startswith("param/"):
            _write_param(net, f"{os.fspath(path)}: {name}", name.removeprefix("param/"), array)
        elif name in after:
            values[after[name]] = array
        elif (blob := name.removeprefix("out/")) in final and blob not in net.input_names:
            values.setdefault(final[blob], array)
        elif (blob := name.removeprefix("in/")) in net.input_names:
            inputs[blob] = array
    return inputs, values


def _write_param(net: Net, what: str, name: str, array: np.ndarray) -> None:
    layer_name, _, index = name.rpartition("/")
    found = [node.layer for node in net.nodes if node.name == layer_name and node.layer.blobs]
    if not found or not index.isdigit() or int(index) >= len(found[-1].blobs):
        raise WeightsError(f"{what}: net '{net.description.name}' has no such parameter")
    place = found[-1].blob(int(index))
    if array.shape != tuple(place.shape):
        raise WeightsError(f"{what} has the shape {list(array.shape)}, expected {list(place.shape)}")
    with torch.no_grad():
        place.copy_(torch.from_numpy(np.asarray(array, np.float32)))


def from_onnx(net: Net, inputs: Mapping[str, np.ndarray]) -> dict[Place, np.ndarray]:
    """What ONNX Runtime computes from the exported net.

    Raises:
        ExportError: a layer has no ONNX form.
    """
    from caffe_compat.onnx.export import RENAMED, export_onnx
    from caffe_compat.onnx.runtime import Session

    _check_inputs(net, inputs)
    message, places = unroll(net.description)
    blobs = {node.name: range(len(node.layer.blobs)) for node in net.nodes}
    flat = Net(describe_net(message, net.description.state, source=net.description.source), blobs)
    for mine, theirs in zip(net.nodes, flat.nodes, strict=True):
        for index, parameter in enumerate(mine.layer.blobs):
            theirs.layer.replace_blob(index, parameter)
    wanted = _computed(net, places)
    shapes = {name: tuple(values.shape) for name, values in inputs.items()}
    model = export_onnx(flat, inputs=shapes, outputs=list(wanted.values()), dynamic=())
    renamed = _renamed(model, RENAMED)
    session = Session(model)
    try:
        results = session({name: inputs[name] for name in session.input_names})
    except RuntimeError as error:
        raise ExportError(f"ONNX Runtime cannot run net '{net.description.name}': {error}") from error
    named = {renamed.get(name, name): values for name, values in results.items()}
    return {place: named[name] for place, name in wanted.items()}


def _computed(net: Net, places: Mapping[Place, str]) -> dict[Place, str]:
    """Without inputs, and without the copies that Split layers make."""
    return {place: name for place, name in places.items() if net.nodes[place[0]].type not in ("Input", "Split")}


def _renamed(model: Any, key: str) -> dict[str, str]:
    import json

    return next((dict(json.loads(entry.value)) for entry in model.metadata_props if entry.key == key), {})


def from_module(
    net: Net, inputs: Mapping[str, np.ndarray], module: str, weights: Sequence[PathLike] = ()
) -> dict[Place, np.ndarray]:
    """What another module with pycaffe's interface (``caffe``, for one) computes.

    Args:
        module: its name, as for ``import``.
        weights: files that it reads for itself; without any it gets the net's weights as they are.

    Raises:
        UsageError: the module cannot be imported, or fails on the net.
    """
    _check_inputs(net, inputs)
    message, places = unroll(net.description)
    with tempfile.TemporaryDirectory() as folder:
        prototxt, saved = Path(folder) / "unrolled.prototxt", Path(folder) / "weights.caffemodel"
        with atomic_write(prototxt, "w") as stream:
            stream.write(format_text(message))
        if not weights:
            net.save(saved)
        files = [os.path.abspath(path) for path in weights] or [str(saved)]
        try:
            other = importlib.import_module(module)
            blobs = _run_module(other, str(prototxt), files, inputs)
            return {place: np.array(blobs[name].data) for place, name in _computed(net, places).items()}
        except Exception as error:  # a foreign module may raise anything
            raise UsageError(f"module '{module}' failed: {type(error).__name__}: {error}") from error


def _run_module(module: Any, prototxt: str, weights: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Any:
    net = module.Net(prototxt, module.TEST)
    for file in weights:
        net.copy_from(file)
    for name, values in inputs.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.reshape()
    net.forward()
    return net.blobs
