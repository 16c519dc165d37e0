"""Weights (``.caffemodel.h5``) and solver states (``.solverstate.h5``) in Caffe's HDF5 layout.

Weights: ``/data/<layer>/<blob index>``, optionally ``/diff/...``.  A layer that shares a blob with an earlier one has
no dataset for it.  States: ``iter``, ``learned_net``, ``current_step``, ``history/<index>``.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import atomic_path, open_existing
from caffe_compat.memory import SMALL, available_memory, human_size
from caffe_compat.proto.state import State
from caffe_compat.proto.wire import MAX_AXES, MAX_COUNT

__all__ = [
    "Hdf5Layer",
    "checked_dataset",
    "open_hdf5",
    "read_hdf5",
    "read_state_hdf5",
    "write_hdf5",
    "write_state_hdf5",
]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PathLike = str | os.PathLike[str]


@dataclass
class Hdf5Layer:
    """One layer: its name and its float32 arrays by blob index (blobs shared with another layer are absent)."""

    name: str
    blobs: dict[int, np.ndarray] = field(default_factory=dict)
    diffs: dict[int, np.ndarray] = field(default_factory=dict)


@contextlib.contextmanager
def open_hdf5(path: PathLike) -> Iterator[Any]:
    """An open h5py file; whatever HDF5 dislikes about it becomes a ModelFileError."""
    import h5py

    _refuse_virtual(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(f"{os.fspath(path)}: not a usable HDF5 file: {error}") from error


def _refuse_virtual(path: PathLike) -> None:
    """Refuse files with virtual datasets, before the HDF5 library sees them: version 2.0.0 crashes on damaged ones
    (``H5S__hyper_deserialize``), and no others keep numbers in other files.

    The layout message of such a dataset ends with the class 3 and the address of a global heap, which starts with
    ``GCOL``.  Weights have no global heap.
    """
    with open_existing(path) as stream:
        if not os.fstat(stream.fileno()).st_size:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            base = max(data.find(_SIGNATURE), 0)
            heaps = {(found.start() - base).to_bytes(8, "little") for found in re.finditer(b"GCOL", data)}
            if heaps and any(found[1] in heaps for found in re.finditer(rb"(?s)\x03(?=(.{8}))", data)):
                raise ModelFileError(f"{os.fspath(path)}: has a virtual dataset, whose numbers are in another file")


def _child(parent: Any, name: str, kind: str, path: PathLike) -> Any:
    """A group or dataset that lies in this very file (links elsewhere are refused)."""
    import h5py

    link = parent.get(name, getlink=True)
    where = f"{os.fspath(path)}: {parent.name.rstrip('/')}/{name}"
    if link is None:
        raise ModelFileError(f"{where} is missing")
    if not isinstance(link, h5py.HardLink):
        raise ModelFileError(f"{where} is a link to somewhere else, expected a {kind}")
    item = parent[name]
    if not isinstance(item, h5py.Group if kind == "group" else h5py.Dataset):
        raise ModelFileError(f"{where} is not a {kind}")
    return item


def checked_dataset(parent: Any, name: str, path: PathLike, kinds: str = "f") -> Any:
    """A dataset of a file opened by :func:`open_hdf5`, that holds all the numbers it claims and fits into memory.

    Args:
        kinds: NumPy's letters for the kinds of numbers allowed, ``"f"`` floats, ``"i"`` and ``"u"`` integers.

    Raises:
        ModelFileError: there is no such dataset, or it cannot be read safely.
    """
    dataset = _child(parent, name, "dataset", path)
    where = f"{os.fspath(path)}: {dataset.name}"
    if dataset.dtype.kind not in kinds:
        expected = "float32 or float64" if kinds == "f" else "floats or integers"
        raise ModelFileError(f"{where} holds {dataset.dtype}, expected {expected}")
    if dataset.shape is None or len(dataset.shape) > MAX_AXES or math.prod(dataset.shape) > MAX_COUNT:
        raise ModelFileError(f"{where} has shape {dataset.shape}, beyond {MAX_AXES} axes or {MAX_COUNT} elements")
    if dataset.external or dataset.is_virtual:
        raise ModelFileError(f"{where} keeps its numbers in another file")
    if not _stored(dataset):
        raise ModelFileError(f"{where} claims shape {dataset.shape}, but its numbers are not stored")
    if 4 * dataset.size > SMALL and 4 * dataset.size > (left := available_memory()):
        needed, free = human_size(4 * dataset.size), human_size(left)
        raise ModelFileError(f"{where} of shape {dataset.shape} needs {needed}, {free} of memory are free")
    return dataset


def _array(parent: Any, name: str, path: PathLike) -> np.ndarray:
    dataset = checked_dataset(parent, name, path)
    array = np.empty(dataset.shape, np.float32)
    if array.size:
        dataset.read_direct(array)
    return array


def _stored(dataset: Any) -> bool:
    """Whether the file holds all numbers; HDF5 makes up what is not there, however large the dataset."""
    if not dataset.size:
        return True
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() >= dataset.size * dataset.dtype.itemsize)
    wanted = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() >= wanted)


def _index(name: str, group: Any, path: PathLike) -> int:
    if not name.isascii() or not name.isdigit() or str(int(name)) != name:
        raise ModelFileError(f"{os.fspath(path)}: {group.name}/{name}: blobs must be named 0, 1, 2, ...")
    return int(name)


def _arrays(group: Any, path: PathLike) -> dict[int, np.ndarray]:
    indices = sorted(_index(name, group, path) for name in group)
    return {index: _array(group, str(index), path) for index in indices}


def read_hdf5(path: PathLike) -> Iterator[Hdf5Layer]:
    """The layers of an HDF5 weights file, one by one, sorted by name as Caffe walks them.

    Raises:
        MissingFileError: no such file.
        ModelFileError: not HDF5, not Caffe's layout, or damaged; with the dataset's path.
    """
    with open_hdf5(path) as file:
        data = _child(file, "data", "group", path)
        diff = _child(file, "diff", "group", path) if "diff" in file else {}
        for name in sorted(data):
            layer = Hdf5Layer(name, _arrays(_child(data, name, "group", path), path))
            if name in diff:
                layer.diffs = _arrays(_child(diff, name, "group", path), path)
            yield layer


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
    import h5py

    name = os.fspath(path)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
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


def read_state_hdf5(path: PathLike) -> State:
    """Read an HDF5 solver state.

    Raises:
        MissingFileError: no such file.
        ModelFileError: not HDF5, not Caffe's layout, or damaged.
    """
    with open_hdf5(path) as file:
        state = State(_integer(file, "iter", path), current_step=_integer(file, "current_step", path))
        if "learned_net" in file:
            raw = _child(file, "learned_net", "dataset", path)[()]
            if not isinstance(raw, bytes | str):
                raise ModelFileError(f"{os.fspath(path)}: /learned_net is not a string")
            state.learned_net = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
        arrays = _arrays(_child(file, "history", "group", path), path)
        if list(arrays) != list(range(len(arrays))):
            raise ModelFileError(f"{os.fspath(path)}: /history holds {list(arrays)}, expected 0 to {len(arrays) - 1}")
        state.history = list(arrays.values())
    return state


def _integer(file: Any, name: str, path: PathLike) -> int:
    dataset = _child(file, name, "dataset", path)
    if dataset.dtype.kind not in "iu" or dataset.size != 1:
        raise ModelFileError(f"{os.fspath(path)}: /{name} must be one integer")
    value = int(np.asarray(dataset[()]).reshape(-1)[0])
    if value < 0:
        raise ModelFileError(f"{os.fspath(path)}: /{name} is {value}, expected 0 or more")
    return value


def write_state_hdf5(path: PathLike, state: State) -> None:
    """Write an HDF5 solver state that BVLC Caffe reads."""
    import h5py

    learned = state.learned_net.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(learned))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("iter", data=np.array([state.iter], np.int32))
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5d.create(file.id, b"learned_net", kind, space).write(space, space, np.array(learned), kind)
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=np.asarray(array, np.float32))
