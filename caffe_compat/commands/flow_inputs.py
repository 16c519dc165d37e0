"""Which clips a command line names, and where the flow of each goes."""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_compat.datasets.walk import walk
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.flow.checks import MOST
from caffe_compat.flow.clips import (
    FloClip,
    FlowClip,
    Outputs,
    PictureClip,
    TwoStreamClip,
    VideoClip,
    in_order,
    stem_of,
)
from caffe_compat.flow.methods import Method
from caffe_compat.flow.sources import (
    FileFlow,
    FloFile,
    FlowEncoder,
    PictureFlow,
    TwoStreamFlow,
    WheelPicture,
    own_names,
)
from caffe_compat.flow.stored import TWO_STREAM_MOST
from caffe_compat.frames import Frame, Source
from caffe_compat.media.video import VIDEO_SUFFIXES

__all__ = ["OneFrame", "find_work"]

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_X = re.compile(r"(?:^|_)x_?\d")
"""In the name of a two-stream picture of flow to the right: ``x_00001.jpg``, ``flow_x_00001.jpg``."""


@dataclass(frozen=True)
class OneFrame:
    """Files of which one flow picture is made: two frames, or flow that is there already.

    Args:
        frame: what is to be made of them.
    """

    frame: Frame

    @property
    def name(self) -> str:
        return self.frame.source.name

    def settings(self) -> dict[str, Any]:
        return own_names(self.frame.source.fingerprint())

    def expected(self) -> int:
        return 1

    def frames(self, outputs: Outputs, count: int | None = None) -> Iterator[Frame]:
        yield self.frame


def find_work(args: argparse.Namespace, method: Method) -> list[tuple[FlowClip, Outputs]]:
    """The clips of the command line, and where the files of each go.

    Raises:
        UsageError: arguments that contradict each other, or clips that would be written over each other or over
            themselves.
        MissingFileError, DataError: an input that is not there, or holds no clips.
    """
    if bool(args.input) == bool(args.list):
        raise UsageError("give a video, a folder, two pictures, or --list: one of them")
    if args.root and not args.list:
        raise UsageError("--root goes with --list")
    if args.list:
        return _placed(_listed(args, method), args)
    files = [path for path in args.input if not os.path.isdir(path)]
    if len(args.input) == 2 or (files and args.stored):
        return [_one(args, method)]
    if len(args.input) > 2:
        raise UsageError(f"{len(args.input)} inputs, expected a video, a folder, or two pictures; --list takes many")
    return _placed(_clips(args.input[0], args, method), args)


def _one(args: argparse.Namespace, method: Method) -> tuple[FlowClip, Outputs]:
    wanted = 1 if args.stored == "flo" else 2
    good = all(path.lower().endswith(".flo") if wanted == 1 else _is_picture(path) for path in args.input)
    if len(args.input) != wanted or not good:
        what = "one .flo file, or a folder" if wanted == 1 else "two pictures, or a folder"
        raise UsageError(f"{' '.join(args.input)}: expected {what}; --list takes many")
    for path in args.input:
        if os.path.realpath(path) == os.path.realpath(args.output):
            raise UsageError(f"{path} is its own output, it would be overwritten")
    if not args.output.endswith(".png"):
        raise UsageError(f"--output is '{args.output}': one png is made, expected a name such as flow.png")
    if args.color or args.pattern or args.per_clip is not None:
        raise UsageError("--color, --pattern and --per-clip go with videos and folders")
    source: Source
    if args.stored == "flo":
        source = FileFlow(args.input[0])
    elif args.stored:
        source = TwoStreamFlow(args.input[0], args.input[1], args.most or TWO_STREAM_MOST)
    else:
        source = PictureFlow(args.input[0], args.input[1], method)
    extras: list[Any] = [FloFile(args.flo)] if args.flo else []
    if args.wheel:
        extras.append(WheelPicture(args.wheel, args.longest or MOST))
    frame = Frame(source, FlowEncoder(), args.output, extras=tuple(extras))
    return OneFrame(frame), Outputs(args.output)  # a file: pictures beside it may be of other methods


def _listed(args: argparse.Namespace, method: Method) -> list[tuple[str, FlowClip]]:
    """Clips of a list: a path a line, after which a label may stand, as in UCF101's lists."""
    root = args.root or os.path.dirname(args.list)
    try:
        lines = Path(args.list).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise MissingFileError(args.list, str(error)) from error
    found: list[tuple[str, FlowClip]] = []
    for line in filter(None, map(str.strip, lines)):
        name = line
        if not os.path.exists(os.path.join(root, name)):
            name = re.sub(r"\s+\d+$", "", line)
        path = os.path.normpath(os.path.join(root, name))
        relative = os.path.relpath(path, root or ".")
        if relative.startswith(".."):
            raise UsageError(
                f"{args.list}: {name} is not below {root or '.'}, where would its flow go? --root says more"
            )
        if not os.path.isdir(path) and args.stored:
            raise UsageError(f"{args.list}: {name} is no folder, which --stored takes")
        if not os.path.isdir(path):
            found.append((_without_ending(relative), VideoClip(path, method)))
            continue
        found += [(os.path.normpath(os.path.join(relative, inner)), clip) for inner, clip in _clips(path, args, method)]
    if not found:
        raise DataError(f"{args.list}: the list is empty")
    return found


