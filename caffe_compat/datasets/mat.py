"""Matlab's .mat files, version 5 (SciPy) and 7.3 (HDF5), in one form.

==================  ====================================================================================
Matlab              here
==================  ====================================================================================
numbers             array of Matlab's class, shape (never less than 2-D) and order of indices
logical             bool array
char row, empty     str; a char matrix of several rows is a 1-D array of str, one a row
cell array          object array of Matlab's shape
1 x 1 struct        dict
other struct array  object array of dicts, of Matlab's shape
==================  ====================================================================================

An HDF5 file holds every array with its axes reversed, text as UTF-16 codes, cells and struct arrays as references to
nameless variables, and an empty array as its dimensions under the attribute ``MATLAB_empty``.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque, MatReadError
from scipy.sparse import issparse

from caffe_compat.datasets.mat_proof import prove_v5
from caffe_compat.errors import DataError, ModelFileError, nearest, one_line
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.memory import LIFT, limits_apply
from caffe_compat.proto.hdf5_file import disproportion, is_stored, refuse_virtual

__all__ = ["check_stored", "node_v73", "open_v73", "read_mat", "read_v73", "write_mat"]

_DEEPEST = 32
"""A file whose cells and structs nest deeper than this goes round in circles."""
_NUMBERS = {
    "double": "f8",
    "single": "f4",
    "logical": "?",
    **{f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_OWN = ("#refs#", "#subsystem#")
_UNREADABLE = (  # what SciPy and h5py raise on damaged files
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,  # includes NotImplementedError
    MemoryError,
    NameError,  # SciPy: a variable of a class number that it does not know
    struct.error,
    zlib.error,
    MatReadError,
)


class _Unsupported(Exception):
    """A value of a class that has no form here, such as an object or a function."""


def read_mat(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Variables of a .mat file of version 5 to 7.3.

    Args:
        path: the file.
        names: the variables wanted, only those are read; None: all whose class has a form here.

    Returns:
        Each variable in the form of the table above.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, or damaged; a variable that is not in it, or is of another class (a Map, a function,
            a sparse matrix).
    """
    if _is_v73(path):
        with open_v73(path) as file:
            return {name: value for name in _wanted(file, path, names) for value in _attempt(file, name, names)}
    return _read_v5(path, names)


def open_v73(path: str | os.PathLike[str]) -> h5py.File:
    """Open a .mat file of version 7.3 for reading; the caller closes it (it is a context manager).

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, or truncated.
    """
    if not _is_v73(path):
        with open_existing(path) as stream:
            try:
                held = f"with the variables {', '.join(prove_v5(stream, ())) or '(none)'}"
            except _UNREADABLE as error:
                held = f"and damaged ({one_line(error)})"
        raise DataError(f"{os.fspath(path)}: a Matlab file of version 5 {held}; expected version 7.3 (HDF5)")
    try:
        refuse_virtual(path)
        return h5py.File(os.fspath(path), "r")
    except (*_UNREADABLE, ModelFileError) as error:
        raise DataError(f"{os.fspath(path)}: damaged Matlab file of version 7.3: {one_line(error)}") from error


def read_v73(file: h5py.File, name: str) -> Any:
    """One variable of an open file of version 7.3, in the form of the table above.

    Raises:
        DataError: it is not there, damaged, or of a class that has no form here.
    """
    _wanted(file, file.filename, [name])
    return next(iter(_attempt(file, name, [name])))


_WRITTEN = b"MATLAB 5.0 MAT-file, written by caffe_compat".ljust(116)
"""The text that such a file begins with."""


