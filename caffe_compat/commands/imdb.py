"""What an image database holds, before a detector is trained on it: images, objects of each class, sizes, proposals.

tools/imdb.py nyud2_images+hha_2015_trainval
tools/imdb.py coco:my/instances.json,split=train,images,hha=my_hha
tools/imdb.py voc_2007_test --recall                          (how many objects its proposals cover)
tools/imdb.py coco:my/instances.json --recall --proposals mine.npz --top 1000
tools/imdb.py --list                                          (names, and forms of names)

Every picture's head is read, so pictures that are missing, broken or of another size than their frame are found.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from caffe_compat.commands.inputs import FOLDER, PROPOSALS
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError, printable

if TYPE_CHECKING:
    from caffe_compat.datasets import ImageDatabase
    from caffe_compat.datasets.imdb import ProposalSource

MOST_NAMED = 10
"""Pictures with a problem that are named."""


def make_parser() -> argparse.ArgumentParser:
    """Which database, and what to find out."""
    parser = Parser(__doc__)
    parser.add_argument(
        "name", nargs="?", help="such as nyud2_hha_2015_train or coco:PATH.json; --list shows the forms"
    )
    parser.add_argument("--root", type=FOLDER, default=".", help="folder that holds data/ (default: this one)")
    parser.add_argument("--list", action="store_true", help="show the names, and forms of names, that are known")
    parser.add_argument("--no-pictures", action="store_true", help="do not look at the pictures")
    parser.add_argument("--recall", action="store_true", help="how many objects the proposals cover")
    parser.add_argument(
        "--proposals",
        type=PROPOSALS,
        metavar="FILE",
        help="of this file (.npz, .mat or a folder), not the data set's own; 'builtin' computes some",
    )
    parser.add_argument("--top", type=int, default=0, metavar="N", help="only the first N proposals of an image")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print what there is; 1 if pictures have problems."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets.imdb import find_imdb, imdb_forms

    if args.list or not args.name:
        if not args.list:
            raise UsageError("which database? --list shows the names")
        for summary, names in imdb_forms():
            print("\n".join([summary, *(f"  {name}" for name in names)]))
        return 0
    if args.top < 0:
        raise UsageError(f"--top is {args.top}, expected 1 or more, or 0 for all")
    database = find_imdb(args.name, args.root)
    print(printable("\n".join(_summary(database))), flush=True)
    problems = [] if args.no_pictures else _problems(database, args.quiet)
    if not args.no_pictures:
        print(
            "pictures: " + (f"{len(problems)} frames with problems" if problems else "all there, of the sizes stated")
        )
    for problem in problems[:MOST_NAMED]:
        print(printable(f"  {problem}"))
    if len(problems) > MOST_NAMED:
        print(f"  and {len(problems) - MOST_NAMED} more")
    if args.recall or args.proposals:
        print("\n".join(_recall(database, _source(database, args), args)))
    return 1 if problems else 0


def _summary(database: ImageDatabase) -> Iterator[str]:
    records = database.records
    without = sum(record.boxes is not None and not len(record.boxes) for record in records)
    unknown = sum(record.boxes is None for record in records)
    yield f"{database.name}: {len(records)} images, {len(database.classes)} classes"
    yield f"modalities: {', '.join(database.modalities)}; evaluated by the rule {database.metric}"
    sizes = Counter(record.size for record in records if record.size is not None).most_common()
    shown = ", ".join(f"{width} x {height} ({count})" for (height, width), count in sizes[:4])
    yield f"sizes: {shown}" + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else "")
    own = getattr(database.proposals, "path", "of its own") if database.proposals is not None else "none of its own"
    yield f"proposals: {own}"
    if unknown:
        yield f"objects: not known for {unknown} images"
    if unknown < len(records):
        yield from _objects(database)
        yield f"images without objects: {without}; with masks: {sum(record.masks is not None for record in records)}"


def _objects(database: ImageDatabase) -> Iterator[str]:
    """A table of the objects of each class."""
    objects, images, crowds, difficult = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for record in database.records:
        objects.update(record.classes or ())
        images.update(set(record.classes or ()))
        for counter, flags in ((crowds, record.crowd), (difficult, record.difficult)):
            if flags is not None and record.classes is not None:
                counter.update(name for name, flag in zip(record.classes, flags.tolist(), strict=True) if flag)
    width = max(map(len, ("class", "all", *database.classes)))
    yield f"{'class':<{width}}  {'objects':>8}  {'difficult':>9}  {'crowds':>6}  {'images':>7}"
    for name in database.classes:
        yield f"{name:<{width}}  {objects[name]:>8}  {difficult[name]:>9}  {crowds[name]:>6}  {images[name]:>7}"
    with_any = sum(bool(record.classes) for record in database.records)
    totals = (objects.total(), difficult.total(), crowds.total(), with_any)
    yield f"{'all':<{width}}  {totals[0]:>8}  {totals[1]:>9}  {totals[2]:>6}  {totals[3]:>7}"


def _problems(database: ImageDatabase, quiet: bool) -> list[str]:
    """What is wrong with the pictures of each frame, by their heads."""
    from caffe_compat.datasets.pictures import picture_problems

    records = tqdm(database.records, unit="image", disable=True if quiet else None)
    return picture_problems(records, database.modalities)


def _source(database: ImageDatabase, args: argparse.Namespace) -> ProposalSource:
    from caffe_compat.detection.proposals import proposal_source

    cache = Path(args.root) / "data" / "cache"
    return proposal_source(database, args.proposals, cache, progress=not args.quiet)


def _recall(database: ImageDatabase, source: ProposalSource, args: argparse.Namespace) -> Iterator[str]:
    from caffe_compat.commands.recall_table import recall_table
    from caffe_compat.evaluation.recall import measure_recall

    records = tqdm(database.records, unit="image", disable=True if args.quiet else None)
    yield from recall_table(measure_recall(records, source, args.top))
