"""A data set of drawn frames on disk, laid out as NYUD2 is.

::

    root/scenes.json                                   what it was made from; also marks the folder as ours
    root/camera.json, classes.txt, frames.csv          camera; class names, one a line; id, split, scene, label
    root/data/images/img_NNNN.png                      RGB
    root/data/rawdepth/img_NNNN.png                    uint16 millimetres, 0 = not measured
    root/data/depth/img_NNNN.png                       uint16 millimetres, holes filled
    root/data/hha/img_NNNN.png                         disparity, height, angle (as R, G, B)
    root/benchmarkData/metadata/nyusplits.mat          frame numbers: train, val, trainval, test, pairs
    root/benchmarkData/gt_box_cache_dir/img_NNNN.mat   rec.imgsize, rec.objects; not for the split "pairs"
    root/benchmarkData/groundTruth/img_NNNN.mat        the object's pixels; not for the split "pairs"
    root/lists/*.txt                                   lists for data layers, paths relative to root; those of
                                                       disparity need make_disparity root/data/depth -o
                                                       root/data/disparity

Frame numbers start at 5001.  The frames of a scene share a room and belong to one split.  A frame depends on the seed,
the split sizes and its number only, so neither the number of workers nor an interruption changes it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_compat.datasets.boxes import GroundTruth, write_ground_truth
from caffe_compat.datasets.mat import write_mat
from caffe_compat.datasets.tree import NYUD2Tree
from caffe_compat.depth import Camera, complete, hha
from caffe_compat.depth.scale import ClipWarning
from caffe_compat.errors import UsageError
from caffe_compat.files import atomic_write
from caffe_compat.frames.png import write_color, write_png
from caffe_compat.scenes.render import Frame, make_room, make_view, render
from caffe_compat.scenes.sensor import sense
from caffe_compat.scenes.settings import FrameSpec, Settings, frame_specs
from caffe_compat.scenes.solids import CLASSES
from caffe_compat.stamps import check_stamp, read_stamp, same_stamp, write_stamp

__all__ = ["draw", "encode", "open_root", "take_folder", "tight_box", "write_frame", "write_lines", "write_lists"]

FORMAT = 1
"""Raise it when the same settings give other frames than before."""
KINDS = ("images", "rawdepth", "depth", "hha")
_ENTRIES = ("data", "benchmarkData", "lists", "camera.json", "classes.txt", "frames.csv", "scenes.json")


def open_root(root: Path, settings: Settings, overwrite: bool = False) -> None:
    """Make the folder of a data set ready, or take up an unfinished one.

    Args:
        root: the folder; may exist if it is empty, or holds a data set of the same settings.
        settings: what the data set is made from; written to ``scenes.json``.
        overwrite: throw away a data set of other settings.

    Raises:
        UsageError: the folder holds something else.
    """
    wanted = {"format": FORMAT, **dataclasses.asdict(settings), "classes": list(CLASSES)}
    take_folder(root, root / "scenes.json", wanted, _ENTRIES, overwrite)


def take_folder(root: Path, marker: Path, wanted: Mapping[str, Any], entries: Sequence[str], overwrite: bool) -> None:
    """Mark a folder as a data set's, or take up an unfinished one.

    Args:
        root: the folder; may exist if it is empty, or holds a data set of the same settings.
        marker: the file that says so; its name marks the kind of data set.
        wanted: what the data set is made from.
        entries: what may lie in it, which goes if one of other settings is thrown away.
        overwrite: throw away a data set of other settings.

    Raises:
        UsageError: the folder holds something else.
    """
    found = read_stamp(marker)
    if found is not None:
        if not overwrite:
            hint = "choose another folder or --overwrite"
            check_stamp(f"{root}: a data set", found, wanted, hint, error=UsageError)
        elif not same_stamp(found, wanted):
            for entry in entries:
                _remove(root / entry)
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} is not empty and no data set of this tool (no {marker.name}); choose another folder")
    write_stamp(marker, wanted)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def draw(settings: Settings, spec: FrameSpec) -> tuple[Frame, NDArray[np.uint16]]:
    """Draw one frame: the noiseless picture and the raw depth in millimetres."""
    room = make_room(np.random.default_rng([settings.seed, 1, spec.scene]))
    rng = np.random.default_rng([settings.seed, 2, spec.id])
    frame = render(room, make_view(spec.label, room, rng), settings.camera, rng)
    return frame, sense(frame.depth, frame.facing, settings.camera.fx, rng)


def write_frame(root: Path, settings: Settings, spec: FrameSpec) -> bool:
    """Draw and write a frame; if its files are all there they are left as they are.

    Returns:
        Whether something was written.
    """
    if all(path.exists() for path in _paths(root, spec)):
        return False
    _write_frame(root, settings, spec)
    return True


def _paths(root: Path, spec: FrameSpec) -> list[Path]:
    paths = [root / "data" / kind / f"{spec.name}.png" for kind in KINDS]
    truth = [root / "benchmarkData" / folder / f"{spec.name}.mat" for folder in ("gt_box_cache_dir", "groundTruth")]
    return paths if spec.split == "pairs" else [*paths, *truth]


def _write_frame(root: Path, settings: Settings, spec: FrameSpec) -> None:
    frame, raw = draw(settings, spec)
    filled, encoded = encode(raw, settings.camera)
    images, rawdepth, depth, hha, *truth = _paths(root, spec)
    write_color(images, frame.image)
    write_png(rawdepth, raw)
    write_png(depth, filled)
    write_color(hha, encoded)
    if truth:
        write_ground_truth(truth[0], _ground_truth(frame.mask, CLASSES[spec.label]))
        NYUD2Tree(root).write_segmentation(spec.id, frame.mask * (spec.label + 1), frame.mask.astype(int))


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """x1 y1 x2 y2 (pixels from 0, last pixel included) around the pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def _ground_truth(mask: NDArray[np.bool_], name: str) -> GroundTruth:
    """The one object: the tight box around its pixels."""
    height, width = mask.shape
    box = tight_box(mask)[None]
    truncated = box[0, 0] == 0 or box[0, 1] == 0 or box[0, 2] == width - 1 or box[0, 3] == height - 1
    return GroundTruth(box, [name], np.ones(1, np.int64), np.zeros(1, bool), np.array([truncated]), (height, width))


