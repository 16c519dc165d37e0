"""Turn frames into pictures of optical flow, as ActionTubes encodes it (R 128 + 16 u, G 128 + 16 v, B 128 + 16 |f|).

A video:            make_flow.py clip.avi -o flow/                     (flow/00001.png is that from frame 1 to 2)
A folder of frames: make_flow.py frames/ -o flow/                      (flow/STEM.png of each frame but the last)
A data set:         make_flow.py UCF-101/ -o flow/ --workers 2         (flow/ACTION/CLIP/00001.png)
By a list:          make_flow.py --list trainlist01.txt --root UCF-101 -o flow/ --per-clip 5 --color frames/
One pair:           make_flow.py a.png b.png -o flow.png --truth true.flo --wheel colours.png
Flow that is there: make_flow.py tvl1/ -o flow/ --stored two-stream    (x_*.jpg, y_*.jpg of 20 px; or --stored flo)

Run again, it goes on where it stopped.  What cannot be used is left out and reported at the end (exit status 1).
torchrun --nproc-per-node N tools/make_flow.py ... shares clips, or the frames of a few, between N processes.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import FLOW, FLOW_INPUT, FOLDER, LIST, NEW_FOLDER, STATE_DICT
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """What the frames are, how flow is computed, and where it goes."""
    p = Parser(__doc__)
    p.add_argument("input", type=FLOW_INPUT, nargs="*", help="a video, a folder, or two pictures")
    p.add_argument("-o", "--output", required=True, help="folder that mirrors the input; of two pictures a png")
    p.add_argument("--list", type=LIST, help="text file of clips, one a line (a label after it is passed over)")
    p.add_argument("--root", type=FOLDER, help="of --list: what its paths are relative to (default: its own folder)")
    p.add_argument("--pattern", metavar="GLOB", help="of folders: only pictures of such names, as 'img_*.jpg'")
    p.add_argument(
        "--per-clip", type=int, metavar="N", help="so many frames of each clip, evenly spaced (default: all)"
    )
    _add_methods(p.add_argument_group("how"))
    more = p.add_argument_group("what else is made, in the same layout (of two pictures: a file)")
    more.add_argument("--color", type=NEW_FOLDER, metavar="FOLDER", help="the frames that have flow, as png")
    more.add_argument("--flo", metavar="FOLDER", help="the flow itself, as Middlebury's .flo")
    more.add_argument("--wheel", metavar="FOLDER", help="the flow in colours, for people (Middlebury's wheel)")
    more.add_argument("--longest", type=float, metavar="PIXELS", help="of --wheel: what full colour is (default: 8)")
    more.add_argument(
        "--truth", type=FLOW, metavar="FLO", help="true flow, .flo in the same layout: prints the end-point error"
    )
    p.add_argument("--workers", type=int, default=0, help="processes (default: work in this one)")
    p.add_argument("--overwrite", action="store_true", help="redo outputs that were made with other settings")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def _add_methods(group: argparse._ActionsContainer) -> None:
    """Declare where flow comes from."""
    group.add_argument(
        "--method", help="dis (default), farneback; tvl1, deepflow (OpenCV with its contrib modules); raft "
        "(torchvision, with --weights)",
    )  # fmt: skip
    group.add_argument("--preset", help="of dis: ultrafast, fast or medium (default)")
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the method, named as OpenCV's setters "
        "(finest_scale=0; of raft: updates=12); a wrong name lists them",
    )  # fmt: skip
    group.add_argument(
        "--weights", type=STATE_DICT, metavar="FILE", help="of raft: torchvision's raft_large_*.pth or raft_small_*.pth"
    )
    add_gpu(group, "run raft", several=True)
    group.add_argument(
        "--stored", choices=("flo", "two-stream"), help="the inputs are flow already, which is converted"
    )
    group.add_argument(
        "--most", type=float, metavar="PIXELS", help="of two-stream flow: what 255 stands for (default: 20)"
    )


def main(argv: list[str] | None = None) -> int:
    """Make the pictures; 1 if something could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.flow_making import make_flow

    lines, failed = make_flow(args)
    if lines:
        print("\n".join(lines))
    return 1 if failed else 0
