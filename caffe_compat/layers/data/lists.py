"""The text files that name the data: lists of labelled images, of pairs of images, of files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["LabelledImage", "Pair", "read_image_list", "read_name_list", "read_pair_list"]


@dataclass(frozen=True)
class LabelledImage:
    """One line of an image list: the path as it will be opened, and where it was named."""

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class Pair:
    """Two images of one scene, and the line of the list that names them."""

    first: str
    second: str
    line: int


def _lines(path: str) -> list[str]:
    with open_existing(path) as stream:
        text = os.fsdecode(stream.read())
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_image_list(path: str, root: str = "") -> list[LabelledImage]:
    """Lines ``path label``, split at the last space, as Caffe reads them.

    The label is what C's ``atoi`` makes of it (0 for what is no number); ``root`` is put before the path as it is,
    without a separator.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty, or a line is.
    """
    result = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            raise DataError(f"{path}, line {number}: is empty, expected 'path label'")
        name, space, label = line.rpartition(" ")
        result.append(LabelledImage(root + (name if space else line.rstrip("\r")), _atoi(label), number))
    if not result:
        raise DataError(f"{path}: the list is empty, expected lines 'path label'")
    return result


def _atoi(text: str) -> int:
    match = re.match(r"[ \t\r\v\f]*([+-]?[0-9]+)", text)
    return int(match[1]) if match else 0


def read_pair_list(path: str, root: str = "") -> list[Pair]:
    """Lines ``first second``: separated by a tab or by blanks; a path with blanks stands in double quotes.

    Paths are relative to ``root``, or to the folder of the list if ``root`` is empty.  Blank lines are skipped.

    Raises:
        MissingFileError: no such list.
        DataError: a line does not hold two paths, or there is none.
    """
    folder = root or os.path.dirname(path)
    result = []
    for number, line in enumerate(_lines(path), 1):
        line = line.strip()
        if not line:
            continue
        names = line.split("\t") if "\t" in line else re.findall(r'"[^"]*"|\S+', line)
        names = [name.strip().strip('"') for name in names]
        if len(names) != 2 or not all(names):
            raise DataError(
                f"{path}, line {number}: has {len(names)} path(s) ({line!r}), expected two: 'first second', in double "
                "quotes where a path has blanks"
            )
        result.append(Pair(os.path.join(folder, names[0]), os.path.join(folder, names[1]), number))
    if not result:
        raise DataError(f"{path}: the list is empty, expected lines 'first second'")
    return result


def read_name_list(path: str) -> list[str]:
    """Names separated by blanks or line ends.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty.
    """
    names = " ".join(_lines(path)).split()
    if not names:
        raise DataError(f"{path}: the list is empty, expected names of files")
    return names