def _clips(path: str, args: argparse.Namespace, method: Method) -> list[tuple[str, FlowClip]]:
    """Clips of a video or folder, and where each lies below it."""
    if not os.path.isdir(path):
        if _is_picture(path):
            raise UsageError(f"{path}: is one picture, flow needs two")
        if args.pattern:
            raise UsageError("--pattern goes with folders")
        return [(".", VideoClip(path, method))]
    skipped = {os.path.realpath(place) for place in (args.output, args.color, args.flo, args.wheel) if place}
    if os.path.realpath(path) in skipped:
        raise UsageError(f"{path} is its own output, its frames would be overwritten, or what is made taken for frames")
    found: list[tuple[str, FlowClip]] = []
    for folder, folders, names in walk(path):
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(folder, name)) not in skipped]
        relative = os.path.relpath(folder, path)
        shown = [name for name in names if not name.startswith(".")]
        found += [(relative, clip) for clip in _of_files(folder, shown, args, method)]
        if args.stored is None:
            videos = in_order([name for name in shown if name.lower().endswith(VIDEO_SUFFIXES)])
            found += [
                (os.path.normpath(os.path.join(relative, stem_of(name))), VideoClip(os.path.join(folder, name), method))
                for name in videos
            ]
    if not found:
        what = {"flo": ".flo files", "two-stream": "pairs x_*.jpg, y_*.jpg"}.get(args.stored or "", "frames or videos")
        raise DataError(f"{path}: no {what} in or below this folder")
    return found


def _of_files(folder: str, names: Sequence[str], args: argparse.Namespace, method: Method) -> Iterator[FlowClip]:
    """The clip that the files of a folder are, if they are one."""
    if args.stored == "flo":
        chosen = [name for name in names if name.lower().endswith(".flo") and _matches(name, args)]
        if chosen:
            yield FloClip(_paths(folder, chosen), folder)
        return
    pictures = [name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and _matches(name, args)]
    pairs = _two_stream(pictures)
    if args.stored == "two-stream":
        if pairs:
            found = tuple((os.path.join(folder, x), os.path.join(folder, y)) for x, y in pairs)
            yield TwoStreamClip(found, folder, args.most or TWO_STREAM_MOST)
    elif pairs and not args.pattern:
        raise UsageError(
            f"{folder}: {pairs[0][0]} and {pairs[0][1]} look like flow of two-stream networks: --stored two-stream "
            "converts it; --pattern 'img_*' takes the frames alone"
        )
    elif pictures:
        yield PictureClip(_paths(folder, pictures), folder, method)


def _two_stream(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of two-stream pictures among names, in order."""
    known = set(names)
    pairs = []
    for x in in_order([name for name in names if _X.search(name)]):
        match = _X.search(x)
        assert match is not None
        at = x.index("x", match.start())
        y = f"{x[:at]}y{x[at + 1 :]}"
        if y in known:
            pairs.append((x, y))
    return pairs


def _placed(found: Sequence[tuple[str, FlowClip]], args: argparse.Namespace) -> list[tuple[FlowClip, Outputs]]:
    """Clips with their outputs; refuses those that would be written over each other, or over their own frames."""
    places: dict[str, FlowClip] = {}
    work: list[tuple[FlowClip, Outputs]] = []
    for relative, clip in found:
        other = places.setdefault(relative, clip)
        if other is not clip:
            raise UsageError(f"{other.name} and {clip.name} would both go to {os.path.join(args.output, relative)}")
        roots = (args.output, args.color, args.flo, args.wheel)
        flow, color, flo, wheel = (place and os.path.normpath(os.path.join(place, relative)) for place in roots)
        for place in (flow, color, flo, wheel):
            if place and os.path.realpath(place) == os.path.realpath(clip.name):
                raise UsageError(f"{clip.name} is its own output, its frames would be overwritten")
        work.append((clip, Outputs(flow, color or None, flo or None, wheel or None, args.longest or MOST)))
    return work


def _paths(folder: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(os.path.join(folder, name) for name in in_order(names))


def _matches(name: str, args: argparse.Namespace) -> bool:
    return not args.pattern or fnmatch.fnmatchcase(name, args.pattern)


def _is_picture(path: str) -> bool:
    return path.lower().endswith(PICTURE_SUFFIXES) and not os.path.isdir(path)


def _without_ending(path: str) -> str:
    return path.removesuffix(Path(path).suffix)
