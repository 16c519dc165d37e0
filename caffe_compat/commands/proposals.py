"""What ``make_proposals`` does."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from caffe_compat.commands.recall_table import recall_table
from caffe_compat.datasets.imdb import ImageDatabase, find_imdb
from caffe_compat.datasets.picture_proposals import pairs_database
from caffe_compat.datasets.proposal_file import read_proposal_stamp
from caffe_compat.datasets.proposals import read_any
from caffe_compat.detection.motion import FlowPictures, MotionSalient, Proposer, StoredProposals
from caffe_compat.detection.proposals import BUILTIN, Computed, keep_proposals
from caffe_compat.errors import UsageError
from caffe_compat.evaluation.recall import measure_recall
from caffe_compat.stamps import check_stamp

__all__ = ["make_proposals"]


def make_proposals(args: argparse.Namespace) -> Iterator[str]:
    """Make the file.

    Yields:
        lines for the user.

    Raises:
        UsageError: wrong arguments, or a file of other settings is there.
        MissingFileError, DataError, WriteError: a picture cannot be used, or the file not be written.
    """
    if args.workers is not None and args.workers < 0:
        raise UsageError(f"--workers is {args.workers}, expected 0 or more")
    if args.output.suffix != ".npz":
        raise UsageError(f"--output {args.output}: expected a name that ends in .npz")
    _check(args)
    imdb = pairs_database(args.pairs, args.root_folder) if args.pairs else find_imdb(args.imdb, args.root)
    start = time.perf_counter()
    computed = _proposer(args, imdb)
    done = args.output.exists() and not args.overwrite
    if done:
        found = read_proposal_stamp(args.output) or None
        check_stamp(str(args.output), found, computed.settings, "--overwrite replaces it", error=UsageError)
        yield f"{args.output}: is there already, made with these settings"
    else:
        boxes = keep_proposals(computed, imdb, args.output, args.workers, not args.quiet)
        seconds = time.perf_counter() - start
        what = f"{boxes} proposals" if boxes else "holds the proposals already"
        yield f"{args.output}: {what} of {len(imdb.records)} images of {imdb.name} in {seconds:.1f} s"
        if boxes and isinstance(computed, MotionSalient):
            yield from _motion_lines(computed, boxes)
    if args.recall:
        source = read_any(args.output, [record.name for record in imdb.records])
        yield from recall_table(measure_recall(imdb.records, source))


def _check(args: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other."""
    for wrong, told in (
        (args.recall and args.pairs, "--recall: the objects of --pairs are not known"),
        (args.motion and args.pairs, "--motion goes with --imdb"),
        (args.boxes and not args.motion, "--boxes goes with --motion: without it there is nothing to do"),
        (args.flow and not args.motion, "--flow goes with --motion"),
        (args.boxes and args.modalities, "--modalities: nothing is computed with --boxes"),
        (args.boxes and args.workers, "--workers: nothing is computed with --boxes"),
    ):
        if wrong:
            raise UsageError(told)


def _proposer(args: argparse.Namespace, imdb: ImageDatabase) -> Proposer:
    if args.boxes == BUILTIN or not args.boxes:
        modalities = imdb.modalities if args.modalities is None else tuple(args.modalities.split("+"))
        parts = args.output.with_name(args.output.name + ".parts")
        base: Proposer = Computed(imdb, modalities, parts, args.count)
    else:
        base = StoredProposals(args.boxes, imdb, args.count)
    return MotionSalient(base, FlowPictures(imdb, args.flow or "flow")) if args.motion else base


def _motion_lines(found: MotionSalient, boxes: int) -> Iterator[str]:
    yield f"motion: {boxes} of {found.before} boxes stay"
    for names, told in (
        (found.still, "frames in which nothing moves keep all of theirs"),
        (found.bare, "frames are left without a box"),
    ):
        if names:
            yield f"motion: {len(names)} {told}, such as {names[0]}"
