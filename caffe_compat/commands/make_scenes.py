"""Draw the sample data set: rooms with one object each, in RGB and Kinect-like depth, laid out as NYUD2.

Frames that are there already are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

from tqdm import tqdm

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.frames import map_jobs
from caffe_compat.scenes.settings import Settings, frame_specs
from caffe_compat.scenes.solids import CLASSES


def make_parser() -> argparse.ArgumentParser:
    """Where to, and how many frames of what size."""
    parser = Parser(__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=NEW_FOLDER.path(), required=True, help="folder of the data set")
    parser.add_argument("--train", type=int, default=Settings.train, help="labelled RGB frames for the teacher")
    parser.add_argument("--pairs", type=int, default=Settings.pairs, help="unlabelled pairs of RGB and HHA")
    parser.add_argument("--val", type=int, default=Settings.val, help="validation frames")
    parser.add_argument("--test", type=int, default=Settings.test, help="test frames")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of everything random")
    parser.add_argument("--width", type=int, default=Settings.width, help="of the pictures in pixels")
    parser.add_argument("--height", type=int, default=Settings.height, help="of the pictures in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes; the frames do not depend on it")
    parser.add_argument("--overwrite", action="store_true", help="throw away a data set of other settings in --out")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw what is missing."""
    args = make_parser().parse_args(argv)
    from caffe_compat.scenes.dataset import open_root, write_frame, write_lists

    if args.workers < 1:
        raise UsageError(f"--workers is {args.workers}, expected at least 1")
    settings = Settings(args.train, args.pairs, args.val, args.test, args.seed, args.width, args.height)
    open_root(args.out, settings, args.overwrite)
    start, specs = time.perf_counter(), frame_specs(settings)
    done = map_jobs(partial(write_frame, args.out, settings), specs, args.workers)
    for _ in tqdm(done, total=len(specs), unit="frame"):
        pass
    write_lists(args.out, settings)
    total = len(specs)
    print(f"{args.out}: {total} frames of {settings.width} x {settings.height} in {time.perf_counter() - start:.1f} s")
    print(f"  train {settings.train} (labelled), pairs {settings.pairs}, val {settings.val}, test {settings.test}")
    print(f"  {len(CLASSES)} classes: {', '.join(CLASSES)}")
    return 0
