"""From NYUD2's official downloads to the tree that the tools train and test on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from caffe_compat.datasets.boxes import boxes_from_labels, write_ground_truth
from caffe_compat.datasets.downloads import DOWNLOADS, verify
from caffe_compat.datasets.labelled import millimetres
from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.nyud2 import CLASSES, FIRST_ID, LabelledNYUD2
from caffe_compat.datasets.pairs import finished
from caffe_compat.datasets.proposals import read_proposals
from caffe_compat.datasets.record import depth_frames
from caffe_compat.datasets.selection import enough_depth, select, write_selection
from caffe_compat.datasets.tree import NYUD2Tree, whole_numbers
from caffe_compat.datasets.video import (
    VideoPair,
    base_scene,
    scene_folders,
    scene_name,
    scenes_of_split,
    synchronise,
)
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.io import DepthFormat, write_depth
from caffe_compat.depth.modalities import Options
from caffe_compat.depth.sources import FileSource
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.files import copy_file
from caffe_compat.frames import Frame, Report, run_frames
from caffe_compat.frames.png import write_color
from caffe_compat.frames.report import reason_of
from caffe_compat.media import write_pairs
from caffe_compat.stamps import read_stamp, stamp_difference, write_stamp

__all__ = ["Settings", "prepare", "rebuild_splits"]

LABELLED, OFFICIAL, GUPTA, PROPOSALS = (
    "nyu_depth_v2_labeled.mat",
    "splits.mat",
    "nyusplits.mat",
    "nyud2_mcg_boxes.mat",
)
STAMP = "prepare.json"
TRAIN_FRAMES = 381
"""Size of the authors' train split; val is the rest of the official 795."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to prepare.

    Args:
        downloads: folder with ``nyu_depth_v2_labeled.mat`` and ``splits.mat`` and, if at hand, the authors'
            ``nyusplits.mat`` and ``nyud2_mcg_boxes.mat``.
        output: the tree, ``data/nyud2``.
        check: compare the downloads with the recorded sizes and checksums.
        seed: of the train/val split, where ``nyusplits.mat`` is not there, and of the video frames.
        video: folder of raw video scenes.
        video_frames: how many to select.
        video_split: of which scenes: ``train`` (results on val) or ``trainval`` (results on test).
        workers: processes.
        overwrite: make a tree anew that was made of other files or with other settings.
        progress: show bars (on a terminal).
    """

    downloads: Path
    output: Path
    check: bool = True
    seed: int = 0
    video: Path | None = None
    video_frames: int = 5000
    video_split: str = "train"
    workers: int = 0
    overwrite: bool = False
    progress: bool = True


def prepare(settings: Settings, say: Callable[[str], None] = print) -> list[Report]:
    """Do everything that is not done yet; each step may be interrupted and goes on in the next call.

    Args:
        settings: what to do.
        say: gets a line per step.

    Returns:
        The reports of the frames encoded: labelled, and video if asked for.

    Raises:
        MissingFileError, DataError: a download is missing, damaged or contradicts another; the tree was made of others.
    """
    tree = NYUD2Tree(settings.output)
    labelled = settings.downloads / LABELLED
    made_of = _check_downloads(settings, say)
    with LabelledNYUD2(labelled) as data:
        splits, origin = _splits(settings, data)
        scenes, numbers = _scenes(data), data.numbers
        _check_numbers(splits, numbers, data.path)
        chosen = [] if settings.video is None else _choose(settings, settings.video, splits, scenes, say)
        _write_splits(tree, splits, settings.overwrite)
        if settings.overwrite:
            _remove(path for number in numbers for path in _exported(tree, number))
        write_stamp(settings.output / STAMP, made_of)
        say(f"splits: {', '.join(f'{name} {len(ids)}' for name, ids in splits.items())} ({origin})")
        failed = _export(tree, data, settings)
    good = [number for number in numbers if number not in failed]
    say(f"frames: {len(good)} with colour, depth, raw depth, boxes and instances in {settings.output}")
    reports = [_encode_tree(tree, good, settings)]
    say(f"HHA: {reports[0].lines()[-1]}")
    reports[0].failed += [(str(labelled), reason) for reason in failed.values()]
    _write_lists(tree, splits, set(good))
    _proposals(settings, splits, say)
    if settings.video is not None:
        reports.append(_video(settings, settings.video, chosen, say))
    if not any(report.failed for report in reports):
        for split in ("trainval", "test"):
            tree.check(split, "images+hha", segmentation=True)
        say(f"{settings.output} is ready")
    return reports


def rebuild_splits(train_numbers: Sequence[int], scenes: Mapping[int, str], size: int, seed: int) -> list[int]:
    """A part of the official training frames made of whole scenes, as near to ``size`` frames as scenes allow.

    Args:
        train_numbers: frame numbers to choose from.
        scenes: scene of each.
        size: how many are wanted.
        seed: of the order in which scenes are tried.

    Returns:
        Sorted frame numbers; no scene (:func:`base_scene`) has frames both inside and outside.
    """
    groups: dict[str, list[int]] = {}
    for number in sorted(train_numbers):
        groups.setdefault(base_scene(scenes[number]), []).append(number)
    names = sorted(groups)
    chosen: list[int] = []
    for index in np.random.default_rng(seed).permutation(len(names)):
        group = groups[names[index]]
        if abs(len(chosen) + len(group) - size) < abs(len(chosen) - size):
            chosen += group
    return sorted(chosen)


def _check_downloads(settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Checksums, unless the same files (by size and time) were checked before; refuses a tree made of others.

    Returns:
        What the tree is made of, for its stamp.
    """
    known = read_stamp(settings.output / STAMP) or {}
    names = {LABELLED: "nyud2_labelled", OFFICIAL: "nyud2_splits", PROPOSALS: "nyud2_mcg_boxes"}
    found: dict[str, Any] = {}
    for file, name in names.items():
        path = settings.downloads / file
        if not path.exists():
            if file != PROPOSALS and not (file == OFFICIAL and (settings.downloads / GUPTA).exists()):
                raise MissingFileError(path, f"{DOWNLOADS[name].about}; {DOWNLOADS[name].url}")
            continue
        status = path.stat()
        found[file] = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "checked": settings.check}
        before = known.get(file)
        if not isinstance(before, dict | None):
            raise DataError(f"{settings.output / STAMP}: {file} is {before!r}, not what this tool wrote; remove it")
        if before is not None and not settings.overwrite:
            # a copy has another time; only its checksum can tell that it is one
            asked = ("bytes",) if settings.check else ("bytes", "modified_ns")
            other = stamp_difference(*({name: side.get(name) for name in asked} for side in (before, found[file])))
            if other is not None:
                raise DataError(
                    f"{settings.output} was made of another {file} ({other}); choose another output folder, or "
                    "--overwrite makes the tree anew"
                )
        if before == found[file] or not settings.check:
            continue
        say(f"{file}: {verify(path, DOWNLOADS[name], progress=settings.progress)}")
    if not settings.check:
        say("checksums: not compared")
    return found


