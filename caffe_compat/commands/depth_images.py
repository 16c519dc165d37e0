"""``make_hha`` and ``make_disparity``: depth of every kind to images of one kind."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from caffe_compat.commands.flags import add_gpu
from caffe_compat.datasets.index import index_records
from caffe_compat.datasets.labelled import labelled_numbers, labelled_records
from caffe_compat.datasets.motorcycle import motorcycle_frame
from caffe_compat.datasets.pairs import finished, hold_out, write_pairs
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
from caffe_compat.depth.disparity import DISPARITY_SCALE, resolve_scale
from caffe_compat.depth.fill import FILL_METHODS
from caffe_compat.depth.io import ENCODINGS, DepthFormat
from caffe_compat.depth.modalities import Kind, Options
from caffe_compat.depth.sources import FileSource
from caffe_compat.devices import choose
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.frames import Frame, Report, run_frames

__all__ = [
    "FILE_ARGUMENTS",
    "add_arguments",
    "add_file_arguments",
    "add_hole_arguments",
    "depth_images",
    "file_camera",
    "file_form",
    "parse_numbers",
]

DEPTH_SUFFIXES = (".npy", ".pgm", ".png", ".tif", ".tiff")
FILE_ARGUMENTS = ("camera", "origin", "units_per_metre", "encoding", "invalid", "raw_depth", "color")
"""Arguments about single files; a data set brings its own values."""
MOST_NUMBERS = 100_000
ACCEPTED = {
    "depth files": ("output", *FILE_ARGUMENTS),
    "the labelled NYUD2": ("output", "frames", "no_crop", "hold_out", "hold_out_scenes"),
    "NYUD2 raw video": ("output", "count", "hold_out", "hold_out_scenes"),
    "SUN RGB-D": ("output", "exclude_nyud2", "sun_split", "hold_out"),
    "--index": ("output", "hold_out", "hold_out_scenes"),
    "--stereo-motorcycle": (),
}
"""What each source takes, of the arguments that some source does not."""


def add_arguments(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Declare the arguments; a disparity image needs no camera."""
    add = parser.add_argument
    add("input", nargs="*", help="depth files, folders of them, or one data set: nyu_depth_v2_labeled.mat, a folder of "
        "NYUD2 raw video, the folder SUNRGBD")  # fmt: skip
    add("-o", "--output", help="png (one input) or folder")
    add("--list", help="text file of depth files, one a line, relative to its folder")
    add("--index", help="JSON list of frames: color, depth, K_fx_fy_cx_cy, depth_units_per_metre and, where wanted, "
        "rawdepth, scene, origin, encoding, invalid")  # fmt: skip
    add("--stereo-motorcycle", metavar="OUTDIR", help="encode scikit-image's stereo pair")
    add_file_arguments(parser.add_argument_group("depth files"), kind)
    sets = parser.add_argument_group("data sets (they get folders color/ and the images', and pairs.txt)")
    sets.add_argument("--frames", help="of the labelled NYUD2: numbers as 5001,5010-5020 (default: all)")
    sets.add_argument("--no-crop", action="store_true", help="of the labelled NYUD2: 480 x 640, not 425 x 560")
    sets.add_argument("--count", type=int, help="of raw video: so many frames, evenly over scenes and time")
    sets.add_argument("--seed", type=int, help="with --count (default: 0)")
    sets.add_argument(
        "--exclude-nyud2", nargs="?", const="all", metavar="NYUSPLITS", help="of SUN RGB-D: leave out the frames of "
        "NYUD2; with nyusplits.mat only those of its val and test",
    )  # fmt: skip
    sets.add_argument(
        "--sun-split", metavar="ALLSPLIT", help="of SUN RGB-D: split the pairs as the toolbox's allsplit.mat does"
    )
    sets.add_argument("--hold-out", type=int, metavar="N", help="also split the pairs; every Nth frame validates")
    sets.add_argument("--hold-out-scenes", type=int, metavar="N", help="the same by scenes: every Nth scene validates")
    add_hole_arguments(parser)
    parser.add_argument(
        "--near", type=float, metavar="METRES", help="nearest depth of the set: scales the disparity channel so that "
        "it just does not clip (one set, and the sets its net is used on, need one scale)",
    )  # fmt: skip
    parser.add_argument(
        "--scale", type=float, help=f"of the disparity channel, over depth in cm (default {DISPARITY_SCALE:g}, the "
        "paper's, which clips nearer than 1.22 m)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=0, help="processes (default: work in this one)")
    add_gpu(parser, "compute")
    parser.add_argument("--overwrite", action="store_true", help="redo outputs that were made with other parameters")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_file_arguments(group: argparse._ActionsContainer, kind: Kind) -> None:
    """Declare ``FILE_ARGUMENTS``: what has to be said of a depth file."""
    if kind == "hha":
        group.add_argument("--camera", help=f"preset, file, or fx,fy,cx,cy; presets: {', '.join(sorted(CAMERAS))}")
        group.add_argument(
            "--origin", type=int, choices=(0, 1), help="coordinate of the first pixel (presets know it; else 0)"
        )
    group.add_argument("--units-per-metre", type=float, help="1000 for millimetres, 10000, 5000; no guess is made")
    group.add_argument("--encoding", choices=ENCODINGS, help="how the file's numbers are stored")
    group.add_argument("--invalid", type=int, nargs="*", help="codes without a measurement (default 0 65535)")
    group.add_argument("--raw-depth", help="file or folder of unfilled depth: its holes are the missing pixels")
    group.add_argument("--color", help="registered colour: size is checked; for --fill colorization and nyud2_raw")


def add_hole_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what counts as a hole, and how holes are filled."""
    parser.add_argument("--min-depth", type=float, default=0.0, metavar="METRES", help="nearer is not measured")
    parser.add_argument("--max-depth", type=float, metavar="METRES", help="farther is not measured")
    parser.add_argument("--fill", choices=(*FILL_METHODS, "none"), default="nearest", help="how holes are filled")


def depth_images(arguments: argparse.Namespace, kind: Kind) -> Report:
    """Do what the command line says.

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
    device = str(choose(arguments.gpu))
    scale = resolve_scale(arguments.scale, arguments.near)
    options = Options(kind, arguments.fill, device, arguments.min_depth, arguments.max_depth, scale)
    if not arguments.output and not arguments.stereo_motorcycle:
        raise UsageError("--output is missing")
    found = Report()
    if arguments.seed is not None and arguments.count is None:
        raise UsageError("--seed goes with --count")
    data_set, frames = _frames(arguments, options, found)
    lists = _lists(arguments, frames) if data_set else {}  # wrong arguments are noticed before the work
    report = run_frames(frames, overwrite=arguments.overwrite, workers=arguments.workers, progress=not arguments.quiet)
    if len(frames) == 1 and report.failed and not data_set:
        raise DataError(report.failed[0][1])
    if len(report.failed) == len(frames):
        lists = {}  # nothing is done: what lists there are stay
    for name, part in lists.items():
        pairs = [(frame.color_output or "", frame.output) for frame in finished(part, report)]
        write_pairs(Path(arguments.output) / f"{name}.txt", pairs)
    report.failed += found.failed
    report.warned += found.warned
    return report


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
        return index_records(arguments.index)
    (path,) = arguments.input
    if source == "SUN RGB-D":
        return _sun_records(path, arguments, found)
    if source == "NYUD2 raw video":
        return [pair.record() for pair in _video_pairs(path, arguments, found)]
    numbers = None if arguments.frames is None else parse_numbers(arguments.frames)
    return labelled_records(path, numbers, crop=not arguments.no_crop)


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
        except DataError as error:
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
        return Camera.parse(arguments.camera, origin=arguments.origin)
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
