"""Choosing frames of NYUD2's raw video, and the file that says which were chosen."""

from __future__ import annotations

import bisect
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from caffe_compat.datasets.video import VideoPair, missing_fraction
from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.files import atomic_write

__all__ = ["MAX_GAP", "MOST_MISSING", "enough_depth", "read_selection", "select", "write_selection"]

MAX_GAP = 1 / 30
"""Seconds between depth and colour from which on a pair is not used."""
MOST_MISSING = 0.5
"""Frames with a larger part without depth are not used."""
FORMAT = "caffe_compat.nyud2_selection"
VERSION = 1
_PHASES = 2**32


def select(
    scenes: Mapping[str, Sequence[VideoPair]],
    count: int,
    seed: int,
    max_gap: float = MAX_GAP,
    usable: Callable[[VideoPair], bool] | None = None,
) -> list[VideoPair]:
    """Choose frames over all scenes; the same arguments give the same frames.

    Pairs with a gap of ``max_gap`` or more are no candidates.  A scene gives frames in proportion to its number of
    candidates (largest remainder; at least one where ``count`` allows), evenly spaced in order of time.  Where the
    first one lies depends on the seed and the scene's name only.

    Args:
        scenes: pairs by name of scene, see :func:`caffe_compat.datasets.video.synchronise`.
        count: how many frames.
        seed: shifts the frames of every scene.
        max_gap: seconds.
        usable: asked at most once for a pair; one that is refused is replaced by the candidate of its scene nearest in
            time that is not in use, and if a scene has none left, the other scenes give more, again in proportion.

    Returns:
        ``count`` different pairs in order of scene, then of time.

    Raises:
        UsageError: ``count`` or ``max_gap`` is not positive.
        DataError: there are fewer candidates, or fewer usable ones.
    """
    if count < 1 or not max_gap > 0:
        raise UsageError(f"select: {count} frames with a gap below {max_gap} s, expected positive numbers")
    spare = {name: sorted((pair for pair in scenes[name] if pair.gap < max_gap), key=_order) for name in sorted(scenes)}
    found = sum(map(len, spare.values()))
    if found < count:
        raise DataError(
            f"{count} frames wanted, but the {len(spare)} scenes have {found} pairs of depth and colour less than "
            f"{max_gap:.4g} s apart"
        )
    taken: dict[str, list[VideoPair]] = {name: [] for name in spare}
    while (left := count - sum(map(len, taken.values()))) > 0:
        if sum(map(len, spare.values())) < left:
            best = count - left + sum(map(len, spare.values()))
            raise DataError(f"{count} frames wanted, but at most {best} of the {found} candidates are usable")
        for name, quota in _quotas({name: len(pairs) for name, pairs in spare.items()}, left).items():
            kept, spare[name] = _pick(spare[name], quota, _phase(seed, name), usable)
            taken[name] += kept
    return [pair for pairs in taken.values() for pair in sorted(pairs, key=_order)]


def enough_depth(pair: VideoPair) -> bool:
    """Whether a pair's depth can be read and is known for at least half of the pixels; for :func:`select`."""
    try:
        return missing_fraction(pair.depth) <= MOST_MISSING
    except (DataError, MissingFileError):
        return False  # a truncated file, as the real set has some: another frame takes its place


def write_selection(
    path: str | os.PathLike[str],
    pairs: Sequence[VideoPair],
    root: str | os.PathLike[str],
    seed: int,
    max_gap: float = MAX_GAP,
) -> None:
    """Write a selection as JSON that holds for every copy of the video: paths are relative to ``root``.

    Args:
        path: the file.
        pairs: the selection.
        root: folder of the raw video.
        seed, max_gap: what :func:`select` was given; recorded for the reader, with the number of frames.

    Raises:
        DataError: a frame outside ``root``, or no frame.
    """
    if not pairs:
        raise DataError(f"{os.fspath(path)}: a selection without a frame")
    frames = [
        {
            "scene": pair.scene,
            "depth": _relative(pair.depth, root),
            "color": _relative(pair.color, root),
            "time": pair.time,
            "gap": pair.gap,
        }
        for pair in pairs
    ]
    head = {"format": FORMAT, "version": VERSION, "seed": seed, "max_gap": max_gap, "count": len(frames)}
    with atomic_write(path, "w") as stream:
        json.dump({**head, "frames": frames}, stream, indent=1)
        stream.write("\n")


