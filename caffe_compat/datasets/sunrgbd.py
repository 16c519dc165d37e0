"""SUN RGB-D: 10,335 frames of four sensors, each a folder with its own camera.

Layout below ``SUNRGBD/``: ``<sensor>/.../<frame>/`` with ``image/*.jpg``, ``depth/*.png``, ``depth_bfx/*.png``
(filled), ``intrinsics.txt``, ``extrinsics/*.txt`` and ``scene.txt``.  NYUD2's 1449 labelled frames are among them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.datasets.walk import walk
from caffe_compat.depth.camera import Camera
from caffe_compat.depth.io import DepthFormat
from caffe_compat.depth.sources import FileSource
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.frames.report import reason_of

__all__ = ["SENSORS", "SunFrame", "SunSplit", "exclude_nyud2", "find_frames", "read_split"]

SENSORS = ("kv1", "kv2", "realsense", "xtion")
NYUD2_FIRST, NYUD2_LAST = 5001, 6449
LAYOUT = "<root>/<kv1|kv2|realsense|xtion>/.../<frame>/{intrinsics.txt, image/*.jpg, depth/*.png, depth_bfx/*.png}"


@dataclasses.dataclass(frozen=True)
class SunFrame:
    """One frame.

    Args:
        folder: where it lies.
        name: its path from the sensor's folder on, with ``/`` (``kv1/NYUdata/NYU0001``), as :class:`SunSplit` has it.
        sensor: one of ``SENSORS``.
        color: its jpg, registered to depth.
        depth: its 16-bit png as measured.
        filled: the same without holes.
        camera: of its own ``intrinsics.txt``, pixels counted from 1 as the data set's toolbox does (read3dPoints).
        label: what kind of room (``scene.txt``); None if it does not say.
        nyud2: number of the NYUD2 frame (5001 to 6449) that it is; None if it is not from there.
    """

    folder: str
    name: str
    sensor: str
    color: str
    depth: str
    filled: str
    camera: Camera
    label: str | None
    nyud2: int | None

    def record(self) -> FrameRecord:
        """The frame as a record: filled depth, the holes of the measured one, its own camera."""
        return FrameRecord(
            name=self.name.replace("/", "_"),
            paths={"images": self.color, "depth": self.filled, "rawdepth": self.depth},
            depth=FileSource(self.filled, DepthFormat(1000.0, "sun"), raw_depth=self.depth, color=self.color),
            camera=self.camera,
            scene=self.name,  # the data set does not say which frames show one room
        )

    def gravity(self) -> np.ndarray:
        """Rotation [3, 3], float64, that aligns the frame's points with gravity, as its ``extrinsics/*.txt`` has it.

        Of several files the last by name, which is the time it was written, counts.

        Raises:
            DataError: no such file, or not a rotation (12 numbers row by row, 3 x 4).
        """
        names = _names(self.folder, "extrinsics", (".txt",))
        if not names:
            raise DataError(f"{self.folder}: no extrinsics/*.txt")
        path = names[-1]
        try:
            matrix = np.array([float(part) for part in _text(path).split()]).reshape(3, 4)[:, :3]
        except ValueError as error:
            raise DataError(f"{path}: expected 3 rows of 4 numbers: {error}") from error
        if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-2) or np.linalg.det(matrix) < 0:
            raise DataError(f"{path}: the first three columns are not a rotation")
        return matrix


class SunSplit(NamedTuple):
    """The official split: names of frames as :class:`SunFrame` has them."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def find_frames(root: str | os.PathLike[str], broken: list[tuple[str, str]] | None = None) -> list[SunFrame]:
    """All frames at or below a folder, sorted by name.

    A frame is a folder with an ``intrinsics.txt``; what lies below it (``fullres`` has a camera of its own) is not
    looked at.

    Args:
        root: the folder ``SUNRGBD``, or one above or below it.
        broken: gets (folder, reason) of every frame that is not as it should be; None raises for them.

    Raises:
        MissingFileError: no such folder.
        DataError: no frame; or how many are broken, and what is wrong with the first, unless ``broken`` takes them.
    """
    frames = []
    wrong: list[tuple[str, str]] = []
    for folder, folders, files in walk(root):
        if "intrinsics.txt" not in files:
            continue
        folders.clear()
        try:
            frames.append(_frame(folder))
        except (DataError, OSError) as error:  # also what may not be listed
            wrong.append((folder, reason_of(folder, error)))
    total = len(frames) + len(wrong)
    if not total:
        raise DataError(f"{os.fspath(root)}: no frame of SUN RGB-D below it, expected {LAYOUT}")
    if wrong and broken is None:
        reasons = "; ".join(reason for _, reason in wrong[:3])
        raise DataError(f"{os.fspath(root)}: {len(wrong)} of {total} frames cannot be used: {reasons}")
    if broken is not None:
        broken += wrong
    return sorted(frames, key=lambda frame: frame.name)


