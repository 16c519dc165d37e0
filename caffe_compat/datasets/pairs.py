"""Lists of pairs, ``colour_path other_path`` a line, as the ``PairedImageData`` layer reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffe_compat.errors import DataError, UsageError
from caffe_compat.files import atomic_write
from caffe_compat.frames import Frame, Report
from caffe_compat.layers.data.lists import Pair, read_pair_list

__all__ = ["Pair", "finished", "hold_out", "read_pair_list", "write_pairs"]


def finished(frames: Sequence[Frame], report: Report) -> list[Frame]:
    """The frames of a run that have both of their images, in the order of ``frames``."""
    done = set(report.written) | set(report.skipped)
    return [frame for frame in frames if frame.color_output is not None and frame.output in done]


def write_pairs(path: str | os.PathLike[str], pairs: Sequence[tuple[str, str]]) -> None:
    """Write a list; paths become relative to its folder, and a path with blanks is put in double quotes.

    Args:
        path: the list.
        pairs: colour image and the image of the other modality.

    Raises:
        DataError: a path with a double quote or a line end, which such lists cannot hold.
    """
    base = Path(path).parent
    lines = []
    for pair in pairs:
        names = [Path(os.path.relpath(name, base)).as_posix() for name in pair]
        for name in names:
            if any(mark in name for mark in '"\t\n\r') or name != name.strip():
                raise DataError(
                    f"{path}: {name!r} has a double quote, tab, line end or blank at an end, which a list cannot hold"
                )
        lines.append(" ".join(f'"{name}"' if any(map(str.isspace, name)) else name for name in names))
    with atomic_write(path, "w") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def hold_out(frames: Sequence[Frame], every: int, *, scenes: bool = False) -> tuple[list[Frame], list[Frame]]:
    """Split frames into those that train and those that validate, every ``every``-th (the first is number every // 2).

    Args:
        frames: all of them, in order.
        every: 2 or more.
        scenes: hold out every ``every``-th scene with all its frames, so that no scene has frames in both parts;
            otherwise every ``every``-th frame.

    Raises:
        UsageError: ``every`` is less than 2, there are fewer frames (scenes) than that, or a scene is not known.
    """
    nowhere = sum(not frame.scene for frame in frames)
    if scenes and nowhere:
        raise UsageError(f"{nowhere} of {len(frames)} frames do not say their scene (field 'scene' of an index)")
    what = "scene" if scenes else "frame"
    groups = list(dict.fromkeys(frame.scene for frame in frames)) if scenes else list(range(len(frames)))
    if every < 2 or len(groups) < every:
        raise UsageError(f"cannot hold out every {every}th of {len(groups)} {what}s, expected 2 to {len(groups)}")
    held = set(groups[every // 2 :: every])
    parts: tuple[list[Frame], list[Frame]] = ([], [])
    for number, frame in enumerate(frames):
        parts[(frame.scene if scenes else number) in held].append(frame)
    return parts
