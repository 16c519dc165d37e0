"""Weights into nets and out of them: by layer name, with Caffe's checks.

Source: BVLC Caffe 1.0, ``Net::CopyTrainedLayersFrom``, ``ToProto``, ``ToHDF5``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from caffe_compat import log
from caffe_compat.errors import WeightsError
from caffe_compat.layers import Layer, Shape
from caffe_compat.memory import human_size
from caffe_compat.net.plan import Node, Plan
from caffe_compat.net.staging import read_staged
from caffe_compat.proto import caffe_pb2, hdf5
from caffe_compat.proto import weights as binary
from caffe_compat.proto.blob import Blob, read_all
from caffe_compat.proto.mapping import map_blobs, map_places
from caffe_compat.proto.schema import PHASES

__all__ = ["blobs_in", "copy_from", "is_nothing", "save", "save_hdf5", "share"]

PathLike = str | os.PathLike[str]


def is_nothing(path: PathLike) -> bool:
    """Whether a path is the null device, with which Caffe's users say that there are no weights."""
    return os.fspath(path) == os.devnull


def blobs_in(paths: Iterable[PathLike]) -> dict[str, set[int]]:
    """Which blobs (by layer name) weights files hold, so that their fillers need not run."""
    found: dict[str, set[int]] = {}
    for path in paths:
        if is_nothing(path):
            continue
        if binary.is_hdf5(path):
            with hdf5.open_weights(path) as layers:
                for layer in layers:
                    found.setdefault(layer.name, set()).update(layer.indices)
        else:
            for source in binary.scan(path).layers:
                found.setdefault(source.name, set()).update(range(len(source.blobs)))
    return found


def copy_from(plan: Plan, path: PathLike, mapped: bool = False) -> list[str]:
    """Copy weights by layer name; returns the names of source layers that the net does not have.

    Parameters on a GPU are read through pinned memory (:mod:`caffe_compat.net.staging`), without a copy in between.

    Args:
        mapped: let parameters be a private mapping of the file instead (:mod:`caffe_compat.proto.mapping`), where its
            numbers stand so that they can; a warning says how many could not, and were copied.  The parameters are
            given new memory, so that no other net may share theirs.

    Raises:
        WeightsError: number or shape of blobs differ; names file, layer and blob.
        ModelFileError: the file cannot be read, or not be mapped.
    """
    if is_nothing(path):
        return []
    if binary.is_hdf5(path):
        return _copy_hdf5(plan, path, mapped)
    targets: dict[str, Node] = {}
    for node in plan.nodes:
        targets.setdefault(node.name, node)
    model = binary.scan(path)
    known = [(source, targets[source.name]) for source in model.layers if source.name in targets]
    found = [(source, node) for source, node in known if not node.layer.takes_blobs]
    for source, _ in known:
        for blob in source.blobs:
            blob.check()
    for source, node in found:  # everything is checked before anything is written
        _check_blobs(path, node, [(blob.shape, blob.legacy) for blob in source.blobs])
    pairs = [pair for source, node in found for pair in zip(source.blobs, node.layer.blobs, strict=True)]
    with torch.no_grad():
        for source, node in known:
            if node.layer.takes_blobs:
                _hand_over(path, node, source.blobs)
        _read_blobs(path, pairs, mapped)
        for blob, parameter in pairs:
            if blob.has_diff:
                parameter.grad = torch.from_numpy(blob.diff()).view(parameter.shape).to(parameter.device)
    return [source.name for source in model.layers if source.name not in targets]


def _hand_over(path: PathLike, node: Node, blobs: Sequence[Blob]) -> None:
    """To a layer that takes blobs itself."""
    try:
        node.layer.take_blobs([blob.read().reshape(blob.shape) for blob in blobs])
    except ValueError as error:
        raise WeightsError(f"{path}: layer '{node.name}' ({node.type}): {error}") from error


