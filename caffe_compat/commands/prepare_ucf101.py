"""Pairs of frames and optical flow of UCF101's clips, and the lists that transfers and the supervised baseline read.

    tools/prepare_ucf101.py --workers 4                          split 1, 5 frames of each training clip: 47,685 pairs
    tools/prepare_ucf101.py --part test --workers 4              of its test clips, for the baseline's TEST net
    tools/prepare_ucf101.py --split 2 --method tvl1 -o data/ucf101/tvl1
    tools/prepare_ucf101.py --lists-only                         of what make_flow --list ... --per-clip 5 has made

Reads data/ucf101/UCF-101 and data/ucf101/ucfTrainTestlist (data/fetch.py ucf101 ucf101_splits).  Writes images/ and
flow/ACTION/CLIP/00012.png and lists/split1_{pairs,images,flow}_{train,val,test}.txt below OUTPUT: pairs are relative to
their list; the others are image and label (from 0), relative to OUTPUT (root_folder).  Whole groups of clips, which
were cut from one video, are held out for validation.  Run again, it goes on where it stopped; clips that are missing or
cannot be decoded are left out and reported at the end (exit status 1).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import FOLDER, NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError


def make_parser() -> argparse.ArgumentParser:
    """Where UCF101 is, which clips, and how flow is computed."""
    p = Parser(__doc__)
    p.add_argument(
        "--data",
        type=FOLDER.path(),
        default=Path("data/ucf101"),
        help="folder of UCF-101 and ucfTrainTestlist (default: %(default)s)",
    )
    p.add_argument("-o", "--output", type=NEW_FOLDER.path(), help="where to (default: DATA/pairs)")
    p.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="the official one (default: %(default)s)")
    p.add_argument("--part", choices=("train", "test"), default="train", help="of it (default: %(default)s)")
    p.add_argument("--per-clip", type=int, default=5, metavar="N", help="evenly spaced frames (default: %(default)s)")
    p.add_argument(
        "--hold-out", type=int, metavar="N", help="every N-th group is for validation, 0: none (default: 20 of train)"
    )
    p.add_argument("--method", default="dis", help="dis (default), farneback; tvl1, deepflow: see make_flow")
    p.add_argument("--preset", default="medium", help="of dis: ultrafast, fast or medium (default)")
    p.add_argument("--lists-only", action="store_true", help="write the lists of the frames that are there, no others")
    p.add_argument("--workers", type=int, default=0, help="processes (default: work in this one)")
    p.add_argument("--overwrite", action="store_true", help="redo frames that were made with other settings")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: list[str] | None = None) -> int:
    """Make the frames, write the lists; 1 if a clip could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets.ucf101 import UcfPairs, read_ucf_split
    from caffe_compat.errors import printable
    from caffe_compat.flow.methods import opencv_method
    from caffe_compat.flow.run import run_clips

    _check(args)
    clips = read_ucf_split(args.data / "ucfTrainTestlist", args.split, args.part)
    output = args.output or args.data / "pairs"
    pairs = UcfPairs(args.data / "UCF-101", output, clips, args.per_clip)
    failed = False
    if not args.lists_only:
        work, unusable = pairs.work(opencv_method(args.method, args.preset))
        report = run_clips(
            work, count=args.per_clip, overwrite=args.overwrite, workers=args.workers, progress=not args.quiet
        )
        report.failed[:0] = unusable
        print(printable("\n".join(report.lines())))
        failed = bool(report.failed)
    for path, count in pairs.write_lists(args.split, args.part, args.hold_out):
        print(printable(f"{path}: {count}"))
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    for name, least in (("per_clip", 1), ("workers", 0), ("hold_out", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected {least} or more")
    if args.part == "test" and args.hold_out:
        raise UsageError("--hold-out goes with --part train")
    if args.lists_only and (args.overwrite or args.workers):
        raise UsageError("--overwrite and --workers: nothing is made with --lists-only")
