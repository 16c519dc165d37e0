"""Files of pictures: where those of a frame are, how large they say they are, and label maps."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, one_line
from caffe_compat.files import open_existing
from caffe_compat.media.sizes import UNREADABLE, open_pillow

__all__ = [
    "Pictures",
    "check_names",
    "check_pictures",
    "check_sizes",
    "picture_problems",
    "picture_size",
    "read_labels",
]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Pictures:
    """The picture files below a folder, each of its folders listed once: asking for a hundred thousand takes a second.

    Args:
        root: the folder.
        what: begins messages, such as ``"modality hha"``.
        only_named: do not look for stems.
    """

    def __init__(self, root: str | os.PathLike[str], what: str, only_named: bool = False) -> None:
        self.root, self.what, self.only_named = Path(root), what, only_named
        self._absent: list[str] = []
        self._folders: dict[str, tuple[set[str], dict[str, list[str]]]] = {}

    def find(self, name: str | None, stems: Sequence[str]) -> str:
        """The picture of a name relative to the root, such as ``a/b.png``, or with the first stem that one has.

        Args:
            name: None: none is known.
            stems: such as ``a/b`` for ``a/b.png``.

        Returns:
            The file; an empty string, and noted for :meth:`check`, if there is none.

        Raises:
            MissingFileError: the root is no folder.
            DataError: several pictures have the stem.
        """
        if name is not None:
            folder, file = os.path.split(name)
            if file in self._list(folder)[0]:
                return str(self.root / name)
        for stem in () if self.only_named else stems:
            folder, file = os.path.split(stem)
            found = self._list(folder)[1].get(file, [])
            if len(found) > 1:
                files = " and ".join(sorted(found)[:3])
                raise DataError(f"{self.what}: {self.root / folder} has {files}, expected one of them")
            if found:
                return str(self.root / folder / found[0])
        self._absent.append(name or " or ".join(f"{stem}.*" for stem in stems))
        return ""

    def check(self) -> None:
        """Raise DataError with the number and first names of what was asked for and is not there."""
        if self._absent:
            more = f" and {len(self._absent) - 5} more" if len(self._absent) > 5 else ""
            first = ", ".join(self._absent[:5])
            raise DataError(f"{self.what}: {len(self._absent)} pictures are missing in {self.root}: {first}{more}")

    def _list(self, folder: str) -> tuple[set[str], dict[str, list[str]]]:
        """All names in a folder, and those of pictures by their stem."""
        if folder not in self._folders:
            by_stem: dict[str, list[str]] = defaultdict(list)
            try:
                names = set(os.listdir(self.root / folder))
            except (OSError, ValueError) as error:
                if not folder:
                    raise MissingFileError(self.root, f"folder of {self.what}") from error
                names = set()
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in _SUFFIXES:
                    by_stem[stem].append(name)
            self._folders[folder] = names, dict(by_stem)
        return self._folders[folder]


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], why: str) -> Iterator[Image.Image]:
    """A picture whose head is read; what goes wrong within the block, when its pixels are, is told as well."""
    with open_existing(path, why) as stream:
        try:
            with open_pillow(stream, os.fspath(path)) as image:
                yield image
        except UNREADABLE as error:
            raise DataError(f"{os.fspath(path)}: is no picture that can be read: {one_line(error)}") from error


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width that the head of a picture states, as stored (the orientation in EXIF is ignored).

    Raises:
        MissingFileError: no such file.
        DataError: not a picture, or one of more pixels than the limit.
    """
    with _opened(path, "picture") as image:
        return image.height, image.width


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """A picture of numbers (for a palette picture, the numbers of its colours): integers [H, W].

    Raises:
        MissingFileError: no such file.
        DataError: not a picture, or one of several channels.
    """
    with _opened(path, "label picture") as image:
        labels = np.asarray(image)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise DataError(f"{os.fspath(path)}: {labels.dtype} of shape {labels.shape}, expected one channel of labels")
    return labels


def check_sizes(record: FrameRecord, modalities: Iterable[str]) -> None:
    """Check by the heads of a frame's pictures that all have its size.

    Raises:
        MissingFileError, DataError: a picture is missing, unreadable, or of another size.
    """
    for kind in modalities:
        size = picture_size(record.paths[kind])
        if record.size is not None and size != record.size:
            has, expected = (f"{width} x {height}" for height, width in (size, record.size))
            raise DataError(f"{record.paths[kind]}: has {has} pixels, frame {record.name} has {expected}")


def picture_problems(records: Iterable[FrameRecord], modalities: Sequence[str]) -> list[str]:
    """What :func:`check_sizes` finds wrong in each of many frames: a line for each that does not serve."""
    problems = []
    for record in records:
        try:
            check_sizes(record, modalities)
        except CaffeCompatError as error:
            problems.append(str(error))
    return problems


def check_pictures(where: str, records: Iterable[FrameRecord], modalities: Sequence[str]) -> None:
    """Raise DataError with the number and the first five of the frames whose pictures do not serve, by their heads."""
    problems = picture_problems(records, modalities)
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{where}: pictures of {len(problems)} frames cannot be used: {'; '.join(problems[:5])}{more}")


def check_names(records: Sequence[FrameRecord], where: str) -> None:
    """Raise DataError if two records have one name."""
    names: set[str] = set()
    for record in records:
        if record.name in names:
            raise DataError(f"{where}: two frames are called {record.name}")
        names.add(record.name)