def _write_splits(tree: NYUD2Tree, splits: Mapping[str, list[int]], overwrite: bool) -> None:
    """Write the splits; others than those that video frames were chosen by are refused, or the choice is removed."""
    if tree.splits_path.exists():
        before = tree.splits()
        if {name: sorted(before[name]) for name in splits} != {name: sorted(ids) for name, ids in splits.items()}:
            if not overwrite:
                raise DataError(
                    f"{tree.splits_path}: holds other splits than the downloads and --seed now give; --overwrite "
                    "replaces them, and removes the lists of video frames that were chosen by them"
                )
            _remove(path for name in ("pairs.txt", "selection.json") for path in tree.root.glob(f"video_*/{name}"))
    tree.write_splits(splits)


def _splits(settings: Settings, data: LabelledNYUD2) -> tuple[dict[str, list[int]], str]:
    """Frame numbers of train, val, trainval and test, and where they come from."""
    path = settings.downloads / GUPTA
    if path.exists():
        return NYUD2Tree.read_splits(path), f"as {GUPTA} says"
    official = settings.downloads / OFFICIAL
    content = read_mat(official, ["trainNdxs", "testNdxs"])
    trainval, test = (
        sorted(index + FIRST_ID - 1 for index in whole_numbers(content[name], name, official))
        for name in ("trainNdxs", "testNdxs")
    )
    if not trainval or not test:
        raise DataError(f"{official}: {len(trainval)} training and {len(test)} test frames, expected some of both")
    _check_numbers({"trainNdxs": trainval, "testNdxs": test}, data.numbers, data.path)
    scenes = dict(zip(data.numbers, data.scenes, strict=True))
    size = round(TRAIN_FRAMES * len(trainval) / 795)
    train = rebuild_splits(trainval, scenes, size, settings.seed)
    splits = {
        "train": train,
        "val": sorted(set(trainval) - set(train)),
        "trainval": trainval,
        "test": test,
    }
    return splits, f"test as {OFFICIAL}; {GUPTA} is not there, so train and val are ours, seed {settings.seed}"


def _check_numbers(splits: Mapping[str, Sequence[int]], numbers: range, labelled: str) -> None:
    for name, chosen in splits.items():
        absent = sorted(set(chosen) - set(numbers))
        if absent:
            raise DataError(
                f"split '{name}' has {len(absent)} frames that {labelled} lacks, such as {absent[0]}; it has "
                f"{numbers[0]} to {numbers[-1]}"
            )


def _scenes(data: LabelledNYUD2) -> dict[int, set[str]]:
    """Names under which the raw video may know the scene of each frame."""
    found = {}
    for number, scene, file in zip(data.numbers, data.scenes, data.raw_depth_filenames, strict=True):
        found[number] = {scene, file.rsplit("/", 1)[0].rsplit("/", 1)[-1]} if "/" in file else {scene}
    return found


