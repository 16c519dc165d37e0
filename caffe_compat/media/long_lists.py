"""Lists of millions of lines: the bytes of the file and where each line's parts are, instead of an object a line.

An entry is made when it is asked for.  Lines of the usual form are found by operations on all of them together; what is
unusual in any way (other blanks, quotes, odd labels, nothing at all) goes to the reader of single lines, so that there
is one meaning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

__all__ = ["ImageList", "LabelledImage", "Lines", "Pair", "PairList"]

LINE_END, BLANK, RETURN, ZERO = 10, 32, 13, 48
DIGITS = 9
"""A label of so many digits fits 32 bits."""
PART = 1 << 22
"""Bytes of text that are worked on together."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One line of an image list: the path as it will be opened, and where it was named."""

    path: str
    label: int
    line: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one scene, and the line of the list that names them."""

    first: str
    second: str
    line: int


class Lines:
    """The lines of a text, which end with a line feed and nothing else.

    Attributes:
        text: the bytes.
        starts, ends: int64 [N], where each line begins, and ends without its line feed.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        stops = [part + start for start, part in self._parts(LINE_END)]
        found = np.concatenate([np.zeros(0, np.int64), *stops])
        if text and not text.endswith(b"\n"):
            found = np.append(found, len(text))
        self.ends = found
        self.starts = np.concatenate([np.zeros(1, np.int64), found[:-1] + 1])[: len(found)]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.text[self.starts[index] : self.ends[index]])

    @property
    def bytes(self) -> np.ndarray:
        """The text as uint8."""
        return np.frombuffer(self.text, np.uint8)

    def _parts(self, what: int) -> Iterator[tuple[int, np.ndarray]]:
        """Where a byte stands, part by part: so that what is computed on the way stays small."""
        for start in range(0, len(self.text), PART):
            yield start, np.flatnonzero(self.bytes[start : start + PART] == what)

    def groups(self) -> Iterator[slice]:
        """Lines that are worked on together."""
        first = 0
        while first < len(self):
            last = max(int(np.searchsorted(self.ends, self.starts[first] + PART)), first + 1)
            yield slice(first, last)
            first = last


class ImageList(Sequence[LabelledImage]):
    """Labelled images, as :func:`~caffe_compat.media.read_image_list` reads them.

    Args:
        lines: of the list.
        root: is put before every path.
        unusual: the path and the label of one line, given its number from 1 and its text, or an error.
    """

    def __init__(self, lines: Lines, root: str, unusual: Callable[[int, str], tuple[str, int]]) -> None:
        self._lines, self._root = lines, root
        self.labels = np.zeros(len(lines), np.int32)
        self._cuts = np.empty(len(lines), np.int64)  # where the paths end
        self._odd: dict[int, str] = {}
        for group in lines.groups():
            usual = self._read(group)
            for index in (group.start + np.flatnonzero(~usual)).tolist():
                self._odd[index], self.labels[index] = unusual(index + 1, lines[index])

    def _read(self, group: slice) -> np.ndarray:
        """Read the usual lines of a group, ``path`` blank ``digits``; which they are, bool [n]."""
        text, starts, ends = self._lines.bytes, self._lines.starts[group], self._lines.ends[group]
        blanks = starts[0] + np.flatnonzero(text[starts[0] : ends[-1]] == BLANK)
        last = np.searchsorted(blanks, ends) - 1
        cuts = np.where(last >= 0, blanks[np.maximum(last, 0)] if len(blanks) else -1, -1)
        stops = ends - ((ends > starts) & (text[np.maximum(ends - 1, 0)] == RETURN))
        lengths = stops - cuts - 1
        usual = (cuts > starts) & (lengths >= 1) & (lengths <= DIGITS)
        values = np.zeros(len(starts), np.int64)
        for place in range(DIGITS):
            there = usual & (lengths > place)
            digits = text[np.where(there, cuts + 1 + place, 0)].astype(np.int64) - ZERO
            values = np.where(there, 10 * values + digits, values)
            usual = usual & (~there | ((digits >= 0) & (digits <= 9)))
        self._cuts[group], self.labels[group] = cuts, np.where(usual, values, 0)
        return np.asarray(usual)

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[LabelledImage]: ...
    def __getitem__(self, index: int | slice) -> LabelledImage | list[LabelledImage]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        path = self._odd.get(number)
        if path is None:
            path = os.fsdecode(self._lines.text[self._lines.starts[number] : self._cuts[number]])
        return LabelledImage(self._root + path, int(self.labels[number]), number + 1)


class PairList(Sequence[Pair]):
    """Pairs of images, as :func:`~caffe_compat.media.read_pair_list` reads them.

    Args:
        lines: of the list.
        folder: that paths are relative to.
        unusual: both paths of one line, given its number from 1 and its text, None of a line that is skipped, or an
            error.
    """

    def __init__(self, lines: Lines, folder: str, unusual: Callable[[int, str], tuple[str, str] | None]) -> None:
        self._lines, self._folder = lines, folder
        self._cuts = np.empty(len(lines), np.int64)
        self._odd: dict[int, tuple[str, str]] = {}
        kept = np.ones(len(lines), bool)
        for group in lines.groups():
            usual = self._read(group)
            for index in (group.start + np.flatnonzero(~usual)).tolist():
                found = unusual(index + 1, lines[index])
                if found is None:
                    kept[index] = False
                else:
                    self._odd[index] = found
        self._numbers = None if kept.all() else np.flatnonzero(kept)

    def _read(self, group: slice) -> np.ndarray:
        """Read the usual lines of a group, two paths of plain characters and one blank between them; which they are."""
        text, starts, ends = self._lines.bytes, self._lines.starts[group], self._lines.ends[group]
        part = text[starts[0] : ends[-1]]
        blanks = starts[0] + np.flatnonzero(part == BLANK)
        odd = starts[0] + np.flatnonzero((part < BLANK) | (part == ord('"')) | (part > 126))
        first, after = np.searchsorted(blanks, starts), np.searchsorted(blanks, ends)
        strange = np.searchsorted(odd, ends) - np.searchsorted(odd, starts)
        cuts = blanks[np.minimum(first, len(blanks) - 1)] if len(blanks) else np.full(len(starts), -1)
        self._cuts[group] = cuts
        usual: np.ndarray = (after - first == 1) & (strange == 0) & (cuts > starts) & (cuts < ends - 1)
        return usual

    def __len__(self) -> int:
        return len(self._lines) if self._numbers is None else len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        if self._numbers is not None:
            number = int(self._numbers[number])
        names = self._odd.get(number)
        if names is None:
            start, cut, end = self._lines.starts[number], self._cuts[number], self._lines.ends[number]
            names = (os.fsdecode(self._lines.text[start:cut]), os.fsdecode(self._lines.text[cut + 1 : end]))
        return Pair(os.path.join(self._folder, names[0]), os.path.join(self._folder, names[1]), number + 1)
