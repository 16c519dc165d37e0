"""NYUD2's labelled frames as records and as sources of depth."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.nyud2 import HEIGHT, WIDTH, LabelledNYUD2
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.datasets.video import base_scene
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.sources import Reading
from caffe_compat.errors import DataError, MissingFileError, in_file

__all__ = ["LabelledSource", "labelled_numbers", "labelled_records", "millimetres"]


@dataclasses.dataclass(frozen=True)
class LabelledSource:
    """A labelled frame as a :class:`~caffe_compat.frames.Source`.

    Depth is rounded to millimetres, as the published pngs store it; what rounds to 0 in the raw depth is missing.

    Args:
        path: ``nyu_depth_v2_labeled.mat``.
        number: 5001 and up.
        crop: use 425 x 560 pixels of the frame (:data:`CROP`).
    """

    path: str
    number: int
    crop: bool = True

    @property
    def name(self) -> str:
        return f"{self.path}: frame {self.number}"

    def fingerprint(self) -> dict[str, Any]:
        """The file by name and size (its 2.8 GB are not hashed), the frame, the crop and the rounding."""
        return {
            "depth": Path(self.path).name,
            "depth_bytes": _stat(self.path).st_size,
            "number": self.number,
            "crop": self.crop,
            "rounding": "millimetres",
        }

    def read(self) -> Reading:
        """The frame: depth float64 [H, W] metres in whole millimetres, missing, colour.

        Raises:
            MissingFileError, DataError: the file or frame cannot be read; depth that is negative, NaN or beyond
                65.535 m.
        """
        found = _open_cached(self.path, self.crop, os.getpid()).frame(self.number)
        with in_file(self.name):
            depth, raw = millimetres(found.depth), millimetres(found.raw_depth)
        return Reading(depth / 1000.0, raw == 0, found.color)


def millimetres(metres: np.ndarray) -> np.ndarray:
    """Depth as the published pngs hold it: Matlab's ``uint16(1000 * single)``, halves away from zero.

    Args:
        metres: float [H, W].

    Returns:
        uint16 [H, W].

    Raises:
        DataError: depth that is negative, NaN or beyond 65.535 m.
    """
    rounded = np.floor((metres.astype(np.float32) * np.float32(1000)).astype(np.float64) + 0.5)
    fits = (rounded >= 0) & (rounded <= 65535)
    if not fits.all():
        raise DataError(f"{int((~fits).sum())} depth values are negative, NaN or beyond 65.535 m")
    return rounded.astype(np.uint16)


def labelled_numbers(path: str | os.PathLike[str]) -> range:
    """The numbers of the frames in a file: 5001 and up.

    Raises:
        MissingFileError, DataError: as :class:`LabelledNYUD2`.
    """
    with LabelledNYUD2(path) as frames:
        return frames.numbers


def labelled_records(
    path: str | os.PathLike[str], numbers: Iterable[int] | None = None, *, crop: bool = True
) -> list[FrameRecord]:
    """Labelled frames: filled depth, the holes of the measured one.

    Args:
        path: ``nyu_depth_v2_labeled.mat``.
        numbers: of the frames wanted, 5001 and up; None: all.
        crop: use 425 x 560 pixels of each frame (:data:`CROP`).

    Raises:
        MissingFileError, DataError: as :class:`LabelledNYUD2`; a number that the file does not have.
    """
    with LabelledNYUD2(path) as data:
        there = data.numbers
        scenes = dict(zip(there, data.scenes if "scenes" in data else map(str, there), strict=True))
    wanted = list(there if numbers is None else dict.fromkeys(numbers))
    for number in wanted:
        if number not in there:
            raise DataError(f"{os.fspath(path)}: no frame {number}; it has {there[0]} to {there[-1]}")
    camera = CAMERAS["nyud2_color_cropped" if crop else "nyud2_color"]
    return [
        FrameRecord(
            name=f"img_{number}",
            depth=LabelledSource(os.fspath(path), number, crop),
            size=(camera.height or HEIGHT, camera.width or WIDTH),
            camera=camera,
            scene=base_scene(scenes[number]),
        )
        for number in wanted
    ]


def _open_cached(path: str, crop: bool, process: int) -> LabelledNYUD2:
    """The open file, kept for the next frame; opened anew when it changes and in a forked process."""
    status = _stat(path)
    return _open(path, crop, process, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _open(path: str, crop: bool, process: int, modified: int, size: int) -> LabelledNYUD2:
    return LabelledNYUD2(path, crop)


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise MissingFileError(path, error.strerror or "labelled frames") from error