def _export(tree: NYUD2Tree, data: LabelledNYUD2, settings: Settings) -> dict[int, str]:
    """The pngs and .mat files of every labelled frame that has not all of them; why frames could not be used."""
    names, failed = data.names, {}
    for number in tqdm(data.numbers, desc="frames", unit="frame", disable=None if settings.progress else True):
        image, depth, raw, boxes, segmentation = paths = _exported(tree, number)
        if all(map(os.path.exists, paths)):
            continue
        try:
            frame, labels, instances = data.frame(number), data.labels(number), data.instances(number)
            metres, measured = millimetres(frame.depth) / 1000.0, millimetres(frame.raw_depth) / 1000.0
            objects = boxes_from_labels(labels, instances, names, CLASSES)
        except Exception as error:  # one frame's affair, as in run_frames
            where = f"{data.path}: frame {number}"
            failed[number] = f"{where}: {error}" if isinstance(error, DataError) else reason_of(where, error)
            continue
        write_color(image, frame.color)
        write_depth(depth, metres)
        write_depth(raw, measured)
        write_ground_truth(boxes, objects)
        tree.write_segmentation(number, labels, instances)
    return failed


def _exported(tree: NYUD2Tree, number: int) -> list[Path]:
    """What is made of a labelled frame before it is encoded."""
    pictures = [tree.path(number, kind) for kind in ("images", "depth", "rawdepth")]
    return [*pictures, tree.ground_truth_path(number), tree.segmentation_path(number)]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _encode_tree(tree: NYUD2Tree, numbers: Sequence[int], settings: Settings) -> Report:
    encoder = Options().encoder(CAMERAS["nyud2_color_cropped"])
    frames = [
        Frame(
            FileSource(str(tree.path(number, "depth")), DepthFormat(1000), str(tree.path(number, "rawdepth"))),
            encoder,
            str(tree.path(number, "hha")),
        )
        for number in numbers
    ]
    return run_frames(frames, overwrite=settings.overwrite, workers=settings.workers, progress=settings.progress)


def _write_lists(tree: NYUD2Tree, splits: Mapping[str, Sequence[int]], good: set[int]) -> None:
    for name, numbers in splits.items():
        pairs = [
            (str(tree.path(number, "images")), str(tree.path(number, "hha"))) for number in numbers if number in good
        ]
        write_pairs(Path(tree.root) / "lists" / f"{name}_pairs.txt", pairs)


def _proposals(settings: Settings, splits: Mapping[str, Sequence[int]], say: Callable[[str], None]) -> None:
    """Check the proposals and put them where the fork looks for them, beside the tree."""
    source, target = settings.downloads / PROPOSALS, settings.output.parent / PROPOSALS
    if not source.exists():
        say(f"proposals: {PROPOSALS} is not there; detection will need it")
        return
    names = [f"img_{number}" for part in ("trainval", "test") for number in splits[part]]
    count = sum(len(boxes) for boxes in read_proposals(source, names).values())
    if source.resolve() != target.resolve():
        copy_file(source, target)
    say(f"proposals: {count} boxes of {len(names)} images in {target}")


def _choose(
    settings: Settings,
    root: Path,
    splits: Mapping[str, Sequence[int]],
    scenes: Mapping[int, set[str]],
    say: Callable[[str], None],
) -> list[VideoPair]:
    """Video frames of the scenes of one split only."""
    folders = {scene_name(folder): folder for folder in scene_folders(root)}
    inside = {name for number in splits[settings.video_split] for name in scenes[number]}
    outside = {name for number in set(scenes) - set(splits[settings.video_split]) for name in scenes[number]}
    split = scenes_of_split(folders, inside, outside)
    say(
        f"video: {len(split.scenes)} of {len(folders)} scenes are of {settings.video_split} alone; left out: "
        f"{len(split.other)} of other splits, {len(split.shared)} of both, {len(split.unknown)} without labelled frames"
    )
    candidates = {name: synchronise(folders[name]) for name in split.scenes}
    return select(candidates, settings.video_frames, settings.seed, usable=enough_depth)


def _video(settings: Settings, root: Path, chosen: Sequence[VideoPair], say: Callable[[str], None]) -> Report:
    """Encode the chosen video frames."""
    output = settings.output / f"video_{settings.video_split}"
    write_selection(output / "selection.json", chosen, root, settings.seed)
    frames = depth_frames([pair.record() for pair in chosen], output, Options())
    report = run_frames(frames, overwrite=settings.overwrite, workers=settings.workers, progress=settings.progress)
    done = [(frame.color_output or "", frame.output) for frame in finished(frames, report)]
    write_pairs(output / "pairs.txt", done)
    say(f"video: {len(done)} pairs in {output / 'pairs.txt'}; {report.lines()[-1]}")
    return report
