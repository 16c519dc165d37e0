"""Make the tree data/nyud2 (the layout of the authors' fast-rcnn fork) from NYUD2's official downloads.

    tools/prepare_nyud2.py                                       downloads in data/, tree in data/nyud2
    tools/prepare_nyud2.py --video data/nyud2_raw --video-frames 5000 --video-split train
    tools/prepare_nyud2.py --video data/nyud2_raw --video-frames 10000 --video-split trainval

Needs nyu_depth_v2_labeled.mat and splits.mat (data/fetch.py); takes the authors' nyusplits.mat and nyud2_mcg_boxes.mat
if they are there.  Writes data/{images,depth,rawdepth,hha}/img_NNNN.png (425 x 560, depth in millimetres), boxes of the
19 classes, instance maps, splits and lists of pairs.  Video frames come only from scenes that no other split knows.
Proposals are copied to where the fork looks for them, beside the tree.  Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import FOLDER, NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError


def make_parser() -> argparse.ArgumentParser:
    """Where the downloads are, and what to make of them."""
    p = Parser(__doc__)
    p.add_argument("--downloads", type=FOLDER.path(), default=Path("data"), help="(default: %(default)s)")
    p.add_argument("-o", "--output", type=NEW_FOLDER.path(), default=Path("data/nyud2"), help="(default: %(default)s)")
    p.add_argument("--no-checksums", action="store_true", help="do not compare the downloads with recorded checksums")
    p.add_argument("--seed", type=int, default=0, help="of the video frames, and of train/val without nyusplits.mat")
    p.add_argument("--video", type=FOLDER.path(), help="folder of raw video scenes")
    p.add_argument("--video-frames", type=int, default=5000, help="(default: %(default)s)")
    p.add_argument("--video-split", choices=("train", "trainval"), default="train", help="(default: %(default)s)")
    p.add_argument("--workers", type=int, default=0, help="processes (default: work in this one)")
    p.add_argument("--overwrite", action="store_true", help="make everything anew")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


def main(argv: list[str] | None = None) -> int:
    """Prepare the tree; 1 if a frame could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets.prepare import Settings, prepare

    for name in ("workers", "video_frames", "seed"):
        if getattr(args, name) < (name == "video_frames"):
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(args, name)}, which is too small")
    settings = Settings(
        args.downloads, args.output, not args.no_checksums, args.seed, args.video, args.video_frames, args.video_split,
        args.workers, args.overwrite, not args.quiet,
    )  # fmt: skip
    reports = prepare(settings)
    for report in reports:
        print("\n".join(report.lines()[:-1]), end="\n" if report.lines()[:-1] else "")
    return 1 if any(report.failed for report in reports) else 0
