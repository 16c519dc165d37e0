"""One frame of a data set, as every loader here gives it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.modalities import Options
from caffe_compat.errors import DataError
from caffe_compat.frames import Frame, Source

__all__ = ["FrameRecord", "depth_frames"]


@dataclasses.dataclass(frozen=True, eq=False)
class FrameRecord:
    """What is known of a frame; what is not known, or was not asked for, is None.

    Args:
        name: of its own in the data set; files made of the frame are called after it (``/`` makes folders).
        paths: files by modality, named as NYUD2's folders are: ``images`` (colour), ``depth``, ``rawdepth``, ``hha``,
            ``disparity``, ...
        depth: reads its depth, with the holes and the colour that belong to it; also where it has no file of its own.
        size: height and width in pixels.
        camera: who made it.
        scene: frames of one scene show one room.
        boxes: float32 [K, 4], x1 y1 x2 y2 in pixels from 0, last pixel included.
        classes: name of the class of each box.
        instances: uint16 [H, W], number of the object at each pixel, 0 = none.
        difficult: bool [K], objects that evaluation neither wants nor punishes; None: none is.
        crowd: bool [K], boxes around many objects at once (COCO's iscrowd): never taught, and what lies in them is
            neither right nor wrong; None: none is.
        masks: reads bool [K, H, W], the pixels of each box's object.
        areas: float32 [K], pixels of each object; None: those of its box.
        id: its number in the data set's own files (COCO's image id).
        gravity: the direction down in the axes of ``camera`` (X right, Y down, Z forward), where it was measured.
    """

    name: str
    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    depth: Source | None = None
    size: tuple[int, int] | None = None
    camera: Camera | None = None
    scene: str | None = None
    boxes: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    instances: np.ndarray | None = None
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    masks: Callable[[], np.ndarray] | None = None
    areas: np.ndarray | None = None
    id: int | None = None
    gravity: tuple[float, float, float] | None = None


def depth_frames(records: Iterable[FrameRecord], output: str | os.PathLike[str], options: Options) -> list[Frame]:
    """What is to be made of the depth of frames: ``<kind>/NAME.png`` and ``color/NAME.png`` below ``output``.

    Args:
        records: of one data set.
        output: folder.
        options: what to make, and how.

    Raises:
        DataError: a frame without depth, HHA without a camera, or two frames of one name.
    """
    frames: dict[str, Frame] = {}
    for record in records:
        if record.depth is None:
            raise DataError(f"frame {record.name}: it has no depth")
        if record.name in frames:
            raise DataError(f"{record.depth.name}: another frame is written to {record.name}.png too")
        frames[record.name] = Frame(
            source=record.depth,
            encoder=options.encoder(record.camera, record.gravity),
            output=str(Path(output) / options.kind / f"{record.name}.png"),
            color_output=str(Path(output) / "color" / f"{record.name}.png"),
            scene=record.scene,
        )
    return list(frames.values())
