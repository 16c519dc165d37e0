"""The text files that name the data: lists of labelled images, of pairs of images, of files; read and written here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.media.long_lists import ImageList, LabelledImage, Lines, Pair, PairList

__all__ = [
    "ImageList",
    "LabelledImage",
    "Pair",
    "PairList",
    "read_clip_list",
    "read_first_paths",
    "read_image_list",
    "read_label_rows",
    "read_name_list",
    "read_pair_list",
    "read_path_pairs",
    "read_scene_list",
    "read_words",
    "write_image_list",
    "write_pairs",
]

PathLike = str | os.PathLike[str]
_LABELS = range(-(1 << 31), 1 << 31)


def _text(path: PathLike, why: str = "") -> bytes:
    with open_existing(path, why) as stream:
        return stream.read()


def _lines(path: PathLike, why: str = "") -> list[str]:
    lines = os.fsdecode(_text(path, why)).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_image_list(path: PathLike, root: str = "") -> ImageList:
    """Lines ``path label``, split at the last space, as Caffe reads them.

    The label is what C's ``atoi`` makes of it (0 for what is no number); ``root`` is put before the path as it is,
    without a separator.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty, a line is, or a label does not fit 32 bits.
    """

    def one(number: int, line: str) -> tuple[str, int]:
        if not line.strip():
            raise DataError(f"{path}, line {number}: is empty, expected 'path label'")
        name, space, label = line.rpartition(" ")
        value = _atoi(label)
        if value is None:
            raise DataError(f"{path}, line {number}: the label {_brief(label.strip())} does not fit 32 bits")
        return name if space else line.rstrip("\r"), value

    result = ImageList(Lines(_text(path)), root, one)
    if not result:
        raise DataError(f"{path}: the list is empty, expected lines 'path label'")
    return result


def read_clip_list(path: PathLike) -> list[tuple[str, int, int, int]]:
    """Lines ``folder frames label`` of a list of clips, as yjxiong/caffe reads them; names have no blanks.

    Returns:
        Folder, number of frames, label and line of each.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty, or a line is another; names the line.
    """
    result = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", word) for word in words[1:]):
            raise DataError(f"{path}, line {number}: {line.strip()!r}, expected 'folder frames label'")
        frames, label = int(words[1]), int(words[2])
        if frames < 1:
            raise DataError(f"{path}, line {number}: {words[0]} has {frames} frames, expected 1 or more")
        result.append((words[0], frames, label, number))
    if not result:
        raise DataError(f"{path}: the list is empty, expected lines 'folder frames label'")
    return result


def read_label_rows(path: PathLike, root: str, count: int) -> tuple[list[LabelledImage], np.ndarray]:
    """Lines ``path label ... label`` with ``count`` whole numbers, as PG-CNN has them; names have no blanks.

    Args:
        root: is put before every path as it is.

    Returns:
        The images, whose label is their row in the labels, and these, int32 [n, count].

    Raises:
        MissingFileError: no such list.
        DataError: it is empty, or a line is another; names the line.
    """
    images: list[LabelledImage] = []
    rows: list[list[int]] = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != count + 1 or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", word) for word in words[1:]):
            raise DataError(f"{path}, line {number}: {line.strip()[:60]!r}, expected a path and {count} whole numbers")
        images.append(LabelledImage(root + words[0], len(rows), number))
        rows.append([int(word) for word in words[1:]])
    if not images:
        raise DataError(f"{path}: the list is empty, expected lines of a path and {count} whole numbers")
    return images, np.array(rows, np.int32)


def _atoi(text: str) -> int | None:
    """What C's ``atoi`` makes of a text; None where that is not defined."""
    match = re.match(r"[ \t\r\v\f]*([+-]?)0*([0-9]*)", text)
    if match is None or not match[2]:
        return 0
    if len(match[2]) > 10:
        return None
    value = int(match[1] + match[2])
    return value if value in _LABELS else None


def _brief(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:20]!r}... of {len(text)} digits"


def write_image_list(path: PathLike, entries: Iterable[tuple[str, int]]) -> None:
    """Write lines ``path label``; paths as they are given.

    Raises:
        DataError: a path that such a list cannot hold.
        WriteError: it cannot be written.
    """

    def lines() -> Iterator[str]:
        for name, label in entries:
            if "\n" in name or not name.strip():
                raise DataError(f"{path}: {name!r} is empty or has a line end, which a list cannot hold")
            yield f"{name} {label}\n"

    _write(path, lines())


def _fields(line: str) -> list[str]:
    """The parts of a line: separated by a tab, or else by blanks; one with blanks stands in double quotes."""
    parts = line.split("\t") if "\t" in line else re.findall(r'"[^"]*"|\S+', line)
    return [part.strip().strip('"') for part in parts]


