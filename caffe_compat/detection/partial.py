"""What a test has found so far, in a file that grows by one record an image; a run that ended early goes on from it.

The file (see :mod:`caffe_compat.record_file`) begins with the settings of the run.  A record is the key of its image
(all that the result depends on, by content), the number of boxes of each class, and the boxes.  Everything is dropped
if the settings are others, and every record from the first on whose image is not the same any more, because
thresholds follow from the images before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.record_file import RecordFile, framed
from caffe_compat.stamps import stamp_text

__all__ = ["PartialResults"]

_MAGIC = b"caffe_compat detections 1\n"


class PartialResults:
    """Such a file.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them.
        classes: how many, without the background.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], classes: int) -> None:
        self.path, self.classes = Path(path), classes
        self._file = RecordFile(path, _MAGIC + framed(stamp_text(settings).encode()))
        self._held = [self._parse(record) for record in self._file.read()]

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: int) -> tuple[str, list[np.ndarray]]:
        """Key and boxes, float32 [n, 5] of each class, of one image."""
        return self._held[index]

    def cut(self, count: int) -> None:
        """Forget all records after the first ``count``."""
        del self._held[count:]
        self._file.cut(count)

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
        self._file.append(key.encode().ljust(40) + counts.tobytes() + rows.tobytes())
        self._held.append((key, list(found)))

    def remove(self) -> None:
        """There is a result: the file is not needed any more."""
        self._file.remove()

    def _parse(self, record: bytes) -> tuple[str, list[np.ndarray]]:
        counts = np.frombuffer(record, "<i4", self.classes, 40)
        rows = np.frombuffer(record, "<f4", offset=40 + counts.nbytes).reshape(-1, 5)
        return record[:40].decode().strip(), np.split(rows.astype(np.float32), np.cumsum(counts)[:-1])
