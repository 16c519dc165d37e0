"""Archives of plain arrays (``.npz``) that somebody else may have written: nothing in them is executed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence

import numpy as np

from caffe_compat.errors import DataError, one_line
from caffe_compat.files import ZIP_ERRORS, open_existing
from caffe_compat.memory import LIFT, available_memory, human_size, limits_apply

__all__ = ["read_npz"]

_UNREADABLE = (*ZIP_ERRORS, MemoryError, TypeError, SyntaxError, ArithmeticError)
"""What numpy raises besides for damaged headers."""


def read_npz(path: str | os.PathLike[str], why: str, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file.

    Args:
        path: the file.
        why: what it is wanted for, named where it is missing.
        names: only these are read, of which those come that are there; None: all.

    Raises:
        MissingFileError: no such file.
        DataError: no archive of plain arrays, or one that unpacks to more than there is memory.
    """
    with open_existing(path, why) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                claimed = sum(entry.file_size for entry in archive.infolist())
            if limits_apply() and claimed > available_memory():
                raise DataError(f"{os.fspath(path)}: holds {human_size(claimed)}, more than there is memory ({LIFT})")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as stored:
                return {name: np.asarray(stored[name]) for name in stored.files if names is None or name in names}
        except _UNREADABLE as error:
            raise DataError(f"{os.fspath(path)}: is no .npz file of plain arrays: {one_line(error)}") from error
