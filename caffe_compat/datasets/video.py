"""NYUD2's raw video: scenes, pairs of depth and colour.

Layout: a folder per scene (``bedroom_0001``, ``basement_0001a``) with ``d-<time>-<tick>.pgm`` (depth),
``r-<time>-<tick>.ppm`` (colour) and ``a-<time>-<tick>.dump`` (accelerometer, not used); ``time`` is in seconds.  Both
cameras make 20 to 30 frames a second and are not synchronised.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.datasets.walk import walk
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.io import NYUD2_INFINITE_CODE, NYUD2_LOWEST_CODE, DepthFormat, read_nyud2_codes
from caffe_compat.depth.sources import FileSource
from caffe_compat.errors import DataError, MissingFileError

__all__ = [
    "SceneSplit",
    "VideoPair",
    "base_scene",
    "is_depth_frame",
    "missing_fraction",
    "scene_folders",
    "scene_name",
    "scenes_of_split",
    "synchronise",
]

_FRAME = re.compile(r"([dr])-(\d+(?:\.\d+)?)-(\d+)\.(?:pgm|ppm)")


@dataclasses.dataclass(frozen=True)
class VideoPair:
    """A depth frame and the colour frame nearest in time.

    Args:
        scene: name of the scene's folder.
        depth: path of the ``d-*.pgm``.
        color: path of the ``r-*.ppm``.
        time: when the depth frame was made, seconds.
        gap: seconds between the two, not negative.
    """

    scene: str
    depth: str
    color: str
    time: float
    gap: float

    def record(self) -> FrameRecord:
        """The pair as a record: 480 x 640, depth registered to colour, both undistorted in reading."""
        return FrameRecord(
            name=f"{self.scene}/{Path(self.depth).stem}",
            paths={"images": self.color, "depth": self.depth},
            depth=FileSource(self.depth, DepthFormat(encoding="nyud2_raw"), color=self.color),
            size=(480, 640),
            camera=CAMERAS["nyud2_color"],
            scene=base_scene(self.scene),
        )


def scene_name(folder: str | os.PathLike[str]) -> str:
    """The name of a scene's folder, ``bedroom_0001``."""
    return Path(os.path.abspath(folder)).name


def base_scene(name: str) -> str:
    """The scene without the letter of a part (``bedroom_0001a`` gives ``bedroom_0001``).

    The parts of a recording show one room, so for splits they count as one scene.
    """
    return re.sub(r"(?<=\d)[a-z]$", "", name)


def is_depth_frame(name: str) -> bool:
    """Whether a file's name is that of a depth frame, ``d-*.pgm``."""
    return name.startswith("d-") and name.endswith(".pgm")


def scene_folders(root: str | os.PathLike[str]) -> list[str]:
    """Every folder with depth frames, ``root`` itself and any depth below it, sorted by path.

    Raises:
        MissingFileError: no such folder.
        DataError: none found, or two scenes of the same name.
    """
    found = [folder for folder, _, files in walk(root) if any(map(is_depth_frame, files))]
    if not found:
        raise DataError(
            f"{os.fspath(root)}: no scene of raw NYUD2 video in or below it, expected folders such as bedroom_0001 "
            "with files d-<time>-<tick>.pgm and r-<time>-<tick>.ppm"
        )
    names: dict[str, str] = {}
    for folder in found:
        other = names.setdefault(scene_name(folder), folder)
        if other != folder:
            raise DataError(f"scene '{scene_name(folder)}' is there twice, in {other} and {folder}; remove one of them")
    return sorted(found)