def write_lists(root: Path, settings: Settings) -> None:
    """Write everything of a data set that is not a frame: camera, class names, splits and lists."""
    specs = frame_specs(settings)
    by_split = {split: [spec for spec in specs if spec.split == split] for split in ("train", "pairs", "val", "test")}
    write_lines(root / "classes.txt", CLASSES)
    with atomic_write(root / "camera.json", "w") as stream:
        json.dump(dataclasses.asdict(settings.camera), stream, indent=1)
    rows = [f"{s.id},{s.split},{s.scene},{'' if s.split == 'pairs' else s.label}" for s in specs]
    write_lines(root / "frames.csv", ["id,split,scene,label", *rows])
    numbers = {split: np.array([[spec.id] for spec in chosen], float) for split, chosen in by_split.items()}
    numbers["trainval"] = np.concatenate([numbers["train"], numbers["val"]])
    write_mat(root / "benchmarkData" / "metadata" / "nyusplits.mat", numbers)
    for name, split, kinds, labelled in (
        ("teacher_train_images", "train", ("images",), True),
        ("teacher_val_images", "val", ("images",), True),
        ("pairs_train", "pairs", ("images", "hha"), False),
        ("pairs_val", "val", ("images", "hha"), False),
        ("pairs_train_disparity", "pairs", ("images", "disparity"), False),
        ("pairs_val_disparity", "val", ("images", "disparity"), False),
        ("test_images", "test", ("images",), True),
        ("test_hha", "test", ("hha",), True),
    ):
        write_lines(root / "lists" / f"{name}.txt", [_line(spec, kinds, labelled) for spec in by_split[split]])


def _line(spec: FrameSpec, kinds: Sequence[str], labelled: bool) -> str:
    fields = [f"data/{kind}/{spec.name}.png" for kind in kinds]
    return " ".join([*fields, str(spec.label)] if labelled else fields)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path, "w") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def encode(raw: NDArray[np.uint16], camera: Camera) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Fill the holes of raw depth and encode it.

    Args:
        raw: millimetres, (H, W), 0 = missing.
        camera: the camera that made it.

    Returns:
        filled depth in millimetres, and HHA, (H, W, 3), in the order disparity, height, angle.
    """
    missing = raw == 0
    filled = complete(raw / 1000, missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClipWarning)  # the rooms are small on purpose, and the scale is the paper's
        return np.round(1000 * filled).astype(np.uint16), hha(filled, camera, missing)