def _read_blobs(path: PathLike, pairs: Sequence[tuple[Blob, nn.Parameter]], mapped: bool) -> None:
    last = {parameter.data_ptr(): blob for blob, parameter in pairs}  # of those that share memory the last one counts
    pairs = [(blob, parameter) for blob, parameter in pairs if last[parameter.data_ptr()] is blob]
    if mapped:
        views = map_blobs([blob for blob, _ in pairs])
        _map(path, [parameter for _, parameter in pairs], views)
        pairs = [pair for pair, view in zip(pairs, views, strict=True) if view is None]
    here = [(blob, parameter) for blob, parameter in pairs if _in_place(parameter)]
    read_all([(blob, parameter.detach().numpy().reshape(-1)) for blob, parameter in here])
    for device in {parameter.device for _, parameter in pairs if _stages(parameter)}:
        read_staged([(blob, parameter) for blob, parameter in pairs if parameter.device == device])
    for blob, parameter in pairs:
        if not _in_place(parameter) and not _stages(parameter):
            parameter.copy_(torch.from_numpy(blob.read()).view(parameter.shape))


def _map(path: PathLike, parameters: Sequence[nn.Parameter], views: Sequence[np.ndarray | None]) -> None:
    """Let parameters be what is mapped, and tell what could not be."""
    copied = [parameter for parameter, view in zip(parameters, views, strict=True) if view is None]
    for parameter, view in zip(parameters, views, strict=True):
        if view is not None:
            parameter.data = torch.from_numpy(view).view(parameter.shape)
    if size := sum(4 * parameter.numel() for parameter in copied):
        log.warning(
            f"{os.fspath(path)}: {len(copied)} of {len(parameters)} blobs, {human_size(size)}, cannot be mapped and "
            "were copied: their numbers do not begin at a multiple of 4 bytes, or are no float32 in one run; "
            "net.save(path, aligned=True) writes a file of which all can be",
            "weights.py:0",
        )


def _in_place(parameter: nn.Parameter) -> bool:
    """Whether a file can be read straight into its memory."""
    return parameter.device.type == "cpu" and _plain(parameter)


def _stages(parameter: nn.Parameter) -> bool:
    """Whether a file can be read into it through pinned memory."""
    return parameter.device.type == "cuda" and _plain(parameter)


def _plain(parameter: nn.Parameter) -> bool:
    return parameter.is_contiguous() and parameter.dtype == torch.float32


def _check_blobs(path: PathLike, node: Node, sources: Sequence[tuple[Shape, bool]]) -> None:
    layer = node.layer
    who = f"{path}: layer '{node.name}' ({node.type})"
    if len(sources) != len(layer.blobs):
        raise WeightsError(
            f"{who}: incompatible number of blobs, the file has {len(sources)}, the net has {len(layer.blobs)}"
        )
    for index, ((shape, legacy), target) in enumerate(zip(sources, layer.blob_shapes, strict=True)):
        expected = (1,) * (len(shape) - len(target)) + target if legacy else target
        if _is_vector(layer, shape, target) or (legacy and _without_length(shape) == target):
            continue
        if shape != expected or (legacy and len(target) > len(shape)):
            raise WeightsError(
                f"{who}: cannot copy blob {index}: shape mismatch, the file has {list(shape)}, the net has "
                f"{list(target)}; to learn this layer from scratch, rename it"
            )


def _is_vector(layer: Layer, shape: Shape, target: Shape) -> bool:
    """Whether the shapes are one vector's, of a layer whose forks write it with different axes of size 1."""
    sizes = [n for n in target if n != 1]
    return layer.vector_blobs and len(sizes) < 2 and [n for n in shape if n != 1] == sizes


def _without_length(shape: Shape) -> Shape:
    """The shape of C3D's filters over height and width alone, which have a length of 1, as others write it."""
    return (*shape[:2], *shape[3:]) if len(shape) == 5 and shape[2] == 1 else shape


def _copy_hdf5(plan: Plan, path: PathLike, mapped: bool) -> list[str]:
    targets = {node.name: number for number, node in enumerate(plan.nodes)}
    with hdf5.open_weights(path) as layers, torch.no_grad():
        found = [source for source in layers if source.name in targets]
        for source in found:  # everything is checked before anything is written
            _check_datasets(plan, targets[source.name], source)
        items = [
            (source, index, parameter)
            for source in found
            for index, parameter in enumerate(plan.nodes[targets[source.name]].layer.blobs)
            if index in source.indices
        ]
        if mapped:
            views = map_places(path, [(source.place(index), source.dataset(index).size) for source, index, _ in items])
            _map(path, [parameter for *_, parameter in items], views)
            items = [item for item, view in zip(items, views, strict=True) if view is None]
        for source, index, parameter in items:
            _read_dataset(source, index, parameter)
        return [source.name for source in layers if source.name not in targets]