def synchronise(folder: str | os.PathLike[str]) -> list[VideoPair]:
    """Each depth frame of a scene with the colour frame nearest in time, in order of time.

    The order is that of the numbers (time, then tick), not of the names.  Of two colour frames equally near the earlier
    one is taken.  Empty files, which the real set has, are skipped.

    Raises:
        MissingFileError: no such folder.
        DataError: no depth or no colour frames, or a frame's name without time and tick.
    """
    frames: dict[str, list[tuple[float, int, str]]] = {"d": [], "r": []}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(("d-", "r-")) or not entry.name.endswith((".pgm", ".ppm")):
                    continue
                match = _FRAME.fullmatch(entry.name)
                if match is None:
                    raise DataError(f"{entry.path}: expected a name such as d-1294886362.665769-3143255701.pgm")
                if entry.stat().st_size:
                    frames[match[1]].append((float(match[2]), int(match[3]), entry.path))
    except OSError as error:
        raise MissingFileError(folder, f"scene of raw NYUD2 video: {error.strerror}") from error
    for kind, what in (("d", "depth frames d-*.pgm"), ("r", "colour frames r-*.ppm")):
        if not frames[kind]:
            raise DataError(f"{os.fspath(folder)}: no {what} (that are not empty) in this scene")
        frames[kind].sort()
    depth_times, color_times = (np.array([time for time, _, _ in frames[kind]]) for kind in "dr")
    after = np.searchsorted(color_times, depth_times).clip(max=len(color_times) - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(
        np.abs(depth_times - color_times[before]) <= np.abs(color_times[after] - depth_times), before, after
    )
    gaps = np.abs(depth_times - color_times[nearest])
    scene = scene_name(folder)
    return [
        VideoPair(scene, path, frames["r"][index][2], time, float(gap))
        for (time, _, path), index, gap in zip(frames["d"], nearest, gaps, strict=True)
    ]


def missing_fraction(path: str | os.PathLike[str]) -> float:
    """Fraction (0 to 1) of the pixels of a raw ``d-*.pgm`` without depth, before registration.

    Raises:
        MissingFileError: no such file.
        DataError: not a 16-bit pgm, or truncated.
    """
    codes = read_nyud2_codes(path)
    return float(np.mean((codes < NYUD2_LOWEST_CODE) | (codes >= NYUD2_INFINITE_CODE)))


@dataclasses.dataclass(frozen=True)
class SceneSplit:
    """Raw scenes sorted by what is known of them; each is in one of the four lists.

    Args:
        scenes: of the wanted split only.
        other: of other splits only.
        shared: their room is in the wanted and in another split.
        unknown: no labelled frame was taken of them.
    """

    scenes: tuple[str, ...]
    other: tuple[str, ...]
    shared: tuple[str, ...]
    unknown: tuple[str, ...]


def scenes_of_split(raw_scenes: Iterable[str], wanted: Iterable[str], others: Iterable[str]) -> SceneSplit:
    """Which scenes of the raw video may be used for a split of the labelled frames.

    Rooms are compared by :func:`base_scene`.  Only ``scenes`` of the result is safe to train on: rooms that also occur
    in another split are left out, and so are those that the labelled set does not know.

    Args:
        raw_scenes: names of raw scenes, see :func:`scene_name`.
        wanted: scenes of the labelled frames of the wanted split (train and val for trainval).
        others: scenes of the labelled frames of all other splits (test).

    Raises:
        DataError: no scene remains.
    """
    wanted_bases, other_bases = {base_scene(name) for name in wanted}, {base_scene(name) for name in others}
    names = sorted(set(raw_scenes))
    kinds: dict[tuple[bool, bool], list[str]] = {(a, b): [] for a in (True, False) for b in (True, False)}
    for name in names:
        base = base_scene(name)
        kinds[base in wanted_bases, base in other_bases].append(name)
    split = SceneSplit(*(tuple(kinds[key]) for key in ((True, False), (False, True), (True, True), (False, False))))
    if not split.scenes:
        raise DataError(
            f"none of the {len(names)} raw scenes is of the wanted split alone: {len(split.other)} are of other "
            f"splits, {len(split.shared)} of both, {len(split.unknown)} have no labelled frame"
        )
    return split
