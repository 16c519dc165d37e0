"""Image databases: records with boxes and class names, found by a name such as ``nyud2_images+hha_2015_test``.

A database is a function that returns one, registered by the form of its names::

    @register_imdb(r"mine_(?P<split>train|test)", ("mine_train", "mine_test"))
    def mine(root: Path, split: str) -> ImageDatabase: ...
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.datasets.proposals import read_any
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import UsageError, nearest

__all__ = ["FileProposals", "ImageDatabase", "ProposalSource", "find_imdb", "imdb_forms", "imdb_names", "register_imdb"]

ProposalSource = Callable[[FrameRecord], np.ndarray]
"""Boxes of a frame that may hold objects: float32 [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included, best
first."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDatabase:
    """What a detector is trained or tested on.

    Args:
        name: names the folder of its results.
        classes: without the background; ``classes[k]`` is label k + 1.
        modalities: keys of every record's ``paths``; blobs ``data``, ``data_1``, ... hold them in this order.
        records: of different names, with ``size``, and with ``boxes`` and ``classes`` where the objects are known.
        proposals: the data set's own; None: it has none.
        metric: the rule by which it is evaluated: ``nyud2``, ``voc07`` (11 points), ``voc``, ``coco`` or
            ``action`` (frames of clips, whose names are the records' scenes).
        category_ids: the number of each class in the data set's own files, which files of results for its judges want
            (COCO's category ids); None: they have none.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    records: Sequence[FrameRecord]
    proposals: ProposalSource | None = None
    metric: str = "nyud2"
    category_ids: tuple[int, ...] | None = None


class FileProposals:
    """Proposals of a file, or a folder of files, that is read when the first are asked for.

    Args:
        path: of any form that :func:`~caffe_compat.datasets.proposals.read_any` reads.
        names: of all frames, in the database's order.
        top_k: at most so many of an image; 0 = all.
    """

    def __init__(self, path: Path, names: Sequence[str], top_k: int = 0) -> None:
        self.path = path
        self._names, self._top_k = names, top_k
        self._read: ProposalSource | None = None

    def __call__(self, record: FrameRecord) -> np.ndarray:
        """Boxes of a frame: float32 [N, 4], x1 y1 x2 y2 from 0, best first.

        Raises:
            MissingFileError, DataError: no such file, or one that does not serve.
        """
        if self._read is None:
            self._read = read_any(self.path, self._names, self._top_k)
        return self._read(record)


Loader = Callable[..., ImageDatabase]
"""Takes the folder that holds ``data/`` and the named groups of its pattern."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    loader: Loader


_ENTRIES: list[_Entry] = []


def register_imdb(pattern: str, names: Sequence[str]) -> Callable[[Loader], Loader]:
    """Make a function the one that gives the databases whose whole names match a pattern.

    Args:
        pattern: a regular expression; its named groups are the function's arguments after the root folder.
        names: some of the names that it matches, for lists and for hints at misspelt ones; more general forms have
            capital letters where something is to be filled in, as ``coco:PATH.json``.
    """

    def add(loader: Loader) -> Loader:
        _ENTRIES.append(_Entry(re.compile(pattern), tuple(names), loader))
        return loader

    return add


def imdb_names() -> list[str]:
    """Names and forms of names that are known, in the order in which they were registered."""
    return [name for entry in _ENTRIES for name in entry.names]


def imdb_forms() -> list[tuple[str, tuple[str, ...]]]:
    """What each registered function is of (the first line of its docstring), and the names that it gives."""
    return [((entry.loader.__doc__ or "").strip().split("\n")[0].replace("``", ""), entry.names) for entry in _ENTRIES]


def find_imdb(name: str, root: str | os.PathLike[str] = ".") -> ImageDatabase:
    """The database of a name.

    Args:
        name: such as ``nyud2_hha_2015_trainval`` or ``coco:PATH.json``; see :func:`imdb_names`.
        root: the folder that holds ``data/``.

    Raises:
        UsageError: no database has such a name.
        MissingFileError, DataError: what it is read from is missing or wrong.
    """
    for entry in _ENTRIES:
        match = entry.pattern.fullmatch(name)
        if match is not None:
            return entry.loader(Path(root), **match.groupdict())
    known = imdb_names()
    raise UsageError(f"no image database '{name}'{nearest(name, known)}; names are such as {', '.join(known)}")
