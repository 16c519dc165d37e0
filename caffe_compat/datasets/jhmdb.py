"""JHMDB: 928 clips of 21 actions, a box in each of their 31,838 frames; and clips of one's own laid out as it.

::

    data/jhmdb/jhmdb_annot.mat                       boxes (of ActionTubes; see :mod:`~caffe_compat.datasets.actions`)
    data/jhmdb/splits/ACTION_test_split1.txt         which clips train and which test; 2 and 3 too
    data/jhmdb/Rename_Images/ACTION/CLIP/00001.png   frames as published; or images/ACTION/...
    data/jhmdb/flow/ACTION/CLIP/00001.png            flow from frame 1 to frame 2, made by ``make_flow``

Nothing leads from the last frame of a clip to another, so it has no flow image.  A database with a modality whose name
begins with ``flow`` leaves that frame out, with its box, unless a picture of it is there; databases of colour alone
have it.  (The source of ActionTubes reads a flow image of every frame, and does not say what that of the last is.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.datasets.actions import ActionClip, Part, read_annotation, read_clip_split
from caffe_compat.datasets.imdb import ImageDatabase, register_imdb
from caffe_compat.datasets.pictures import Pictures, picture_size
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, MissingFileError

__all__ = ["ANNOTATION", "JHMDB_CLASSES", "clips", "jhmdb"]

JHMDB_CLASSES = (
    *("brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push"),
    *("run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave"),
)
"""The actions; the first is label 1."""
ANNOTATION = "jhmdb_annot.mat"
_MODALITIES = r"(?P<modalities>[^_:/,+]+(?:\+[^_:/,+]+)*)"
_COLOR = "images"


@register_imdb(
    rf"jhmdb_{_MODALITIES}_split(?P<split>[123])_(?P<part>train|test)",
    [
        f"jhmdb_{kinds}_split{split}_{part}"
        for kinds in (_COLOR, "flow", f"{_COLOR}+flow")
        for split in (1, 2, 3)
        for part in ("train", "test")
    ],
)
def jhmdb(root: Path, modalities: str, split: str, part: Part) -> ImageDatabase:
    """JHMDB in ``data/jhmdb``, its three splits.

    Args:
        root: the folder that holds ``data/``.
        modalities: ``images`` or folders of ``data/jhmdb``, joined by ``+``.
        split: 1, 2 or 3.
        part: train or test.

    Raises:
        MissingFileError, DataError: annotation, lists or frames are missing (named) or cannot be used.
    """
    name = f"jhmdb_{modalities}_split{split}_{part}"
    return _database(name, root / "data" / "jhmdb", tuple(modalities.split("+")), (int(split), part), JHMDB_CLASSES)


@register_imdb(
    rf"clips:(?P<folder>[^,]+),split=(?P<split>[1-9])_(?P<part>train|test)(?:,modalities={_MODALITIES})?",
    ["clips:FOLDER,split=1_train,modalities=images+flow"],
)
def clips(root: Path, folder: str, split: str, part: Part, modalities: str | None) -> ImageDatabase:
    """Any folder laid out as JHMDB's; its actions, in alphabetic order, are those of its ``jhmdb_annot.mat``.

    Args:
        root: not looked at: the folder is the one that a shell would find.
        folder, split, part, modalities: as for :func:`jhmdb`; images if not given.

    Raises:
        MissingFileError, DataError: as :func:`jhmdb`.
    """
    path, kinds = Path(folder).expanduser(), modalities or _COLOR
    name = f"{path.resolve().name}_{kinds}_split{split}_{part}"
    return _database(name, path, tuple(kinds.split("+")), (int(split), part))


def _database(
    name: str, folder: Path, modalities: tuple[str, ...], split: tuple[int, Part], classes: Sequence[str] = ()
) -> ImageDatabase:
    annotation = folder / ANNOTATION
    known = read_annotation(annotation)
    actions = tuple(classes or sorted({clip.action for clip in known.values()}))
    parts = read_clip_split(folder / "splits", split[0], known, actions)
    chosen = [known[clip] for clip, part in parts.items() if part == split[1]]
    if not chosen:
        raise DataError(f"{folder / 'splits'}: no clip of split {split[0]} is there to {split[1]}")
    pictures = {kind: Pictures(_folder(folder, kind), f"modality {kind}") for kind in modalities}
    found = [(clip, _paths(clip, pictures)) for clip in chosen]
    _check_complete(name, pictures, found)
    records = [record for clip, paths in found for record in _records(clip, paths, annotation)]
    if not records:
        raise DataError(f"{name}: none of its frames has a picture of every modality ({' and '.join(modalities)})")
    return ImageDatabase(name, actions, modalities, records, metric="action")


def _folder(root: Path, modality: str) -> Path:
    """Where the frames of a modality are; colour may be in the folder that the archive unpacks to."""
    published = root / "Rename_Images"
    if modality == _COLOR and not (root / modality).is_dir() and published.is_dir():
        return published
    if not (root / modality).is_dir():
        made = " or Rename_Images, as it is published" if modality == _COLOR else ""
        tool = ", which make_flow makes of the frames" if modality.startswith("flow") else ""
        raise MissingFileError(root / modality, f"folder of modality {modality}{made}{tool}")
    return root / modality


Paths = list[dict[str, str]]
"""Of each frame of a clip its picture in each modality; empty where there is none."""


def _paths(clip: ActionClip, pictures: dict[str, Pictures]) -> Paths:
    stems = [f"{clip.action}/{clip.name}/{number:05d}" for number in clip.frames]
    return [{kind: files.find(f"{stem}.png", [stem]) for kind, files in pictures.items()} for stem in stems]


def _check_complete(name: str, pictures: dict[str, Pictures], found: Sequence[tuple[ActionClip, Paths]]) -> None:
    """Refuse a part of the data set, saying which."""
    for kind, files in pictures.items():
        absent, whole = [], 0
        for clip, paths in found:
            needed = paths[:-1] if kind.startswith("flow") else paths
            missing = [number for number, frame in zip(clip.frames, needed, strict=False) if not frame[kind]]
            absent += [f"{clip.action}/{clip.name}/{number:05d}.png" for number in missing]
            whole += not missing
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            raise DataError(
                f"{name}: {len(absent)} frames that have a box have no picture in {files.root}: "
                f"{', '.join(absent[:5])}{more}; {whole} of its {len(found)} clips are complete"
            )


def _records(clip: ActionClip, paths: Paths, annotation: Path) -> Iterator[FrameRecord]:
    """The frames that have a picture of every modality."""
    numbers = [number for number, frame in zip(clip.frames, paths, strict=True) if all(frame.values())]
    if not numbers:
        return
    size = picture_size(next(iter(paths[numbers[0] - 1].values())))
    beyond = np.flatnonzero((clip.boxes[:, 2:] > (size[1] - 1, size[0] - 1)).any(1))
    if beyond.size:
        row = int(beyond[0])
        raise DataError(
            f"{annotation}: the box of frame {row + 1} of {clip.name} ends at x, y = "
            f"{(clip.boxes[row, 2:] + 1).tolist()} (from 1), beyond the {size[1]} x {size[0]} pixels of its pictures"
        )
    for number in numbers:
        yield FrameRecord(
            name=f"{clip.action}/{clip.name}/{number:05d}",
            paths=paths[number - 1],
            size=size,
            scene=clip.name,
            boxes=clip.boxes[number - 1 : number],
            classes=(clip.action,),
        )
