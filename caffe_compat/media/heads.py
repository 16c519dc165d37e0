"""The heads of the images of a list of pairs, read before any is decoded, so that all that cannot be used is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.files import open_existing
from caffe_compat.media.lists import Pair
from caffe_compat.media.sizes import UNREADABLE, check_size, open_pillow, stated_size

__all__ = ["check_pairs", "different_sizes", "head_size"]

THREADS = 8
MOST = 10

Size = tuple[int, int]


def different_sizes(pair: Pair, first: Sequence[int], second: Sequence[int]) -> str:
    """What is said of a pair whose images are not of one size; each begins with height and width."""
    told = [f"{size[1]}x{size[0]} ({path})" for size, path in ((first, pair.first), (second, pair.second))]
    return f"the images of the pair have different sizes, {told[0]} and {told[1]}"


def head_size(path: str) -> Size | None:
    """Height and width that an image file states; None where its kind does not say.

    Raises:
        MissingFileError: no such file.
        DataError: it is empty, states no size though its kind has one, or more pixels than the limit.
    """
    with open_existing(path, "image") as stream:
        try:
            with open_pillow(stream, path) as image:
                return image.height, image.width
        except UNREADABLE:
            stream.seek(0)
            data = stream.read()
    size = stated_size(data, path)  # kinds that Pillow does not know
    if size is not None:
        check_size(*size, path)
    elif not data or not cv2.haveImageReader(path):
        raise DataError(f"{path}: is no image that OpenCV can decode ({len(data)} bytes)")
    return size


def check_pairs(
    source: str | os.PathLike[str], pairs: Sequence[Pair], further: Callable[[Size], None] = lambda size: None
) -> list[Size]:
    """Hold the sizes that both images of every pair state against each other.

    Args:
        source: the list that names them; a line of 0 stands for a pair that none names.
        further: raises a DataError for a size that cannot be used.

    Returns:
        The different sizes (height, width), in the order of the list; images whose kind does not say are left out.

    Raises:
        DataError: pairs of which an image is missing, is none, or is not as large as the other: names up to ten, with
            their lines, and how many there are.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        paths = list(dict.fromkeys(path for pair in pairs for path in (pair.first, pair.second)))
        found = dict(zip(paths, pool.map(_size_or_reason, paths), strict=True))
    reasons: list[tuple[int, str]] = []
    sizes: dict[Size, None] = {}
    for pair in pairs:
        first, second = found[pair.first], found[pair.second]
        wrong = [text for text in (first, second) if isinstance(text, str)]
        if wrong:
            reasons.append((pair.line, "; ".join(wrong)))
        elif isinstance(first, tuple) and isinstance(second, tuple) and first != second:
            reasons.append((pair.line, different_sizes(pair, first, second)))
        elif isinstance(first, tuple):
            try:
                further(first)
            except DataError as error:
                reasons.append((pair.line, f"{pair.first}: {error}"))
            sizes[first] = None
    if reasons:
        raise DataError(_told(source, reasons, len(pairs)))
    return list(sizes)


def _size_or_reason(path: str) -> Size | str | None:
    try:
        return head_size(path)
    except (DataError, MissingFileError) as error:
        return str(error)


def _told(source: str | os.PathLike[str], reasons: Sequence[tuple[int, str]], count: int) -> str:
    if len(reasons) == 1:
        ((line, reason),) = reasons
        return f"{os.fspath(source)}{f', line {line}' if line else ''}: {reason}"
    listed = [f"line {line}: {reason}" if line else reason for line, reason in reasons]
    more = f"; and {len(listed) - MOST} more" if len(listed) > MOST else ""
    return f"{os.fspath(source)}: {len(reasons)} of {count} pairs cannot be used: {'; '.join(listed[:MOST])}{more}"
