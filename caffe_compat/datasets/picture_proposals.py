"""Proposals of pictures that are known by their paths: which entry of a file of proposals is whose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.npz import read_npz
from caffe_compat.datasets.proposal_file import is_npz
from caffe_compat.datasets.proposals import read_any
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.media import head_size, read_pair_list

__all__ = ["pairs_database", "picture_name", "picture_proposals"]

PathLike = str | os.PathLike[str]
MOST = 10
"""Pictures that a message names."""
_THREADS = 8


def picture_name(path: PathLike) -> str:
    """What a picture is called in a file of proposals that this package writes: its path without the ending."""
    return PurePath(os.path.normpath(path)).with_suffix("").as_posix()


def picture_proposals(path: PathLike, pictures: Sequence[Sequence[str]], top_k: int = 0) -> list[np.ndarray]:
    """The proposals of pictures in a file, or a folder of files, of any form that ``read_any`` reads.

    An entry is a picture's if its name is the end of the picture's path, with the ending or without: ``0001``,
    ``color/0001`` and ``color/0001.png`` are all names of ``/data/color/0001.png``.  Of several the longest counts.

    Args:
        path: the file or folder.
        pictures: of each frame the paths of its pictures; the first that has an entry decides.
        top_k: at most so many of a frame, its first; 0 = all.

    Returns:
        Of each frame float32 [N, 4], N > 0: x1 y1 x2 y2 in pixels of the picture from 0, last pixel included, best
        first.  Boxes without extent are left out, as detection leaves them out.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; frames without proposals (names up to ten); different frames with one entry; boxes
            that are not in the picture.
    """
    find = _finder(path)
    names = [next((name for one in frame if (name := find(one)) is not None), None) for frame in pictures]
    _refuse(path, [frame[0] for frame, name in zip(pictures, names, strict=True) if name is None], "are no proposals")
    known = [name for name in names if name is not None]
    owners: dict[str, str] = {}
    for name, frame in zip(known, pictures, strict=True):
        first = os.path.abspath(frame[0])
        if owners.setdefault(name, first) != first:
            raise DataError(
                f"{os.fspath(path)}: '{name}' would be the proposals of both {owners[name]} and {first}; expected "
                "entries named by more of their paths"
            )
    source = read_any(path, list(owners), top_k)
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(head_size, [frame[0] for frame in pictures]))
    boxes = [_with_extent(source(FrameRecord(name, size=size))) for name, size in zip(known, sizes, strict=True)]
    _refuse(path, [frame[0] for frame, found in zip(pictures, boxes, strict=True) if not len(found)], "is no box")
    return boxes


def pairs_database(sources: Sequence[PathLike], root: str = "") -> ImageDatabase:
    """The first pictures of lists of pairs as a database without classes, for which proposals can be computed.

    Its images are called by :func:`picture_name`.

    Raises:
        MissingFileError, DataError: a list, or a picture.
    """
    paths = [pair.first for source in sources for pair in read_pair_list(source, root)]
    records = {picture_name(path): FrameRecord(picture_name(path), {"images": path}) for path in paths}
    title = " and ".join(os.fspath(source) for source in sources)
    return ImageDatabase(title, (), ("images",), list(records.values()))


def _with_extent(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)], np.float32)


def _refuse(path: PathLike, pictures: Sequence[str], what: str) -> None:
    if pictures:
        different = list(dict.fromkeys(pictures))
        more = f" and {len(different) - MOST} more" if len(different) > MOST else ""
        listed = ", ".join(different[:MOST])
        count = f"{len(different)} picture{'s' * (len(different) > 1)}"
        raise DataError(f"{os.fspath(path)}: there {what} in it for {count}: {listed}{more}")


def _finder(path: PathLike) -> Callable[[str], str | None]:
    """The name of the entry of a picture, or None."""
    if os.path.isdir(path):
        root = Path(path)
        return lambda picture: next((end for end in _ends(picture) if _in_folder(root, end)), None)
    known = frozenset(_names(path))
    return lambda picture: next((end for end in _ends(picture) if end in known), None)


def _ends(picture: str) -> Iterator[str]:
    """Ends of a path, the longest first, each with the ending of the file and without."""
    whole = PurePath(os.path.abspath(picture))
    bare = whole.with_suffix("")
    for start in range(len(whole.parts)):
        yield PurePath(*whole.parts[start:]).as_posix()
        yield PurePath(*bare.parts[start:]).as_posix()


def _in_folder(root: Path, name: str) -> bool:
    """Whether ``read_any`` finds a file of that name below a folder."""
    if os.path.isabs(name):
        return False
    short = Path(name).name
    return (root / f"{name}.mat").is_file() or (root / short[:14] / short[:22] / f"{short}.mat").is_file()


def _names(path: PathLike) -> list[str]:
    """Names of the entries of a file."""
    if is_npz(path):
        held = read_npz(path, "proposals", ("images",))
        return [str(name) for name in np.ravel(held["images"])] if "images" in held else []
    found = read_mat(path)
    for variable in ("imnames", "images"):
        if variable in found:
            return [str(name) for name in np.ravel(found[variable])]
    raise DataError(
        f"{os.fspath(path)}: does not name its images, expected proposals with names (imnames or images) or a .npz file"
    )
