"""Values to compare a net with: those of a file, or of another module with pycaffe's interface."""

from __future__ import annotations

import importlib
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat.compare.layers import Place, check_inputs, computed, unroll
from caffe_compat.errors import DataError, UsageError, WeightsError
from caffe_compat.files import ZIP_ERRORS, atomic_write, open_existing
from caffe_compat.net import Net
from caffe_compat.net.plan import walk_shapes
from caffe_compat.proto import format_text

__all__ = ["from_module", "from_npz", "read_npz"]

PathLike = str | os.PathLike[str]
Arrays = dict[str, np.ndarray]


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
        except ZIP_ERRORS as error:
            raise DataError(f"{os.fspath(path)}: is no .npz file of plain arrays: {error}") from error


def from_npz(net: Net, path: PathLike) -> tuple[Arrays, dict[Place, np.ndarray]]:
    """Inputs and reference values of a file.

    Its arrays are ``in/BLOB`` or plain ``BLOB`` (inputs), ``out/BLOB`` or plain ``BLOB`` (values at the end),
    ``after/LAYER/BLOB`` (values right after that layer) and ``param/LAYER/INDEX`` (written into the net); others are
    left alone.  That is the form of the golden cases.

    Raises:
        DataError: the file cannot be read.
        WeightsError: parameters that the net does not have.
    """
    inputs: Arrays = {}
    values: dict[Place, np.ndarray] = {}
    at_the_end: list[tuple[str, np.ndarray]] = []
    final = _final_places(net)
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
        elif (blob := name.removeprefix("out/")) in final and (name != blob or blob not in net.input_names):
            at_the_end.append((blob, array))
        elif (blob := name.removeprefix("in/")) in net.input_names:
            inputs[blob] = array
    for blob, array in at_the_end:
        place, shaped = final[blob]
        values.setdefault(place, array if shaped else _reshaped(net, inputs, place, array))
    return inputs, values


def _final_places(net: Net) -> dict[str, tuple[Place, bool]]:
    """Where each blob gets its value at the end, and whether in its own shape.

    A blob whose buffer was overwritten through another one shows what that layer wrote, in its own shape.
    """
    plan = net.plan
    made: dict[int, Place] = {}
    written: dict[int, Place] = {}
    for number, node in enumerate(net.nodes):
        shared = {share.top for share in node.shares if share.bottom is not None}
        for top, blob in enumerate(node.top_ids):
            made[blob] = (number, top)
            if top not in shared:
                written[plan.buffers[blob]] = (number, top)
    return {
        plan.names[blob]: (written[plan.buffers[blob]], False) if blob in plan.outdated else (place, True)
        for blob, place in made.items()
    }


def _reshaped(net: Net, inputs: Arrays, place: Place, array: np.ndarray) -> np.ndarray:
    """The values of another view of a buffer in the shape of the top at ``place``, if they can have it."""
    known = {blob: tuple(inputs[name].shape) for blob in net.plan.inputs if (name := net.plan.names[blob]) in inputs}
    start = {blob: known.get(blob, net.plan.shapes[blob]) for blob in net.plan.inputs}
    shape = walk_shapes(net.nodes, start)[net.nodes[place[0]].top_ids[place[1]]]
    return array.reshape(shape) if array.size == math.prod(shape) else array


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
    check_inputs(net, inputs)
    message, places = unroll(net, {name: tuple(values.shape) for name, values in inputs.items()})
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
            return {place: np.array(blobs[places[place]].data) for place in computed(net)}
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
