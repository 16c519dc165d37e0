"""``make_hha`` and ``make_disparity``: depth of every kind to images of one kind."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from caffe_compat.commands.depth_arguments import FILE_ARGUMENTS
from caffe_compat.commands.depth_checks import check_common
from caffe_compat.commands.shares import joined_report
from caffe_compat.datasets.coco_file import depth_files, image_files
from caffe_compat.datasets.index import index_records
from caffe_compat.datasets.labelled import labelled_numbers, labelled_records
from caffe_compat.datasets.motorcycle import motorcycle_frame
from caffe_compat.datasets.pairs import finished, hold_out
from caffe_compat.datasets.record import FrameRecord, depth_frames
from caffe_compat.datasets.selection import MAX_GAP, enough_depth, select
from caffe_compat.datasets.sunrgbd import exclude_nyud2, find_frames, read_split
from caffe_compat.datasets.tree import NYUD2Tree
from caffe_compat.datasets.video import (
    VideoPair,
    is_depth_frame,
    scene_folders,
    scene_name,
    synchronise,
)
from caffe_compat.datasets.walk import walk
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.io import DepthFormat
from caffe_compat.depth.modalities import Kind, Options
from caffe_compat.depth.nominal import parse_camera
from caffe_compat.depth.scale import resolve_scale
from caffe_compat.depth.sources import FileSource
from caffe_compat.devices import own_device
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.frames import Frame, Report, run_frames
from caffe_compat.gathering import Gathering
from caffe_compat.media import write_pairs
from caffe_compat.ranks import here
from caffe_compat.resources import program

__all__ = [
    "depth_images",
    "file_camera",
    "file_form",
    "parse_numbers",
]

DEPTH_SUFFIXES = (".npy", ".pgm", ".png", ".tif", ".tiff")
MOST_NUMBERS = 100_000
ACCEPTED = {
    "depth files": ("output", *FILE_ARGUMENTS),
    "the labelled NYUD2": ("output", "frames", "no_crop", "hold_out", "hold_out_scenes"),
    "NYUD2 raw video": ("output", "count", "hold_out", "hold_out_scenes"),
    "SUN RGB-D": ("output", "exclude_nyud2", "sun_split", "hold_out"),
    "--index": ("output", "without", "hold_out", "hold_out_scenes"),
    "--stereo-motorcycle": (),
}
"""What each source takes, of the arguments that some source does not."""


def depth_images(arguments: argparse.Namespace, kind: Kind) -> int:
    """Do what the command line says, or of several processes (:mod:`caffe_compat.ranks`) this one's part, and print
    what became of it.

    Returns:
        1 if a frame could not be used; of several processes rank 0 says so for all.

    Raises:
        UsageError: arguments that are missing or contradict each other.
        DataError, MissingFileError: an input that no frame can do without, or the only frame cannot be used.
    """
    sources = [bool(arguments.input or arguments.list), bool(arguments.index), bool(arguments.stereo_motorcycle)]
    if sum(sources) != 1:
        raise UsageError(
            "give files or a data set (or --list), or --index, or --stereo-motorcycle: exactly one of them"
        )
    if arguments.workers < 0:
        raise UsageError(f"--workers is {arguments.workers}, expected 0 or more")
    device = str(own_device(arguments.gpu, here()))
    scale = resolve_scale(arguments.scale, arguments.near)
    options = Options(kind, arguments.fill, device, arguments.min_depth, arguments.max_depth, scale)
    if not arguments.output and not arguments.stereo_motorcycle:
        raise UsageError("--output is missing")
    found = Report()
    if arguments.seed is not None and arguments.count is None:
        raise UsageError("--seed goes with --count")
    data_set, frames = _frames(arguments, options, found)
    check_common(frames, arguments)
    lists = _lists(arguments, frames) if data_set else {}  # wrong arguments are noticed before the work
    report = _run(arguments, frames)
    if report is None:
        return 0
    if len(frames) == 1 and report.failed and not data_set:
        raise DataError(report.failed[0][1])
    if len(report.failed) == len(frames):
        lists = {}  # nothing is done: what lists there are stay
    for name, part in lists.items():
        pairs = [(frame.color_output or "", frame.output) for frame in finished(part, report)]
        write_pairs(Path(arguments.output) / f"{name}.txt", pairs)
    report.failed += found.failed
    report.warned += found.warned
    print("\n".join([*report.lines(), *_next_after_pairs(arguments.output or "")]))
    return 1 if report.failed else 0


def _run(arguments: argparse.Namespace, frames: list[Frame]) -> Report | None:
    """Encode the frames, or this process's share of them.

    Returns:
        What became of all of them; None: rank 0 tells that.
    """
    ranks = here()
    names = [f"{frame.source.name} -> {frame.output}" for frame in frames]
    with Gathering(arguments.output or arguments.stereo_motorcycle, ranks, names, "frames") as others:
        progress = ranks.is_first and not arguments.quiet
        report = run_frames(
            ranks.share(frames), overwrite=arguments.overwrite, workers=arguments.workers, progress=progress
        )
        return joined_report(others, report, [frame.source.name for frame in frames])


def _next_after_pairs(output: str) -> list[str]:
    """The command that comes next where there are lists of pairs to learn from, as a line; else none."""
    source, val_source = (os.path.join(output, f"{name}_pairs.txt") for name in ("train", "val"))
    if not (output and os.path.exists(source) and os.path.exists(val_source)):
        return []
    nets = "--teacher TEACHER.prototxt --teacher-weights TEACHER.caffemodel --student STUDENT.prototxt --layer BLOB"
    lists = f"--source {source} --val-source {val_source}"
    return [f"next: {program('make_transfer')} {nets} {lists} --output {os.path.join(output, 'transfer')}"]


def parse_numbers(text: str) -> list[int]:
    """``5001,5010-5012`` as numbers.

    Raises:
        UsageError: it is not of that form.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        good = first.isdecimal() and (last.isdecimal() if dash else True)
        if not good or not 0 <= int(last or first) - int(first) < MOST_NUMBERS:
            raise UsageError(f"'{text}' is no list of frame numbers, expected such as 5001,5010-5020")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _frames(arguments: argparse.Namespace, options: Options, found: Report) -> tuple[bool, list[Frame]]:
    """Whether the input is a data set, and what to do; what cannot be used of it is noted in ``found``."""
    source = _source(arguments)
    _refuse_others(arguments, source)
    if source == "--stereo-motorcycle":
        return False, [motorcycle_frame(arguments.stereo_motorcycle, options)]
    if source == "depth files":
        return False, _file_frames(arguments, options)
    return True, depth_frames(_records(arguments, source, found), arguments.output, options)


