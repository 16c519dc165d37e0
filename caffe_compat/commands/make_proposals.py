"""Compute proposals, boxes that may hold objects, of all images of a database, or of pairs, with the built-in proposer.

    tools/make_proposals.py --imdb nyud2_images+hha_2015_trainval --output proposals.npz --workers 4
    tools/make_proposals.py --imdb coco:mine/instances.json --modalities images --output mine.npz --recall
    tools/make_proposals.py --pairs train_pairs.txt val_pairs.txt --output pairs.npz
    tools/make_proposals.py --imdb jhmdb_images+flow_split1_train --modalities images --motion --output motion.npz
    tools/make_proposals.py --imdb jhmdb_flow_split1_train --boxes selective_search/ --motion --output motion.npz
    tools/train_net.py ... --imdb coco:mine/instances.json --proposals mine.npz

--motion keeps only boxes in which much of a frame's motion is, as ActionTubes does (the last frame of a clip goes by
the flow of the frame before).
Interrupted, it goes on from FILE.npz.parts, which is removed at the end.  A file of other settings or pictures is not
written over without --overwrite.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import FOLDER, LIST, NEW_FILE, PROPOSALS
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """Of what, where to, and how many."""
    p = Parser(__doc__)
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument("--imdb", metavar="NAME", help="image database, such as nyud2_hha_2015_test")
    where.add_argument(
        "--pairs", type=LIST, nargs="+", metavar="LIST", help="lists of pairs of images: of the first ones"
    )
    p.add_argument(
        "--root-folder", type=FOLDER, default="", help="what paths in --pairs are relative to, if not to the list"
    )
    p.add_argument("--output", type=NEW_FILE.path(), required=True, metavar="FILE.npz", help="file to write")
    p.add_argument("--root", type=FOLDER, default=".", help="folder that holds data/ (default: this one)")
    p.add_argument("--modalities", metavar="A+B", help="what the proposer sees, such as images+depth (default: imdb's)")
    p.add_argument(
        "--boxes",
        type=PROPOSALS,
        metavar="FILE",
        help="with --motion: of this file or folder, instead of computing some",
    )
    p.add_argument("--motion", action="store_true", help="keep boxes in which much of the frame's motion is")
    p.add_argument(
        "--flow",
        type=FOLDER,
        metavar="FOLDER",
        help="with --motion: that has the flow of the frames, NAME.png (default: the database's modality flow)",
    )
    p.add_argument(
        "--count", type=int, default=2000, help="boxes of an image at most (default: %(default)s); with --motion before"
    )
    p.add_argument("--workers", type=int, help="processes; 0 works in this one (default: as many as there are cores)")
    p.add_argument("--recall", action="store_true", help="print which share of the objects the boxes find")
    p.add_argument("--overwrite", action="store_true", help="write over a file of other settings or pictures")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: list[str] | None = None) -> int:
    """Compute what is missing, write the file, and say how well it finds the objects."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.proposals import make_proposals
    from caffe_compat.errors import printable

    for line in make_proposals(args):
        print(printable(line), flush=True)
    return 0