def _check_datasets(plan: Plan, number: int, source: hdf5.StoredLayer) -> None:
    node = plan.nodes[number]
    who = f"{source.path}: layer '{node.name}' ({node.type})"
    have, wanted = len(source.indices), len(node.layer.blobs)
    if have > wanted:
        raise WeightsError(f"{who}: incompatible number of blobs, the file has {have}, the net has {wanted}")
    for index, target in enumerate(node.layer.blob_shapes):
        if index not in source.indices:
            if (number, index) in plan.shared:
                continue
            raise WeightsError(f"{who}: the file has no dataset for blob {index}")
        shape = source.dataset(index).shape
        if shape != target and not _is_vector(node.layer, shape, target):
            raise WeightsError(
                f"{who}: cannot copy blob {index}: shape mismatch, the file has {list(shape)}, the net has "
                f"{list(target)}"
            )


def _read_dataset(source: hdf5.StoredLayer, index: int, parameter: nn.Parameter) -> None:
    values = parameter.detach() if _in_place(parameter) else torch.empty(parameter.shape)
    source.read_into(index, values.view(source.dataset(index).shape).numpy())
    if not _in_place(parameter):
        parameter.copy_(values)


def _arrays(node: Node) -> list[np.ndarray]:
    return [node.layer.blob(index).detach().cpu().numpy() for index in range(len(node.layer.blobs))]


def _diffs(node: Node) -> list[np.ndarray]:
    result = []
    for parameter, shape in zip(node.layer.blobs, node.layer.blob_shapes, strict=True):
        grad = parameter.grad
        result.append(np.zeros(shape, np.float32) if grad is None else grad.cpu().numpy().reshape(shape))
    return result


def _message(node: Node) -> Any:
    """The LayerParameter that Caffe would save: as in the prototxt, with what set-up added."""
    message = caffe_pb2.LayerParameter()
    message.CopyFrom(node.description.message)
    del message.bottom[:], message.top[:], message.blobs[:], message.loss_weight[:]
    message.bottom.extend(node.description.bottoms)
    message.top.extend(node.description.tops)
    weights = node.description.loss_weights or ((node.loss_weights[0],) if node.layer.default_loss_weight else ())
    message.loss_weight.extend(weights)
    message.phase = PHASES.index(node.description.phase)
    for parameter in node.layer.blobs[len(message.param) :] if node.layer.gathers else ():
        del parameter
        message.param.add(lr_mult=0.0)
    return message


def save(plan: Plan, path: PathLike, diffs: bool = False, aligned: bool = False) -> None:
    """Write a binary ``.caffemodel``; see :func:`caffe_compat.proto.weights.write` for ``aligned``."""
    layers = [(_message(node), _arrays(node), _diffs(node) if diffs else None) for node in plan.nodes]
    binary.write(path, plan.description.name, layers, aligned)


def save_hdf5(plan: Plan, path: PathLike, diffs: bool = False) -> None:
    """Write a ``.caffemodel.h5``: what each layer owns, and the gradients of all if asked.

    Raises:
        ModelFileError: HDF5 cannot name the layers (duplicate names, or a ``/`` in a name), as in Caffe.
    """
    data = [
        (node.name, {i: a for i, a in enumerate(_arrays(node)) if (number, i) not in plan.shared})
        for number, node in enumerate(plan.nodes)
    ]
    grads = [(node.name, dict(enumerate(_diffs(node)))) for node in plan.nodes] if diffs else None
    hdf5.write_hdf5(path, data, grads)


def share(plan: Plan, other: Plan) -> None:
    """Let the parameters of a net be those of ``other``, by layer name (Caffe's ShareTrainedLayersWith).

    Raises:
        WeightsError: number or shape of blobs differ.
    """
    targets: dict[str, Node] = {}
    for node in plan.nodes:
        targets.setdefault(node.name, node)
    for source in other.nodes:
        if source.name not in targets or targets[source.name].layer is source.layer:
            continue
        node = targets[source.name]
        node.layer.take_over(source.layer)
        _check_blobs(f"net '{other.description.name}'", node, [(shape, False) for shape in source.layer.blob_shapes])
        for index, parameter in enumerate(source.layer.blobs):
            node.layer.replace_blob(index, parameter)
