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
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.record_file import RecordFile, framed, rank_file, rank_files
from caffe_compat.stamps import stamp_text

__all__ = ["Journal"]

_MAGIC = b"caffe_compat pictures 2\n"
_TEXT = struct.Struct("<I")  # bytes of a record's text; arrays follow it

Record = tuple[dict[str, Any], dict[str, np.ndarray]]


class Journal:
    """Such a file, or of several processes this one's, which knows what stands in those of the others.

    That of rank 0 has the name that is given, that of rank 2 a 2 behind it; so with another number of processes, or
    with one, a run goes on all the same.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them.
        rank: which process this is.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], rank: int = 0) -> None:
        self._base, self._begin = Path(path), _MAGIC + framed(stamp_text(settings).encode())
        self._file = RecordFile(rank_file(path, rank), self._begin)
        self.path = self._file.path
        self._held: dict[str, Record] = dict(map(_parse, self._file.read()))
        self.read_others()

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

    def read_others(self) -> None:
        """Learn what the other processes have found until now."""
        for path in self._others():
            for key, record in map(_parse, RecordFile(path, self._begin).read()):
                self._held.setdefault(key, record)

    def remove(self) -> None:
        """There is a result: the files are not needed any more."""
        self._file.remove()
        for path in self._others():
            path.unlink(missing_ok=True)

    def _others(self) -> list[Path]:
        return [path for path in rank_files(self._base) if path != self.path]


def _parse(record: bytes) -> tuple[str, Record]:
    end = _TEXT.size + _TEXT.unpack_from(record)[0]
    told = json.loads(record[_TEXT.size : end])
    arrays: dict[str, np.ndarray] = {}
    if len(record) > end:
        with np.load(io.BytesIO(record[end:]), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    return told["key"], (told["record"], arrays)