def write_mat(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write variables as a compressed file of version 5, whole or not at all; the same content gives the same bytes.

    Args:
        path: the file.
        content: as :func:`scipy.io.savemat` takes it: dict = 1 x 1 struct, object array = cell array.
    """
    made = io.BytesIO()
    savemat(made, dict(content), appendmat=False, do_compression=True)
    with atomic_write(path) as stream:
        stream.write(_WRITTEN)  # SciPy's says when
        stream.write(made.getbuffer()[len(_WRITTEN) :])


def _is_v73(path: str | os.PathLike[str]) -> bool:
    with open_existing(path, "Matlab file") as stream:
        head = stream.read(128)
    if h5py.is_hdf5(os.fspath(path)):
        return True
    major = {b"IM": head[125:126], b"MI": head[124:125]}.get(head[126:128])
    if major == b"\x01":
        return False
    if major == b"\x02":
        raise DataError(f"{os.fspath(path)}: truncated Matlab file of version 7.3: no HDF5 after its header")
    raise DataError(f"{os.fspath(path)}: not a Matlab file of version 5 to 7.3 (it begins with {head[:8]!r})")


def _check_present(path: object, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(f"{path}: no variable '{name}'{nearest(name, known)}; it has: {', '.join(known) or 'none'}")


def _read_v5(path: str | os.PathLike[str], names: Sequence[str] | None) -> dict[str, Any]:
    try:
        with open_existing(path) as stream:
            every = prove_v5(stream, names)
            stream.seek(0)
            found = loadmat(stream, mat_dtype=True, variable_names=names)
        found = {name: value for name, value in found.items() if not name.startswith("__")}
        known = list(found) if names is None else every
    except _UNREADABLE as error:
        raise DataError(f"{os.fspath(path)}: damaged Matlab file of version 5: {one_line(error)}") from error
    _check_present(os.fspath(path), names or (), known)
    values = {}
    for name in names or known:
        if isinstance(found[name], str):  # how SciPy reports it
            raise DataError(f"{os.fspath(path)}: variable '{name}' is damaged: {found[name]}")
        try:
            values[name] = _from_scipy(found[name])
        except _Unsupported as error:
            if names is not None:
                raise DataError(f"{os.fspath(path)}: variable '{name}' {error}") from error
    return values


def _from_scipy(value: Any) -> Any:
    if issparse(value) or isinstance(value, MatlabFunction | MatlabObject | MatlabOpaque):
        raise _Unsupported(f"holds a {type(value).__name__}, expected numbers, text, cells or structs")
    if value.dtype.names is not None:
        structs = _objects(value.shape)
        for index in np.ndindex(value.shape):
            structs[index] = {field: _from_scipy(value[index][field]) for field in value.dtype.names}
        return structs.item() if structs.size == 1 else structs
    if value.dtype == object:
        if value.size == 0 and value.ndim == 1:  # a struct without fields
            return {}
        cells = _objects(value.shape)
        for index in np.ndindex(value.shape):
            cells[index] = {} if value[index] is None else _from_scipy(value[index])
        return cells
    if value.dtype.kind == "U":
        return str(value.item()) if value.size == 1 else "" if value.size == 0 else value
    return np.asarray(value, value.dtype.newbyteorder("="))


def _wanted(file: h5py.File, path: str | os.PathLike[str], names: Sequence[str] | None) -> Sequence[str]:
    try:
        known = [name for name in file if name not in _OWN]
        odd = [name for name in known if not isinstance(name, str)]
        if odd:
            raise ValueError(f"{odd[0]!r} is no name of a variable")
    except _UNREADABLE as error:
        raise DataError(f"{os.fspath(path)}: damaged Matlab file of version 7.3: {one_line(error)}") from error
    _check_present(os.fspath(path), names or (), known)
    return known if names is None else names


def _attempt(file: h5py.File, name: str, names: Sequence[str] | None) -> tuple[Any, ...]:
    """The value of a variable; nothing for one without a form here, unless it was asked for."""
    try:
        return (_V73(file).child(file, name, 0),)
    except _Unsupported as error:
        if names is not None:
            raise DataError(f"{file.filename}: variable '{name}' {error}") from error
        return ()
    except _UNREADABLE as error:
        raise DataError(f"{file.filename}: variable '{name}' is damaged: {one_line(error)}") from error


def node_v73(parent: h5py.Group, name: str) -> Any:
    """A group or dataset that lies in this very file, None if there is none.  Matlab links in no other way.

    Raises:
        ValueError: a soft link (which can go round in circles), a link to another file, or numbers kept elsewhere.
    """
    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"'{name}' is a link to somewhere else")
    node = parent[name]
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise ValueError(f"'{name}' keeps its numbers in another file")
    return node


class _V73:
    """Reads variables.  What many cells refer to is read once, so the cost is that of the file, and a cell that holds
    itself is noticed."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._known: dict[int, Any] = {}
        self._open: set[int] = set()

    def child(self, parent: h5py.Group, name: str, depth: int) -> Any:
        """The value of a member."""
        return self.value(self._member(parent, name), depth)

    def _member(self, parent: h5py.Group, name: str) -> Any:
        node = node_v73(parent, name)
        if node is None:
            raise ValueError(f"'{name}' is listed but not there")
        return node

    def value(self, node: Any, depth: int) -> Any:
        """The value of a group or dataset."""
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        address = h5py.h5o.get_info(node.id).addr
        if address in self._open:
            raise ValueError(f"'{node.name}' holds itself")
        if address not in self._known:
            self._open.add(address)
            self._known[address] = self._read(node, depth)
            self._open.discard(address)
        return self._known[address]

    def _read(self, node: Any, depth: int) -> Any:
        kind = node.attrs.get("MATLAB_class", b"")
        kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
        if isinstance(node, h5py.Group):
            if kind != "struct":
                raise _Unsupported(f"is a group of class '{kind}', expected a struct")
            return self._struct(node, depth)
        if not isinstance(node, h5py.Dataset):
            raise _Unsupported(f"is a {type(node).__name__} of HDF5, expected numbers, text, cells or structs")
        if kind not in ("", "cell", "struct", "char", *_NUMBERS):
            raise _Unsupported(f"is of class '{kind}', expected numbers, text, cells or structs")
        check_stored(node)
        data = node[()]
        if node.attrs.get("MATLAB_empty", 0):
            return _empty(kind, tuple(int(size) for size in np.ravel(data)))
        data = np.atleast_2d(np.asarray(data)).T
        if data.dtype == object:
            return self._dereference(data, depth)
        if kind == "char":
            rows = [row.astype("<u2").tobytes().decode("utf-16-le") for row in data]
            return rows[0] if len(rows) == 1 else np.array(rows)
        if data.dtype.names == ("real", "imag"):
            return data["real"] + 1j * data["imag"]
        if data.dtype.kind not in "buif":
            raise _Unsupported(f"is of HDF5 type {data.dtype}, expected numbers, text, cells or structs")
        return np.ascontiguousarray(data, _NUMBERS.get(kind))

    def _dereference(self, data: np.ndarray, depth: int) -> np.ndarray:
        cells = _objects(data.shape)
        for index in np.ndindex(data.shape):
            if not isinstance(data[index], h5py.Reference):
                raise _Unsupported(f"holds {type(data[index]).__name__}, expected references to cells")
            cells[index] = self.value(self._file[data[index]], depth + 1)
        return cells

    def _struct(self, group: h5py.Group, depth: int) -> Any:
        """A group with a member per field: the value, or in a struct array an array of references without a class."""
        members = {field: self._member(group, field) for field in group}
        columns = {field: self.value(member, depth + 1) for field, member in members.items()}
        if not members or any("MATLAB_class" in member.attrs for member in members.values()):
            return columns
        shapes = {np.shape(column) for column in columns.values()}
        if len(shapes) != 1 or any(np.asarray(column).dtype != object for column in columns.values()):
            raise ValueError(f"a struct array whose fields have the shapes {sorted(shapes)}")
        structs = _objects(shapes.pop())
        for index in np.ndindex(structs.shape):
            structs[index] = {field: column[index] for field, column in columns.items()}
        return structs.item() if structs.size == 1 else structs


def check_stored(node: h5py.Dataset) -> None:
    """Refuse a dataset that claims far more numbers than the file holds.

    Raises:
        ValueError: it does.
    """
    if node.shape is None or not is_stored(node):
        raise ValueError(f"'{node.name}' claims the shape {node.shape}, but its numbers are not stored")
    if limits_apply() and (problem := disproportion(node)):
        raise ValueError(f"'{node.name}': {problem}; if the file can be trusted, {LIFT} reads it all the same")


def _empty(kind: str, shape: tuple[int, ...]) -> Any:
    if 0 not in shape:
        raise ValueError(f"an empty array of {' x '.join(map(str, shape))}")
    if kind == "char":
        return ""
    return _objects(shape) if kind in ("cell", "struct") else np.zeros(shape, _NUMBERS.get(kind))


def _objects(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, object)
