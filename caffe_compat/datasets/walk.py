"""Looking for frames in a tree of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

from caffe_compat.errors import MissingFileError

__all__ = ["walk"]


def walk(root: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` in sorted order that follows links (data sets are spread over discs) but never visits a folder twice.

    Yields:
        Folder, the names of its folders (clear the list to go no deeper), the names of its files.

    Raises:
        MissingFileError: ``root``, or a folder below it, is absent or cannot be listed.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield folder, folders, sorted(files)


def _refuse(error: OSError) -> NoReturn:
    raise MissingFileError(error.filename, f"folder of a data set: {error.strerror}") from error