def _records(arguments: argparse.Namespace, source: str, found: Report) -> list[FrameRecord]:
    if source == "--index":
        return _index_records(arguments, found)
    (path,) = arguments.input
    if source == "SUN RGB-D":
        return _sun_records(path, arguments, found)
    if source == "NYUD2 raw video":
        return [pair.record() for pair in _video_pairs(path, arguments, found)]
    numbers = None if arguments.frames is None else parse_numbers(arguments.frames)
    return labelled_records(path, numbers, crop=not arguments.no_crop)


def _index_records(arguments: argparse.Namespace, found: Report) -> list[FrameRecord]:
    records: dict[str, FrameRecord] = {}
    for index in arguments.index:
        for record in index_records(index, found.failed):
            if record.name in records:
                raise DataError(f"{index}: another index has a frame {record.name} too")
            records[record.name] = record
    if not arguments.without:
        return list(records.values())
    path, _, split = arguments.without.partition(",split=")
    taken = {os.path.realpath(file) for file in image_files(path, split or None)}
    left = [record for record in records.values() if os.path.realpath(record.paths["images"]) not in taken]
    if not left or len(left) == len(records):
        raise UsageError(
            f"--without {arguments.without}: leaves out {len(records) - len(left)} of {len(records)} frames; are these "
            "the same files?"
        )
    return left


