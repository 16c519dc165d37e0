"""Clips of actions with a box a frame, as ``jhmdb_annot.mat`` and JHMDB's lists of splits hold them.

``jhmdb_annot.mat`` (of ActionTubes) is one struct ``annot`` of columns of one length, a row a frame:

========  =======================  ================================================================
field     class                    holds
========  =======================  ================================================================
action    cell of text             such as ``brush_hair``
video_id  cell of text             the clip, without an ending
frame     uint16                   from 1, without a gap; each once
bound     single, N x 4            x y w h of the one who acts, whole pixels, the first of them is 1
========  =======================  ================================================================

``ACTION_test_splitN.txt`` names the clips of an action, a line each: ``CLIP.avi 1`` trains, ``CLIP.avi 2`` tests.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from caffe_compat.datasets.mat import read_mat, write_mat
from caffe_compat.errors import DataError, in_file, nearest
from caffe_compat.files import open_existing, write_file

__all__ = ["ActionClip", "Part", "read_annotation", "read_clip_split", "write_annotation", "write_clip_split"]

Part = Literal["train", "test"]
PathLike = str | os.PathLike[str]
_FIELDS = ("action", "video_id", "frame", "bound")
_PARTS: Mapping[str, Part] = {"1": "train", "2": "test"}


@dataclasses.dataclass(frozen=True, eq=False)
class ActionClip:
    """A clip that shows one action.

    Args:
        action: what is done.
        name: of the clip; no other has it.
        boxes: float32 [F, 4], who does it in frame 1, 2, ... F: x1 y1 x2 y2 in pixels from 0, last pixel included.
    """

    action: str
    name: str
    boxes: np.ndarray

    @property
    def frames(self) -> range:
        """Numbers of the frames, from 1."""
        return range(1, len(self.boxes) + 1)


def read_annotation(path: PathLike) -> dict[str, ActionClip]:
    """Read a file such as ``jhmdb_annot.mat``.

    Returns:
        The clips by name, in the order in which the file comes to them.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; a clip whose frames are not each there once from 1 on, or that shows two actions; a
            box that is none, or begins above or left of the picture.  Names the row (from 1), the clip and the frame.
    """
    annot = read_mat(path, ["annot"])["annot"]
    with in_file(path):
        actions, names, frames, bounds = _columns(annot)
        _check_bounds(bounds, names, frames)
        known, index = np.unique(names, return_inverse=True)
        order = np.lexsort((frames, index))
        ends = np.cumsum(np.bincount(index, minlength=len(known)))
        clips = {}
        for rows in np.split(order, ends[:-1]):
            clip = str(names[rows[0]])
            clips[clip] = ActionClip(_action(actions[rows], rows, clip), clip, _boxes(bounds, frames, rows, clip))
        first = np.sort(np.unique(index, return_index=True)[1])
        return {str(names[row]): clips[str(names[row])] for row in first}


def _columns(annot: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four fields: text [N], text [N], int64 [N], float64 [N, 4]."""
    if not isinstance(annot, dict):
        raise DataError(f"annot is a {type(annot).__name__}, expected a struct with the fields {', '.join(_FIELDS)}")
    for field in _FIELDS:
        if field not in annot:
            raise DataError(f"annot has no field '{field}'{nearest(field, annot)}; it has {', '.join(annot) or 'none'}")
    texts = [_texts(annot[field], field) for field in _FIELDS[:2]]
    frames, bounds = (_numbers(annot[field], field) for field in _FIELDS[2:])
    count = len(texts[0])
    shapes = {"video_id": texts[1].shape, "frame": frames.ravel().shape, "bound": bounds.shape}
    for field, shape in shapes.items():
        wanted = (count, 4) if field == "bound" else (count,)
        if shape != wanted:
            raise DataError(f"annot.{field} is of shape {shape} beside {count} actions, expected {wanted}")
    if not count:
        raise DataError("annot has no rows, expected one a frame")
    wrong = ~(np.isfinite(frames.ravel()) & (frames.ravel() == np.rint(frames.ravel())) & (frames.ravel() >= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"annot.frame of row {row + 1} is {frames.ravel()[row]:g}, expected a number from 1")
    return texts[0], texts[1], frames.ravel().astype(np.int64), bounds


def _texts(value: Any, field: str) -> np.ndarray:
    cells = value.ravel() if isinstance(value, np.ndarray) and value.dtype == object else None
    if cells is None or not all(isinstance(text, str) for text in cells):
        raise DataError(f"annot.{field} is no cell array of text")
    for row, text in enumerate(cells):
        if text in ("", ".", "..") or "/" in text or "\\" in text or not text.isprintable():
            raise DataError(f"annot.{field} of row {row + 1} is {text!r}, expected a name that a folder may have")
    return cells.astype(str)


def _numbers(value: Any, field: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif":
        raise DataError(f"annot.{field} holds no numbers")
    return value.astype(np.float64)


def _check_bounds(bounds: np.ndarray, names: np.ndarray, frames: np.ndarray) -> None:
    good = np.isfinite(bounds).all(1) & (bounds >= 1).all(1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"annot.bound of row {row + 1} (frame {frames[row]} of {names[row]}) is x y w h = {bounds[row].tolist()}, "
            "expected numbers from 1"
        )


def _action(actions: np.ndarray, rows: np.ndarray, clip: str) -> str:
    if (actions != actions[0]).any():
        row = rows[int(np.flatnonzero(actions != actions[0])[0])]
        raise DataError(
            f"clip {clip} is of the action {actions[0]}, but in row {row + 1} of {actions[rows == row][0]}: expected "
            "one action a clip"
        )
    return str(actions[0])


def _boxes(bounds: np.ndarray, frames: np.ndarray, rows: np.ndarray, clip: str) -> np.ndarray:
    wrong = np.flatnonzero(frames[rows] != np.arange(1, len(rows) + 1))
    if wrong.size:
        row, expected = rows[wrong[0]], int(wrong[0]) + 1
        raise DataError(
            f"row {row + 1}: frame {frames[row]} of clip {clip} where frame {expected} is expected: each of its "
            f"{len(rows)} frames once, from 1"
        )
    corner = bounds[rows, :2] - 1
    return np.concatenate([corner, corner + bounds[rows, 2:] - 1], 1).astype(np.float32)


def read_clip_split(
    folder: PathLike, number: int, clips: Mapping[str, ActionClip], classes: Sequence[str]
) -> dict[str, Part]:
    """Which clips of the annotation train and which test: the files ``ACTION_test_splitN.txt`` of a folder.

    Args:
        folder: of the lists.
        number: of the split, from 1.
        clips: what is annotated.
        classes: the actions, in whose order the lists are read.

    Returns:
        ``train`` or ``test`` by clip, in the order of the lists.

    Raises:
        MissingFileError: an action has no list.
        DataError: a line that is not as it should be; a clip that is there twice, is not annotated, or shows another
            action.  Names the file and the line.
    """
    parts: dict[str, Part] = {}
    for action in classes:
        path = Path(folder) / f"{action}_test_split{number}.txt"
        with open_existing(path, f"which clips of {action} train and which test") as stream:
            lines = stream.read().decode("utf-8", "replace").splitlines()
        for count, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            clip, part = _line(line, f"{path}, line {count}")
            if clip in parts:
                raise DataError(f"{path}, line {count}: clip {clip} is there more than once")
            if clip not in clips:
                raise DataError(f"{path}, line {count}: clip {clip} has no boxes{nearest(clip, clips)}")
            if clips[clip].action != action:
                raise DataError(f"{path}, line {count}: clip {clip} shows {clips[clip].action}, not {action}")
            parts[clip] = part
    return parts


def _line(line: str, where: str) -> tuple[str, Part]:
    name, _, number = line.strip().rpartition(" ")
    clip, dot, rest = name.strip().rpartition(".avi")
    if not clip or not dot or rest or number not in _PARTS:
        raise DataError(f"{where}: {line.strip()[:80]!r}, expected 'CLIP.avi 1' (trains) or 'CLIP.avi 2' (tests)")
    return clip, _PARTS[number]


def write_annotation(path: PathLike, clips: Sequence[ActionClip]) -> None:
    """Write what :func:`read_annotation` reads.

    Raises:
        WriteError: it cannot be written.
    """
    rows = [(clip, number) for clip in clips for number in clip.frames]
    cells = np.empty((len(rows), 2), object)
    cells[:] = [[clip.action, clip.name] for clip, _ in rows] or cells
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(clip.boxes for clip in clips)])
    annot = {
        "action": cells[:, :1],
        "video_id": cells[:, 1:],
        "frame": np.array([[number] for _, number in rows], np.uint16).reshape(-1, 1),
        "bound": np.concatenate([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2] + 1], 1).astype(np.float32),
    }
    write_mat(path, {"annot": annot})


def write_clip_split(
    folder: PathLike, number: int, clips: Sequence[ActionClip], parts: Mapping[str, Part]
) -> list[Path]:
    """Write what :func:`read_clip_split` reads: a list for each action; clips without a part are left out.

    Returns:
        The files.

    Raises:
        WriteError: one cannot be written.
    """
    numbers = {part: digit for digit, part in _PARTS.items()}
    paths = []
    for action in sorted({clip.action for clip in clips}):
        of_it = [clip.name for clip in clips if clip.action == action and clip.name in parts]
        paths.append(Path(folder) / f"{action}_test_split{number}.txt")
        write_file(paths[-1], "".join(f"{name}.avi {numbers[parts[name]]} \n" for name in of_it))
    return paths