def read_split(path: str | os.PathLike[str]) -> SunSplit:
    """The split of ``SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat``: 5,285 frames to train, 5,050 to test.

    The file's paths begin with the root of its authors' machine and may end with a slash; names begin with the sensor.

    Raises:
        MissingFileError: no such file.
        DataError: not a .mat file, without ``alltrain`` or ``alltest``, or a path that names no sensor.
    """
    parts = []
    for variable, texts in read_mat(path, ["alltrain", "alltest"]).items():
        names = []
        for text in np.ravel(texts):
            name = _name(text) if isinstance(text, str) else None
            if name is None:
                raise DataError(
                    f"{os.fspath(path)}: {variable} has {text!r}, expected a path with one of {', '.join(SENSORS)}"
                )
            names.append(name)
        if not names:
            raise DataError(f"{os.fspath(path)}: {variable} is empty")
        parts.append(tuple(names))
    shared = set(parts[0]) & set(parts[1])
    if shared:
        raise DataError(f"{os.fspath(path)}: {len(shared)} frames are in both splits, such as {min(shared)}")
    return SunSplit(train=parts[0], test=parts[1])


def exclude_nyud2(frames: Iterable[SunFrame], numbers: Collection[int]) -> list[SunFrame]:
    """The frames without those NYUD2 frames (its val and test frames must not be trained on).

    Args:
        frames: see :func:`find_frames`.
        numbers: of NYUD2's frames, 5001 to 6449.

    Raises:
        DataError: a number that is none of NYUD2's.
    """
    wrong = [number for number in numbers if not NYUD2_FIRST <= number <= NYUD2_LAST]
    if wrong:
        raise DataError(f"NYUD2 frame {wrong[0]}: expected a number from {NYUD2_FIRST} to {NYUD2_LAST}")
    excluded = set(numbers)
    return [frame for frame in frames if frame.nyud2 not in excluded]


def _frame(folder: str) -> SunFrame:
    name = _name(os.path.abspath(folder))
    if name is None:
        raise DataError(f"{folder}: not below a folder {', '.join(SENSORS)}, expected {LAYOUT}")
    label = (
        _text(os.path.join(folder, "scene.txt")).strip() if os.path.exists(os.path.join(folder, "scene.txt")) else ""
    )
    return SunFrame(
        folder=folder,
        name=name,
        sensor=name.split("/")[0],
        color=_only(folder, "image", (".jpg", ".jpeg", ".png")),
        depth=_only(folder, "depth", (".png",)),
        filled=_only(folder, "depth_bfx", (".png",)),
        camera=Camera.from_file(os.path.join(folder, "intrinsics.txt"), origin=1),
        label=label or None,
        nyud2=_nyud2(name, folder),
    )


def _name(path: str) -> str | None:
    """The path from the sensor's folder on, the last one of that name; None if there is none."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    starts = [index for index, part in enumerate(parts) if part in SENSORS]
    return "/".join(parts[starts[-1] :]) if starts else None


def _nyud2(name: str, folder: str) -> int | None:
    if not name.startswith("kv1/NYUdata/"):
        return None
    match = re.fullmatch(r"kv1/NYUdata/NYU(\d{4})", name)
    number = NYUD2_FIRST - 1 + int(match[1]) if match else 0
    if not NYUD2_FIRST <= number <= NYUD2_LAST:
        raise DataError(f"{folder}: expected a folder NYU0001 to NYU1449, or it cannot be told which NYUD2 frame it is")
    return number


def _names(folder: str, part: str, suffixes: tuple[str, ...]) -> list[str]:
    """Sorted paths of the files of a part of a frame; none if the part is absent."""
    path = os.path.join(folder, part)
    if not os.path.isdir(path):
        return []
    return [
        os.path.join(path, name)
        for name in sorted(os.listdir(path))
        if name.lower().endswith(suffixes) and not name.startswith(".")
    ]


def _only(folder: str, part: str, suffixes: tuple[str, ...]) -> str:
    found = _names(folder, part, suffixes)
    if len(found) != 1:
        raise DataError(f"{folder}: {part} has {len(found)} files *{suffixes[0]}, expected one")
    return found[0]


def _text(path: str) -> str:
    with open_existing(path) as stream:
        try:
            return stream.read(65536).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not a text file: {error}") from error