def _sun_records(path: str, arguments: argparse.Namespace, found: Report) -> list[FrameRecord]:
    frames = find_frames(path, found.failed)
    if arguments.exclude_nyud2 == "all":
        frames = [frame for frame in frames if frame.nyud2 is None]
    elif arguments.exclude_nyud2:
        splits = NYUD2Tree.read_splits(arguments.exclude_nyud2)
        frames = exclude_nyud2(frames, [*splits["val"], *splits["test"]])
    return [frame.record() for frame in frames]


def _video_pairs(path: str, arguments: argparse.Namespace, found: Report) -> list[VideoPair]:
    scenes: dict[str, list[VideoPair]] = {}
    for folder in scene_folders(path):
        try:
            pairs = synchronise(folder)
        except (DataError, MissingFileError) as error:
            found.failed.append((folder, str(error)))
            continue
        scenes[scene_name(folder)] = near = [pair for pair in pairs if pair.gap < MAX_GAP]
        if len(near) < len(pairs):
            lost = f"{len(pairs) - len(near)} of {len(pairs)} depth frames have no colour frame within 1/30 s"
            found.warned.append((folder, f"{lost} and are left out"))
    if arguments.count is not None:
        return select(scenes, arguments.count, arguments.seed or 0, usable=enough_depth)
    return [pair for pairs in scenes.values() for pair in pairs]


def _source(arguments: argparse.Namespace) -> str:
    """A key of ``ACCEPTED``; told from the input, unless it is said how to read files."""
    if arguments.stereo_motorcycle:
        return "--stereo-motorcycle"
    if arguments.index:
        return "--index"
    inputs = arguments.input
    mats = [name for name in inputs if name.endswith(".mat")]
    if mats and (len(inputs) > 1 or arguments.list):
        raise UsageError(f"{mats[0]} is a data set: give it alone")
    if mats:
        _check_labelled(mats[0])
        return "the labelled NYUD2"
    said = any(getattr(arguments, name, None) is not None for name in FILE_ARGUMENTS)
    if said or len(inputs) != 1 or arguments.list or not os.path.isdir(inputs[0]):
        return "depth files"
    for _, _, names in walk(inputs[0]):
        if "intrinsics.txt" in names:
            return "SUN RGB-D"
        if any(map(is_depth_frame, names)):
            return "NYUD2 raw video"
    return "depth files"


def _check_labelled(path: str) -> None:
    """Refuse a .mat that is not NYUD2's before its arguments are judged."""
    try:
        labelled_numbers(path)
    except DataError as error:
        raise DataError(
            f"{error}; a .mat is taken for NYUD2's nyu_depth_v2_labeled.mat, depth of your own goes in as png, pgm, "
            "tiff or npy"
        ) from error


def _lists(arguments: argparse.Namespace, frames: list[Frame]) -> dict[str, list[Frame]]:
    """``pairs`` and, on request, ``train_pairs`` and ``val_pairs``."""
    ways = ("hold_out", "hold_out_scenes", "sun_split")
    if sum(getattr(arguments, name) is not None for name in ways) > 1:
        raise UsageError("give one of --hold-out, --hold-out-scenes and --sun-split")
    if arguments.hold_out is not None:
        train, val = hold_out(frames, arguments.hold_out)
    elif arguments.hold_out_scenes is not None:
        train, val = hold_out(frames, arguments.hold_out_scenes, scenes=True)
    elif arguments.sun_split is not None:
        split = read_split(arguments.sun_split)
        train, val = ([frame for frame in frames if frame.scene in names] for names in map(set, split))
    else:
        return {"pairs": frames}
    return {"pairs": frames, "train_pairs": train, "val_pairs": val}


