"""Which pairs of a run there are, and which of them validate."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.errors import UsageError
from caffe_compat.frames import Frame, Report

__all__ = ["finished", "hold_out"]


def finished(frames: Sequence[Frame], report: Report) -> list[Frame]:
    """The frames of a run that have both of their images, in the order of ``frames``."""
    done = set(report.written) | set(report.skipped)
    return [frame for frame in frames if frame.color_output is not None and frame.output in done]


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