def read_selection(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> list[VideoPair]:
    """Read what :func:`write_selection` wrote; the frames must be there.

    Args:
        path: the file.
        root: folder of the raw video on this machine.

    Raises:
        MissingFileError: no such file, or a frame of it is not below ``root``.
        DataError: not such a file, a field that is missing or wrong, or a frame listed twice.
    """
    content = read_json(path, "selection of frames")
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise DataError(f"{os.fspath(path)}: not a selection of frames, expected format {FORMAT}, version {VERSION}")
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries or content.get("count") != len(entries):
        raise DataError(f"{os.fspath(path)}: field frames: expected a list of {content.get('count')} frames")
    pairs = []
    for number, entry in enumerate(entries):
        try:
            pairs.append(_parse(entry, Path(root)))
        except DataError as error:
            raise DataError(f"{os.fspath(path)}: frame {number}: {error}") from error
    for pair in pairs:
        for name in (pair.depth, pair.color):
            if not os.path.isfile(name):
                raise MissingFileError(name, f"frame of {os.fspath(path)}; is {os.fspath(root)} the raw video?")
    if len({pair.depth for pair in pairs}) != len(pairs):
        raise DataError(f"{os.fspath(path)}: a frame is listed twice")
    return pairs


def _relative(path: str, root: str | os.PathLike[str]) -> str:
    relative = Path(os.path.relpath(path, root))
    if ".." in relative.parts:
        raise DataError(f"{path} is not below {os.fspath(root)}")
    return relative.as_posix()


def _parse(entry: Any, root: Path) -> VideoPair:
    if not isinstance(entry, dict):
        raise DataError(f"{entry!r}: expected an object with scene, depth, color, time and gap")
    scene, depth, color = (_name(entry, field) for field in ("scene", "depth", "color"))
    if "/" in scene:
        raise DataError(f"scene is {scene!r}, expected a name")
    return VideoPair(scene, str(root / depth), str(root / color), _seconds(entry, "time"), _seconds(entry, "gap"))


def _name(entry: dict[str, Any], field: str) -> str:
    text = entry.get(field)
    parts = PurePosixPath(text).parts if isinstance(text, str) else ()
    if not isinstance(text, str) or not parts or text[0] == "/" or "\\" in text or ".." in parts:
        raise DataError(f"{field} is {text!r}, expected a path below the root")
    return text


def _seconds(entry: dict[str, Any], field: str) -> float:
    number = entry.get(field)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < math.inf:
        raise DataError(f"{field} is {number!r}, expected seconds")
    return float(number)


def _order(pair: VideoPair) -> tuple[float, str]:
    return pair.time, pair.depth


def _phase(seed: int, scene: str) -> int:
    """Which part of a step (of ``_PHASES``) the first frame lies at."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{scene}".encode()).digest()[:4], "big")


def _quotas(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """``count`` shared out in proportion to the sizes, none above its size; in whole numbers, so exact."""
    total = sum(sizes.values())
    names = [name for name, size in sizes.items() if size]
    least = 1 if count >= len(names) else 0
    quotas = {name: max(count * sizes[name] // total, least) for name in names}

    def lack(name: str) -> int:
        return count * sizes[name] - quotas[name] * total

    while (sum_ := sum(quotas.values())) != count:
        if sum_ < count:
            quotas[max(names, key=lack)] += 1
        else:
            quotas[min((name for name in names if quotas[name] > least), key=lack)] -= 1
    return quotas


def _pick(
    pairs: list[VideoPair], quota: int, phase: int, usable: Callable[[VideoPair], bool] | None
) -> tuple[list[VideoPair], list[VideoPair]]:
    """Evenly spaced pairs, the unusable ones replaced, and those that nobody has asked for."""
    chosen = {(phase + step * _PHASES) * len(pairs) // (quota * _PHASES) for step in range(quota)}
    wanted = [pair for index, pair in enumerate(pairs) if index in chosen]
    spare = [pair for index, pair in enumerate(pairs) if index not in chosen]
    if usable is None:
        return wanted, spare
    kept = []
    for pair in wanted:
        candidate = pair
        while not (fits := usable(candidate)) and spare:
            candidate = spare.pop(_nearest(spare, pair.time))
        if fits:
            kept.append(candidate)
    return kept, spare


def _nearest(pairs: list[VideoPair], time: float) -> int:
    """Index of the pair nearest in time, of two equally near the earlier one."""
    after = bisect.bisect_left(pairs, time, key=lambda pair: pair.time)
    if after == len(pairs) or (after > 0 and time - pairs[after - 1].time <= pairs[after].time - time):
        return after - 1
    return after
