"""Weights (``.caffemodel.h5``) and solver states (``.solverstate.h5``) in Caffe's HDF5 layout.

Weights: ``/data/<layer>/<blob index>``, optionally ``/diff/...``.  A layer that shares a blob with an earlier one has
no dataset for it.  States: ``iter``, ``learned_net``, ``current_step``, ``history/<index>``;
of the plateau policy ``minimum_loss``, ``iter_last_event``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from caffe_compat import log
from caffe_compat.errors import ModelFileError
from caffe_compat.proto.hdf5_file import checked_dataset, child, create_hdf5, open_hdf5
from caffe_compat.proto.state import SolverState

__all__ = ["Hdf5Layer", "StoredLayer", "open_weights", "read_hdf5", "read_state_hdf5", "write_hdf5", "write_state_hdf5"]

PathLike = str | os.PathLike[str]


@dataclass
class Hdf5Layer:
    """One layer: its name and its float32 arrays by blob index (blobs shared with another layer are absent)."""

    name: str
    blobs: dict[int, np.ndarray] = field(default_factory=dict)
    diffs: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredLayer:
    """One layer of an open weights file; its numbers are read when they are asked for.

    Attributes:
        indices: of the blobs that have a dataset, in order.
    """

    path: PathLike
    name: str
    indices: tuple[int, ...]
    group: Any

    def dataset(self, index: int) -> Any:
        """The checked dataset of a blob."""
        _tell_class()
        return checked_dataset(self.group, str(index), self.path)

    def place(self, index: int) -> int | None:
        """Byte of the file at which the numbers of a blob begin, where they stand there as memory holds them."""
        dataset = self.dataset(index)
        plain = dataset.chunks is None and dataset.dtype == np.dtype("<f4") and sys.byteorder == "little"
        offset = dataset.id.get_offset() if plain and dataset.size else None
        return None if offset is None else int(offset)

    def read_into(self, index: int, array: np.ndarray) -> None:
        """Fill a C-contiguous float32 array of as many elements."""
        if array.size:
            dataset = self.dataset(index)
            dataset.read_direct(array.reshape(dataset.shape))


@functools.cache
def _tell_class() -> None:
    """Caffe says it once in a process."""
    log.info("Datatype class: H5T_FLOAT", "hdf5.cpp:32")


def _read(dataset: Any) -> np.ndarray:
    array = np.empty(dataset.shape, np.float32)
    if array.size:
        dataset.read_direct(array)
    return array


def _index(name: str, group: Any, path: PathLike) -> int:
    if not name.isascii() or not name.isdigit() or len(name) > 9 or str(int(name)) != name:
        raise ModelFileError(f"{os.fspath(path)}: {group.name}/{name}: blobs must be named 0, 1, 2, ...")
    return int(name)


def _indices(group: Any, path: PathLike) -> tuple[int, ...]:
    return tuple(sorted(_index(name, group, path) for name in group))


def _layer(parent: Any, name: str, path: PathLike) -> StoredLayer:
    group = child(parent, name, "group", path)
    return StoredLayer(path, name, _indices(group, path), group)


def _arrays(layer: StoredLayer) -> dict[int, np.ndarray]:
    return {index: _read(layer.dataset(index)) for index in layer.indices}


@contextlib.contextmanager
def open_weights(path: PathLike) -> Iterator[list[StoredLayer]]:
    """The layers of an HDF5 weights file, sorted by name as Caffe walks them; nothing but names is read.

    Raises:
        MissingFileError: no such file.
        ModelFileError: not HDF5, not Caffe's layout, or damaged; with the dataset's path.
    """
    with open_hdf5(path) as file:
        data = child(file, "data", "group", path)
        yield [_layer(data, name, path) for name in sorted(data)]


def read_hdf5(path: PathLike) -> Iterator[Hdf5Layer]:
    """The layers of an HDF5 weights file with their numbers, one by one, sorted by name as Caffe walks them.

    Raises:
        MissingFileError: no such file.
        ModelFileError: not HDF5, not Caffe's layout, or damaged; with the dataset's path.
    """
    with open_hdf5(path) as file:
        data = child(file, "data", "group", path)
        diff = child(file, "diff", "group", path) if "diff" in file else {}
        for name in sorted(data):
            diffs = _arrays(_layer(diff, name, path)) if name in diff else {}
            yield Hdf5Layer(name, _arrays(_layer(data, name, path)), diffs)


def write_hdf5(
    path: PathLike,
    layers: Iterable[tuple[str, Mapping[int, np.ndarray]]],
    diffs: Iterable[tuple[str, Mapping[int, np.ndarray]]] | None = None,
) -> None:
    """Write an HDF5 weights file that BVLC Caffe reads.

    Args:
        path: the file.
        layers: (layer name, arrays by blob index) in any order.  Caffe lists every layer, also those without blobs,
            and leaves out blobs that a layer shares with an earlier one.
        diffs: the same for gradients.

    Raises:
        ModelFileError: two layers of one name, or a name with '/', neither of which the format can hold.
    """
    name = os.fspath(path)
    with create_hdf5(path) as file:
        for group_name, items in (("data", layers), ("diff", diffs)):
            if items is None:
                continue
            group = file.create_group(group_name)
            for layer, arrays in items:
                if not layer or "/" in layer or layer == "." or layer in group:
                    reason = "appears twice" if layer and layer in group else "is not a name that HDF5 weights can hold"
                    raise ModelFileError(f"{name}: layer '{layer}' {reason}; save a binary caffemodel instead")
                target = group.create_group(layer)
                for index, array in arrays.items():
                    target.create_dataset(str(index), data=np.asarray(array, np.float32))


def read_state_hdf5(path: PathLike) -> SolverState:
    """Read an HDF5 solver state.

    Raises:
        MissingFileError: no such file.
        ModelFileError: not HDF5, not Caffe's layout, or damaged.
    """
    with open_hdf5(path) as file:
        learned = ""
        if "learned_net" in file:
            raw = child(file, "learned_net", "dataset", path)[()]
            if not isinstance(raw, bytes | str):
                raise ModelFileError(f"{os.fspath(path)}: /learned_net is not a string")
            learned = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
        arrays = _arrays(_layer(file, "history", path))
        if list(arrays) != list(range(len(arrays))):
            raise ModelFileError(f"{os.fspath(path)}: /history holds {list(arrays)}, expected 0 to {len(arrays) - 1}")
        step = _integer(file, "current_step", path)
        plateau, scale = _plateau(file, path), _loss_scale(file, path)
        return SolverState(_integer(file, "iter", path), learned, step, tuple(arrays.values()), plateau, scale)


def _plateau(file: Any, path: PathLike) -> tuple[float, int] | None:
    """What the plateau policy of weiliu89/caffe remembers, if it is there."""
    if "minimum_loss" not in file:
        return None
    least = child(file, "minimum_loss", "dataset", path)
    if least.dtype.kind != "f" or least.size != 1:
        raise ModelFileError(f"{os.fspath(path)}: /minimum_loss must be one number")
    return float(np.asarray(least[()]).reshape(-1)[0]), _integer(file, "iter_last_event", path)


def _loss_scale(file: Any, path: PathLike) -> tuple[float, int] | None:
    if "loss_scale" not in file:
        return None
    dataset = child(file, "loss_scale", "dataset", path)
    scale = float(np.asarray(dataset[()]).reshape(-1)[0]) if dataset.dtype.kind == "f" and dataset.size == 1 else 0.0
    if not 0 < scale < np.inf:
        raise ModelFileError(f"{os.fspath(path)}: /loss_scale must be one positive number")
    return scale, _integer(file, "loss_scale_steps", path)


def _integer(file: Any, name: str, path: PathLike) -> int:
    dataset = child(file, name, "dataset", path)
    if dataset.dtype.kind not in "iu" or dataset.size != 1:
        raise ModelFileError(f"{os.fspath(path)}: /{name} must be one integer")
    value = int(np.asarray(dataset[()]).reshape(-1)[0])
    if value < 0:
        raise ModelFileError(f"{os.fspath(path)}: /{name} is {value}, expected 0 or more")
    return value


def write_state_hdf5(path: PathLike, state: SolverState) -> None:
    """Write an HDF5 solver state that BVLC Caffe reads."""
    learned = state.learned_net.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(learned))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    with create_hdf5(path) as file:
        file.create_dataset("iter", data=np.array([state.iter], np.int32))
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5d.create(file.id, b"learned_net", kind, space).write(space, space, np.array(learned), kind)
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        if state.plateau is not None:
            file.create_dataset("minimum_loss", data=np.array([state.plateau[0]], np.float32))
            file.create_dataset("iter_last_event", data=np.array([state.plateau[1]], np.int32))
        if state.loss_scale is not None:
            scale, steps = state.loss_scale
            file.create_dataset("loss_scale", data=np.array([scale], np.float32))
            file.create_dataset("loss_scale_steps", data=np.array([steps], np.int32))
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=np.asarray(array, np.float32))
