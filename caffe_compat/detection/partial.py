"""What a test has found so far, in a file that grows by one record an image; a run that ended early goes on from it.

The file begins with the settings of the run.  A record is its length and CRC-32, the key of its image (all that the
result depends on, by content), the number of boxes of each class, and the boxes.  What a killed run left of a last
record is dropped; so is everything if the settings are others, and every record from the first on whose image is not
the same any more, because thresholds follow from the images before.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.errors import MissingFileError
from caffe_compat.files import append_part, open_existing, write_file
from caffe_compat.stamps import stamp_text

__all__ = ["PartialResults"]

_MAGIC = b"caffe_compat detections 1\n"
_HEAD = struct.Struct("<II")


class PartialResults:
    """Such a file.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them.
        classes: how many, without the background.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], classes: int) -> None:
        self.path, self.classes = Path(path), classes
        self._begin = _MAGIC + _record(stamp_text(settings).encode())
        self._held: list[tuple[str, list[np.ndarray]]] = []
        self._sizes: list[int] = []
        self._read()

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: int) -> tuple[str, list[np.ndarray]]:
        """Key and boxes, float32 [n, 5] of each class, of one image."""
        return self._held[index]

    def cut(self, count: int) -> None:
        """Forget all records after the first ``count``."""
        del self._held[count:], self._sizes[count:]

    def append(self, key: str, found: Sequence[np.ndarray]) -> None:
        """Write the boxes of the next image.

        Args:
            key: up to 40 ASCII letters.
            found: float32 [n, 5] of each class.

        Raises:
            WriteError: it cannot be written.
        """
        counts = np.array([len(boxes) for boxes in found], "<i4")
        rows = np.concatenate([np.zeros((0, 5), "<f4"), *found]).astype("<f4")
        data = _record(key.encode().ljust(40) + counts.tobytes() + rows.tobytes())
        if self._held:
            with append_part(self.path, len(self._begin) + sum(self._sizes)) as stream:
                stream.write(data)
        else:
            write_file(self.path, self._begin, data)
        self._sizes.append(len(data))
        self._held.append((key, list(found)))

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
        for payload in _records(data, len(self._begin)):
            counts = np.frombuffer(payload, "<i4", self.classes, 40)
            rows = np.frombuffer(payload, "<f4", offset=40 + counts.nbytes).reshape(-1, 5)
            found = np.split(rows.astype(np.float32), np.cumsum(counts)[:-1])
            self._held.append((payload[:40].decode().strip(), found))
            self._sizes.append(_HEAD.size + len(payload))


def _record(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _records(data: bytes, start: int) -> Iterator[bytes]:
    """The records up to the first that is not whole."""
    while len(data) >= start + _HEAD.size:
        length, check = _HEAD.unpack_from(data, start)
        payload = data[start + _HEAD.size : start + _HEAD.size + length]
        if len(payload) < length or zlib.crc32(payload) != check:
            return
        yield payload
        start += _HEAD.size + length
