"""A data set of drawn clips on disk: what moves carries the label, and the optical flow is known.

::

    root/clips.json                            what it was made from; also marks the folder as ours
    root/camera.json, clips.csv                camera; number, clip, split and action, a row for each clip
    root/images/ACTION/CLIP/00001.png, ...     RGB
    root/flow/ACTION/CLIP/00001.png, ...       the true flow to the next frame, encoded as make_flow does; the last
                                               frame has none
    root/flo/ACTION/CLIP/00001.flo, ...        the same as numbers, where asked for
    root/boxes/ACTION/CLIP.csv                 frame, x1, y1, x2, y2 (pixels from 0, last pixel included); not of videos
    root/jhmdb_annot.mat                       these boxes, as JHMDB's are published
    root/splits/ACTION_test_split1.txt         which clips train and which test
    root/videos.txt                            names of the videos' actions, one a line
    root/lists/pairs_{train,val}.txt           colour and flow of the videos, for transfers, relative to root
    root/lists/videos_{images,flow}_{train,val}.txt    pictures of one kind and the label of their video's action

All but the videos is laid out as JHMDB, so that ``clips:ROOT,split=1_train,modalities=images+flow`` is an image
database of it.  The videos stand for UCF101: they have no boxes, their actions are others, with some in common, and of
ten one is held out for validation.  A clip depends on the settings and its number only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_compat.datasets.actions import ActionClip, Part, write_annotation, write_clip_split
from caffe_compat.errors import DataError
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.flow import encode, write_flo
from caffe_compat.frames.png import write_color, write_encoded
from caffe_compat.scenes.clip_settings import HELD_OUT, ClipSettings, ClipSpec, clip_specs
from caffe_compat.scenes.dataset import take_folder, tight_box, write_lines
from caffe_compat.scenes.motion import ACTIONS, VIDEO_ACTIONS, make_track, true_flow
from caffe_compat.scenes.render import Frame, make_room, render

__all__ = ["draw_clip", "open_clips", "write_clip", "write_clip_lists"]

FORMAT = 1
"""Raise it when the same settings give other clips than before."""
LEAST = 0.015
"""Part of every picture that the object covers at least; other tracks are drawn anew."""
TRIES = 50
_ENTRIES = (
    *("images", "flow", "flo", "boxes", "lists", "splits"),
    *("camera.json", "clips.csv", "clips.json", "jhmdb_annot.mat", "videos.txt"),
)


def open_clips(root: Path, settings: ClipSettings, overwrite: bool = False) -> None:
    """Make the folder of a data set ready, or take up an unfinished one.

    Args:
        root: the folder; may exist if it is empty, or holds clips of the same settings.
        settings: what the data set is made from; written to ``clips.json``.
        overwrite: throw away a data set of other settings.

    Raises:
        UsageError: the folder holds something else.
    """
    wanted = {
        "format": FORMAT,
        **dataclasses.asdict(settings),
        "classes": list(ACTIONS),
        "video_classes": list(VIDEO_ACTIONS),
        "held_out": HELD_OUT,
    }
    take_folder(root, root / "clips.json", wanted, _ENTRIES, overwrite)


def draw_clip(settings: ClipSettings, spec: ClipSpec) -> tuple[list[Frame], list[NDArray[np.float32]]]:
    """Draw one clip: its frames, and the true flow (H, W, 2) in pixels from each but the last to the next.

    Raises:
        DataError: no track of this action keeps its object in sight.
    """
    camera = settings.camera
    for attempt in range(TRIES):
        rng = np.random.default_rng([settings.seed, 5, spec.id, attempt])
        room = make_room(rng)
        track = make_track(spec.actions[spec.action], room, camera, rng, settings.frames)
        frames = [render(room, view, camera, rng) for view in track]
        if min(frame.mask.mean() for frame in frames) >= LEAST:
            flows = [true_flow(frames[t], track[t], track[t + 1], camera) for t in range(len(track) - 1)]
            return frames, flows
    raise DataError(
        f"{spec.name}: in {TRIES} tries no object stays in sight for {settings.frames} frames; ask for fewer"
    )


def write_clip(root: Path, settings: ClipSettings, flo: bool, spec: ClipSpec) -> bool:
    """Draw and write a clip; if its files are all there they are left as they are.

    Args:
        flo: also write the flow as numbers.

    Returns:
        Whether something was written.
    """
    images = _paths(root, "images", spec, settings.frames)
    encoded = _paths(root, "flow", spec, settings.frames - 1)
    numbers = _paths(root, "flo", spec, settings.frames - 1) if flo else []
    boxes = [] if spec.split == "videos" else [root / "boxes" / f"{spec.name}.csv"]
    if all(path.exists() for path in (*images, *encoded, *numbers, *boxes)):
        return False
    frames, flows = draw_clip(settings, spec)
    for path, frame in zip(images, frames, strict=True):
        write_color(path, frame.image)
    for path, flow in zip(encoded, flows, strict=True):
        write_encoded(path, encode(flow[..., 0], flow[..., 1]), {"kind": "flow", "method": "drawn"})
    for path, flow in zip(numbers, flows, strict=False):
        write_flo(path, flow)
    for path in boxes:
        rows = [",".join([str(t), *map(str, map(int, tight_box(frame.mask)))]) for t, frame in enumerate(frames, 1)]
        write_lines(path, ["frame,x1,y1,x2,y2", *rows])
    return True


def _paths(root: Path, kind: str, spec: ClipSpec, count: int) -> list[Path]:
    ending = "flo" if kind == "flo" else "png"
    return [root / kind / spec.name / f"{number:05d}.{ending}" for number in range(1, count + 1)]


def write_clip_lists(root: Path, settings: ClipSettings) -> None:
    """Write everything of a data set that is not of one clip, when all clips are there.

    Raises:
        MissingFileError, DataError: the boxes of a clip are missing, or were changed.
    """
    specs = clip_specs(settings)
    with atomic_write(root / "camera.json", "w") as stream:
        json.dump(dataclasses.asdict(settings.camera), stream, indent=1)
    rows = [f"{spec.id},{spec.name},{spec.split},{spec.action}" for spec in specs]
    write_lines(root / "clips.csv", ["id,clip,split,action", *rows])
    clips = {
        spec: ActionClip(spec.action, spec.clip, _read_boxes(root, spec, settings.frames))
        for spec in specs
        if spec.split != "videos"
    }
    write_annotation(root / "jhmdb_annot.mat", list(clips.values()))
    parts: dict[str, Part] = {spec.clip: "train" if spec.split == "train" else "test" for spec in clips}
    write_clip_split(root / "splits", 1, list(clips.values()), parts)
    write_lines(root / "videos.txt", VIDEO_ACTIONS)
    _write_video_lists(root, settings, [spec for spec in specs if spec.split == "videos"])


def _write_video_lists(root: Path, settings: ClipSettings, videos: Sequence[ClipSpec]) -> None:
    for part, held_out in (("train", False), ("val", True)):
        chosen = [spec for spec in videos if spec.held_out == held_out]
        frames = [(spec, f"{spec.name}/{t:05d}.png") for spec in chosen for t in range(1, settings.frames)]
        write_lines(root / "lists" / f"pairs_{part}.txt", [f"images/{path} flow/{path}" for _, path in frames])
        for kind in ("images", "flow"):
            lines = [f"{kind}/{path} {spec.label}" for spec, path in frames]
            write_lines(root / "lists" / f"videos_{kind}_{part}.txt", lines)


def _read_boxes(root: Path, spec: ClipSpec, frames: int) -> NDArray[np.float32]:
    """float32 (frames, 4), as :func:`write_clip` wrote them."""
    path = root / "boxes" / f"{spec.name}.csv"
    with open_existing(path, f"boxes of {spec.name}") as stream:
        lines = stream.read().decode("utf-8", "replace").splitlines()[1:]
    try:
        rows = np.array([[int(word) for word in line.split(",")] for line in lines])
        good = rows.shape == (frames, 5) and (rows[:, 0] == np.arange(1, frames + 1)).all()
    except ValueError:
        good = False
    if not good:
        raise DataError(f"{path}: expected frame,x1,y1,x2,y2 of frames 1 to {frames}; remove it to have it made anew")
    return rows[:, 1:].astype(np.float32)
