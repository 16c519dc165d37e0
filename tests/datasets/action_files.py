"""Tiny data sets in the layouts of JHMDB and UCF101, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.datasets.actions import ActionClip, Part, write_annotation, write_clip_split
from caffe_compat.datasets.jhmdb import JHMDB_CLASSES
from tests.datasets.imdb_files import save_picture

SIZE = (24, 32)
FRAMES = 4


def make_clips(classes: Sequence[str] = JHMDB_CLASSES, each: int = 2, frames: int = FRAMES) -> list[ActionClip]:
    """Clips of every class; the box of frame f lies f - 1 pixels to the right of the first one's."""
    first = np.array([3.0, 4, 14, 19])
    boxes = np.stack([first + [step, 0, step, 0] for step in range(frames)]).astype(np.float32)
    return [ActionClip(action, f"{number}_{action}_x", boxes) for action in classes for number in range(each)]


def make_jhmdb(
    folder: Path,
    clips: Sequence[ActionClip] | None = None,
    images: str = "Rename_Images",
    size: tuple[int, int] = SIZE,
) -> list[ActionClip]:
    """JHMDB's layout in a folder: of each class the first clip trains, the others test; all three splits."""
    clips = make_clips() if clips is None else list(clips)
    write_annotation(folder / "jhmdb_annot.mat", clips)
    parts: dict[str, Part] = {}
    for clip in clips:
        of_class = [other.name for other in clips if other.action == clip.action]
        parts[clip.name] = "train" if clip.name == of_class[0] else "test"
    for number in (1, 2, 3):
        write_clip_split(folder / "splits", number, clips, parts)
    for clip in clips:
        for number in clip.frames:
            save_picture(folder / images / clip.action / clip.name / f"{number:05d}.png", size)
            if number < len(clip.boxes):
                save_flow(folder / "flow" / clip.action / clip.name / f"{number:05d}.png", size)
    return clips


def save_flow(path: Path, size: tuple[int, int] = SIZE, moving: tuple[int, int, int, int] | None = None) -> Path:
    """The picture of a flow that is 0 but in a box (x1 y1 x2 y2, last pixel included), which moves 3 to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((*size, 3), 128, np.uint8)
    if moving is not None:
        x1, y1, x2, y2 = moving
        picture[y1 : y2 + 1, x1 : x2 + 1] = (176, 128, 176)  # magnitude, y, x
    cv2.imwrite(str(path), picture)
    return path
