"""A sheet of the surest pictures with what was found in them, which ``infer_onnx`` and ``predict`` write."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.deploy.feed import Sample
from caffe_compat.errors import DataError
from caffe_compat.files import write_file
from caffe_compat.media import encode
from caffe_compat.media.contact import SmallPicture, contact_sheet, fitted
from caffe_compat.media.drawing import draw_boxes

__all__ = ["Sheet"]

_LINES = 5  #: under a picture, at most


@dataclass(frozen=True, eq=False)
class _Entry:
    sample: Sample
    record: Mapping[str, Any]
    small: np.ndarray | None


class Sheet:
    """Keeps the surest of the pictures that it is offered, small.

    Args:
        path: picture to write, .png or .jpg.
        most: pictures on it.
        overwrite: replace the file.

    Raises:
        DataError: the file is there, and is not to be replaced.
    """

    def __init__(self, path: str, most: int, overwrite: bool) -> None:
        if Path(path).exists() and not overwrite:
            raise DataError(f"{path} exists; --overwrite replaces it")
        self.path, self.most = path, most
        self._heap: list[tuple[float, int, _Entry]] = []
        self._offered = 0

    def offer(self, sample: Sample, record: Mapping[str, Any], picture: np.ndarray | None) -> None:
        """A picture and what was found in it; None: it is read again if it comes onto the sheet."""
        self._offered += 1
        place = (_surest(record), -self._offered)
        if len(self._heap) == self.most and place < self._heap[0][:2]:
            return
        small = None if picture is None else _drawn(picture, record)
        heapq.heappush(self._heap, (*place, _Entry(sample, record, small)))
        if len(self._heap) > self.most:
            heapq.heappop(self._heap)

    def write(self, shown: Callable[[Sample], np.ndarray]) -> list[str]:
        """Write the sheet, the surest first.

        Args:
            shown: reads the picture of a scene.

        Returns:
            The file; nothing where there is nothing to show.

        Raises:
            WriteError: it cannot be written.
            CaffeCompatError: a picture that cannot be read any more.
        """
        tiles = []
        for _, _, one in sorted(self._heap, key=lambda entry: entry[:2], reverse=True):
            small = _drawn(shown(one.sample), one.record) if one.small is None else one.small
            tiles.append(SmallPicture(small, Path(one.sample.shown).name, _words(one.record)))
        if not tiles:
            return []
        which = f"the surest {len(tiles)} of {self._offered} pictures" if self._offered > len(tiles) else "all pictures"
        sheet = contact_sheet(tiles, f"{which}, the surest first")
        write_file(self.path, encode(sheet, Path(self.path).suffix[1:].lower(), self.path))
        return [self.path]


def _surest(record: Mapping[str, Any]) -> float:
    found = record.get("labels") or record.get("objects") or ()
    return max((float(one["score"]) for one in found), default=-np.inf)


def _words(record: Mapping[str, Any]) -> tuple[str, ...]:
    found = record.get("labels") or record.get("objects") or ()
    told = [f"{one['score']:.3f} {one['class']}" for one in found]
    if not told:
        return ("nothing",) if "objects" in record else ()
    return (*told[: _LINES - 1], f"and {len(told) - _LINES + 1} more") if len(told) > _LINES else tuple(told)


def _drawn(picture: np.ndarray, record: Mapping[str, Any]) -> np.ndarray:
    """Small, with boxes around objects."""
    small, scale = fitted(picture)
    objects = record.get("objects")
    if not objects:
        return small
    boxes = (np.array([one["box"] for one in objects], float) + [0, 0, 1, 1]) * scale - [0, 0, 1, 1]
    return draw_boxes(small, boxes, [one["class"] for one in objects], [one["score"] for one in objects], enlarge=False)
