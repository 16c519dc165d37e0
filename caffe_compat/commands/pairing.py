"""Pairs of images that commands are given whole, and how some of them are held out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from caffe_compat.commands.inputs import FOLDER, LIST
from caffe_compat.errors import DataError, UsageError

__all__ = ["PAIR_OPTIONS", "add_pairs", "pairs_of_folders", "split_pairs"]

PAIR_OPTIONS = ("folders", "pairs", "hold_out", "block")


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--folders", type=FOLDER, nargs=2, metavar=("FIRST", "SECOND"),
                       help="images of the teacher's and of the "
                       "student's modality, paired by their names without the ending")  # fmt: skip
    where.add_argument("--pairs", type=LIST, metavar="LIST", help="list of pairs")
    add = parser.add_argument
    add("--hold-out", type=int, default=5, metavar="N", help="every N-th pair is for validation (%(default)s)")
    add("--block", type=int, default=1, help="pairs that follow each other and stay together (%(default)s)")


def split_pairs(arguments: argparse.Namespace, folder: Path) -> list[tuple[str, int]] | None:
    """Write the lists for training and validation into a folder.

    Returns:
        Path of each and how many pairs it has; None where no pairs were given.

    Raises:
        DataError: files without a partner, a list that cannot be read, or pictures that cannot be used: names them.
        UsageError: too few pairs to hold some out.
    """
    from caffe_compat.media import Pair, check_pairs, read_pair_list, write_pairs

    if arguments.folders:
        found: Sequence[Pair] = [Pair(first, second, 0) for first, second in pairs_of_folders(*arguments.folders)]
    elif arguments.pairs:
        found = read_pair_list(arguments.pairs, arguments.root_folder)
    else:
        return None
    blocks = _blocks(len(found), arguments.hold_out, arguments.block)
    check_pairs(arguments.pairs or " and ".join(arguments.folders), found)
    pairs = [(pair.first, pair.second) for pair in found]
    sides = [[pair for pair, held in zip(pairs, blocks, strict=True) if held is side] for side in (False, True)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / name) for name in ("train_pairs.txt", "val_pairs.txt")]
    for path, some in zip(paths, sides, strict=True):
        write_pairs(path, some)
    return [(path, len(some)) for path, some in zip(paths, sides, strict=True)]


def _blocks(count: int, hold_out: int, block: int) -> list[bool]:
    """Whether each of some pairs is held out."""
    if block < 1:
        raise UsageError(f"--block is {block}, expected 1 or more")
    blocks = -(-count // block)
    if not 2 <= hold_out <= blocks:
        of = "the number of pairs" if block == 1 else f"the number of blocks of {block} of {count} pairs"
        raise UsageError(f"--hold-out is {hold_out}, expected 2 to {blocks}, {of}")
    return [index // block % hold_out == hold_out - 1 for index in range(count)]


def pairs_of_folders(first: str, second: str) -> list[tuple[str, str]]:
    """Files of two folders that have one name but for its ending, sorted by it.

    Raises:
        DataError: a folder that is not there, or files without a partner: names up to ten of them.
    """
    stems: list[dict[str, str]] = []
    for folder in (first, second):
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: is no folder")
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
        stems.append({path.stem: str(path) for path in files})
        if len(stems[-1]) < len(files):
            raise DataError(f"{folder}: has files of one name with different endings, which cannot be paired")
    alone = [stems[i][stem] for i in (0, 1) for stem in stems[i] if stem not in stems[1 - i]]
    if alone or not stems[0]:
        more = f" and {len(alone) - 10} more" if len(alone) > 10 else ""
        what = f"without a partner: {', '.join(alone[:10])}{more}" if alone else "no files"
        raise DataError(f"{first} and {second}: {what}")
    return [(path, stems[1][stem]) for stem, path in stems[0].items()]
