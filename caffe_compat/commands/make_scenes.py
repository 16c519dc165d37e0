"""Draw the sample data sets: rooms with one object each.

    data/make_scenes.py --out data/scenes                      (RGB and Kinect-like depth, laid out as NYUD2)
    data/make_scenes.py --clips --out data/clips               (clips with their true optical flow, laid out as JHMDB)

In clips the object moves, and how it moves is the class; the videos of --pairs are the ones without boxes.  What is
there already is kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tqdm import tqdm

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.frames import map_jobs
from caffe_compat.scenes.settings import Settings, frame_specs
from caffe_compat.scenes.solids import CLASSES

FRAMES = ("train", "pairs", "val", "test", "seed", "width", "height")
"""Options of frames that are their settings."""
CLIPS = {"train": "train", "pairs": "videos", "test": "test", "frames": "frames", "seed": "seed", "width": "width",
         "height": "height"}  # fmt: skip
"""The same of clips, with the names of theirs."""


def make_parser() -> argparse.ArgumentParser:
    """Where to, and how many frames or clips of what size."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--out", type=NEW_FOLDER.path(), required=True, help="folder of the data set")
    add("--clips", action="store_true", help="draw clips with optical flow; the numbers are of clips then")
    add("--train", type=int, help="labelled frames (2000), or clips (56), to learn from")
    add(
        "--pairs",
        type=int,
        help="pairs of RGB and HHA without labels (2000), or videos (320)",
    )
    add("--val", type=int, help="validation frames (200); not of clips")
    add("--test", type=int, help="test frames (500), or clips (105)")
    add("--frames", type=int, help="of a clip (6)")
    add("--flo", action="store_true", help="also write the flow of clips as numbers, .flo")
    add("--seed", type=int, help="of everything random (0)")
    add("--width", type=int, help="of the pictures in pixels (128)")
    add("--height", type=int, help="of the pictures in pixels (96)")
    add("--workers", type=int, default=2, help="processes; the pictures do not depend on it (%(default)s)")
    add("--overwrite", action="store_true", help="throw away a data set of other settings in --out")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw what is missing."""
    args = make_parser().parse_args(argv)
    if args.workers < 1:
        raise UsageError(f"--workers is {args.workers}, expected at least 1")
    return _clips(args) if args.clips else _frames(args)


def _frames(args: argparse.Namespace) -> int:
    from caffe_compat.scenes.dataset import open_root, write_frame, write_lists

    if args.frames is not None or args.flo:
        raise UsageError("--frames and --flo are of clips, expected --clips with them")
    settings = Settings(**_given(args, {name: name for name in FRAMES}))
    open_root(args.out, settings, args.overwrite)
    start, specs = time.perf_counter(), frame_specs(settings)
    _draw(partial(write_frame, args.out, settings), specs, args.workers, "frame")
    write_lists(args.out, settings)
    taken = f"{settings.width} x {settings.height} in {time.perf_counter() - start:.1f} s"
    print(f"{args.out}: {len(specs)} frames of {taken}")
    print(f"  train {settings.train} (labelled), pairs {settings.pairs}, val {settings.val}, test {settings.test}")
    print(f"  {len(CLASSES)} classes: {', '.join(CLASSES)}")
    return 0


def _clips(args: argparse.Namespace) -> int:
    from caffe_compat.scenes.clip_settings import ClipSettings, clip_specs
    from caffe_compat.scenes.clips import open_clips, write_clip, write_clip_lists
    from caffe_compat.scenes.motion import ACTIONS, VIDEO_ACTIONS

    if args.val is not None:
        raise UsageError("--val is of frames; of clips, every tenth video is for validation")
    settings = ClipSettings(**_given(args, CLIPS))
    open_clips(args.out, settings, args.overwrite)
    start, specs = time.perf_counter(), clip_specs(settings)
    _draw(partial(write_clip, args.out, settings, args.flo), specs, args.workers, "clip")
    write_clip_lists(args.out, settings)
    taken = f"{settings.width} x {settings.height} in {time.perf_counter() - start:.1f} s"
    print(f"{args.out}: {len(specs)} clips of {settings.frames} frames of {taken}")
    print(f"  train {settings.train}, test {settings.test}, videos without boxes {settings.videos}")
    print(f"  {len(ACTIONS)} actions: {', '.join(ACTIONS)}")
    print(f"  {len(VIDEO_ACTIONS)} of videos: {', '.join(VIDEO_ACTIONS)}")
    return 0


def _given(args: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    """What was said, by the settings' names."""
    return {name: getattr(args, option) for option, name in names.items() if getattr(args, option) is not None}


def _draw(work: Callable[[Any], bool], specs: Sequence[Any], workers: int, unit: str) -> None:
    for _ in tqdm(map_jobs(work, specs, workers), total=len(specs), unit=unit, disable=not sys.stderr.isatty()):
        pass