def _refuse_others(arguments: argparse.Namespace, source: str) -> None:
    """Refuse arguments that a source has no use for."""
    for name in {name: None for names in ACCEPTED.values() for name in names}:
        if name not in ACCEPTED[source] and getattr(arguments, name, None) not in (None, False):
            rooms = source == "SUN RGB-D" and name == "hold_out_scenes"
            hint = "; it does not say which frames show one room" if rooms else ""
            raise UsageError(f"--{name.replace('_', '-')} does not go with {source}{hint}")


def _file_frames(arguments: argparse.Namespace, options: Options) -> list[Frame]:
    encoder = options.encoder(file_camera(arguments) if options.kind == "hha" else None)
    form = file_form(arguments)
    files = _inputs(arguments)
    suffix = Path(arguments.output).suffix.lower()
    if suffix in (".jpg", ".jpeg", ".bmp", *DEPTH_SUFFIXES) and (suffix != ".png" or len(files) > 1):
        raise UsageError(f"--output {arguments.output}: expected a png for one input, or a folder")
    single = suffix == ".png"
    beside_raw = _beside(arguments.raw_depth, "--raw-depth", len(files))
    beside_color = _beside(arguments.color, "--color", len(files))
    stems: dict[str, Path] = {}
    frames = []
    for path in files:
        if path.stem in stems:
            raise UsageError(f"{stems[path.stem]} and {path} would both become {path.stem}.png; encode them apart")
        stems[path.stem] = path
        output = Path(arguments.output) if single else Path(arguments.output) / f"{path.stem}.png"
        if os.path.realpath(output) == os.path.realpath(path):
            raise UsageError(f"{path} is its own output, it would be overwritten")
        raw, color = beside_raw(path), beside_color(path)
        frames.append(Frame(FileSource(str(path), form, raw, color), encoder, str(output)))
    return frames


def file_camera(arguments: argparse.Namespace) -> Camera:
    """The camera of depth files.

    Raises:
        UsageError: none is given.
    """
    if arguments.encoding == "nyud2_raw":
        if arguments.camera not in (None, "nyud2_color") or arguments.origin is not None:
            raise UsageError("--encoding nyud2_raw registers depth to colour: its camera is nyud2_color, leave it out")
        return CAMERAS["nyud2_color"]
    if arguments.camera:
        return parse_camera(arguments.camera, origin=arguments.origin)
    raise UsageError("--camera is missing: HHA needs the intrinsics (a preset, a file, or fx,fy,cx,cy)")


def file_form(arguments: argparse.Namespace) -> DepthFormat:
    """How the numbers of depth files become metres."""
    invalid = (0, 65535) if arguments.invalid is None else tuple(arguments.invalid)
    return DepthFormat(arguments.units_per_metre, arguments.encoding or "plain", invalid)


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    files: list[Path] = []
    for name in arguments.input:
        if os.path.isdir(name):
            found = sorted(path for path in Path(name).iterdir() if _is_depth(path))
            if not found:
                raise DataError(f"{name}: no depth files ({', '.join(DEPTH_SUFFIXES)}) in this folder")
            files += found
        elif name.endswith(".json"):
            files += depth_files(name)
        else:
            files.append(Path(name))
    if arguments.list:
        try:
            lines = Path(arguments.list).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise MissingFileError(arguments.list, str(error)) from error
        files += [Path(arguments.list).parent / line.strip() for line in lines if line.strip()]
        if not files:
            raise DataError(f"{arguments.list}: the list is empty")
    return files


def _is_depth(path: Path) -> bool:
    return path.suffix.lower() in DEPTH_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _beside(place: str | None, argument: str, count: int) -> Callable[[Path], str | None]:
    """Finds what belongs to a depth file: ``place`` itself, or the file of the same stem in the folder ``place``."""
    if place is None or not os.path.isdir(place):
        if place is not None and count > 1:
            raise UsageError(f"{argument} {place} is one file for {count} depth files, expected a folder")
        return lambda path: place
    stems = {other.stem: str(other) for other in sorted(Path(place).iterdir(), reverse=True)}
    return lambda path: stems.get(path.stem, os.path.join(place, path.name))
