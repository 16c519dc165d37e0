"""What a run over many pictures has found so far, in a file that grows by a record a picture.

A run that ended early goes on from it.  The file (see :mod:`caffe_compat.record_file`) begins with the settings of the
run; a record is the key of a picture (all that its result depends on, by content), a JSON object and arrays.  All of it
is dropped if the settings are others.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from caffe_compat.record_file import RecordFile, framed
from caffe_compat.stamps import stamp_text

__all__ = ["Journal"]

_MAGIC = b"caffe_compat pictures 2\n"
_TEXT = struct.Struct("<I")  # bytes of a record's text; arrays follow it

Record = tuple[dict[str, Any], dict[str, np.ndarray]]


class Journal:
    """Such a file.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self._file = RecordFile(path, _MAGIC + framed(stamp_text(settings).encode()))
        self.path = self._file.path
        self._held: dict[str, Record] = dict(map(_parse, self._file.read()))

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Record | None:
        """What was found of a picture; None: it has not been looked at."""
        return self._held.get(key)

    def append(self, key: str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write what was found of a picture.

        Raises:
            WriteError: it cannot be written.
        """
        text = json.dumps({"key": key, "record": dict(record)}).encode()
        packed = io.BytesIO()
        if arrays:
            np.savez(packed, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        self._file.append(_TEXT.pack(len(text)) + text + packed.getvalue())
        self._held[key] = (dict(record), dict(arrays))

    def remove(self) -> None:
        """There is a result: the file is not needed any more."""
        self._file.remove()


def _parse(record: bytes) -> tuple[str, Record]:
    end = _TEXT.size + _TEXT.unpack_from(record)[0]
    told = json.loads(record[_TEXT.size : end])
    arrays: dict[str, np.ndarray] = {}
    if len(record) > end:
        with np.load(io.BytesIO(record[end:]), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    return told["key"], (told["record"], arrays)
