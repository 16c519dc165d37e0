"""What a run over many pictures has found so far, in a file that grows by a record a picture.

A run that ended early goes on from it.  The file begins with the settings of the run; a record is the key of a picture
(all that its result depends on, by content), a JSON object and arrays.  What a killed run left of a last record is
dropped, and all of it if the settings are others.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.errors import MissingFileError
from caffe_compat.files import append_part, open_existing, write_file
from caffe_compat.stamps import stamp_text

__all__ = ["Journal"]

_MAGIC = b"caffe_compat pictures 1\n"
_HEAD = struct.Struct("<III")  # bytes of the text, bytes of the arrays, CRC-32 of both

Record = tuple[dict[str, Any], dict[str, np.ndarray]]


class Journal:
    """Such a file.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        text = stamp_text(settings).encode()
        self._begin = _MAGIC + struct.pack("<II", len(text), zlib.crc32(text)) + text
        self._held: dict[str, Record] = {}
        self._size = 0
        self._read()

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
        body = text + packed.getvalue()
        data = _HEAD.pack(len(text), len(body) - len(text), zlib.crc32(body)) + body
        if self._size:
            with append_part(self.path, self._size) as stream:
                stream.write(data)
            self._size += len(data)
        else:
            write_file(self.path, self._begin, data)
            self._size = len(self._begin) + len(data)
        self._held[key] = (dict(record), dict(arrays))

    def remove(self) -> None:
        """There is a result: the file is not needed any more."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            with open_existing(self.path) as stream:
                data = stream.read()
        except MissingFileError:
            return
        if not data.startswith(self._begin):
            return
        self._size = len(self._begin)
        for text, packed in _records(data, len(self._begin)):
            told = json.loads(text)
            arrays: dict[str, np.ndarray] = {}
            if packed:
                with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
            self._held[told["key"]] = (told["record"], arrays)
            self._size += _HEAD.size + len(text) + len(packed)


def _records(data: bytes, start: int) -> Iterator[tuple[bytes, bytes]]:
    """The records up to the first that is not whole."""
    while len(data) >= start + _HEAD.size:
        first, second, check = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        body = data[start : start + first + second]
        if len(body) < first + second or zlib.crc32(body) != check:
            return
        yield body[:first], body[first:]
        start += first + second