def read_path_pairs(path: PathLike, root: str = "") -> list[Pair]:
    """The words of a file two by two, as Caffe's forks read pictures and maps of labels.

    ``root`` is put before each path as it is, without a separator; no path has blanks.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty, or the words are not even in number.
    """
    words = [(word, number) for number, line in enumerate(_lines(path), 1) for word in line.split()]
    if not words or len(words) % 2:
        raise DataError(f"{path}: has {len(words)} words, expected two paths for each example: 'picture labels'")
    return [Pair(root + words[n][0], root + words[n + 1][0], words[n][1]) for n in range(0, len(words), 2)]


def read_words(path: PathLike) -> list[tuple[int, list[str]]]:
    """The numbers of the lines of a file that hold something, and their words.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty.
    """
    found = [(number, line.split()) for number, line in enumerate(_lines(path), 1) if line.strip()]
    if not found:
        raise DataError(f"{path}: the list is empty, expected lines 'picture labels'")
    return found


def read_pair_list(path: PathLike, root: str = "") -> PairList:
    """Lines ``first second``: separated by a tab or by blanks; a path with blanks stands in double quotes.

    Paths are relative to ``root``, or to the folder of the list if ``root`` is empty.  Blank lines are skipped.

    Raises:
        MissingFileError: no such list.
        DataError: a line does not hold two paths, or there is none.
    """

    def one(number: int, line: str) -> tuple[str, str] | None:
        line = line.strip()
        if not line:
            return None
        names = _fields(line)
        if len(names) != 2 or not all(names):
            raise DataError(
                f"{path}, line {number}: has {len(names)} path(s) ({line!r}), expected two: 'first second', in double "
                "quotes where a path has blanks"
            )
        return names[0], names[1]

    result = PairList(Lines(_text(path)), root or os.path.dirname(path), one)
    if not result:
        raise DataError(f"{path}: the list is empty, expected lines 'first second'")
    return result


def write_pairs(path: PathLike, pairs: Sequence[tuple[str, str]]) -> None:
    """Write a list of pairs; paths become relative to its folder, and a path with blanks is put in double quotes.

    Args:
        path: the list.
        pairs: colour image and the image of the other modality.

    Raises:
        DataError: a path with a double quote or a line end, which such lists cannot hold.
        WriteError: it cannot be written.
    """
    base = Path(path).parent
    lines = []
    for pair in pairs:
        names = [Path(os.path.relpath(name, base)).as_posix() for name in pair]
        for name in names:
            if any(mark in name for mark in '"\t\n\r') or name != name.strip():
                raise DataError(
                    f"{path}: {name!r} has a double quote, tab, line end or blank at an end, which a list cannot hold"
                )
        lines.append(" ".join(f'"{name}"' if any(map(str.isspace, name)) else name for name in names) + "\n")
    _write(path, lines)


def _write(path: PathLike, lines: Iterable[str]) -> None:
    with atomic_write(path) as stream:
        stream.writelines(map(os.fsencode, lines))


def read_first_paths(path: PathLike, root: str = "") -> list[str]:
    """The first path of every line: a list of images, of images with labels, or of pairs.

    Paths are relative to ``root``, or to the folder of the list if ``root`` is empty.  Blank lines are skipped.

    Raises:
        MissingFileError: no such list.
        DataError: it names no image.
    """
    folder = root or os.path.dirname(path)
    found = [_fields(line.strip()) for line in _lines(path, "list of images")]
    names = [os.path.join(folder, fields[0]) for fields in found if fields and fields[0]]
    if not names:
        raise DataError(f"{path}: the list is empty, expected one image a line")
    return names


def read_scene_list(path: PathLike) -> list[tuple[str, ...]]:
    """The files of every line, separated as in a list of pairs, relative to the folder of the list.

    Raises:
        MissingFileError: no such list.
        DataError: it names no file, or a line is not text.
    """
    folder = os.path.dirname(path)
    found = [tuple(name for name in _fields(line.strip()) if name) for line in _lines(path, "list of pictures")]
    scenes = [tuple(os.path.join(folder, name) for name in names) for names in found if names]
    if not scenes:
        raise DataError(f"{path}: the list is empty, expected the files of a scene a line")
    return scenes


def read_name_list(path: PathLike) -> list[str]:
    """Names separated by blanks or line ends.

    Raises:
        MissingFileError: no such list.
        DataError: it is empty.
    """
    names = " ".join(_lines(path)).split()
    if not names:
        raise DataError(f"{path}: the list is empty, expected names of files")
    return names
