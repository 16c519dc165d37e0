"""How large a picture says it is, before anything decodes it.

A file of 389 kB can hold 400 million pixels.  Every reader of this package asks here first.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
from collections.abc import Iterator
from typing import IO

from PIL import Image

from caffe_compat.errors import DataError
from caffe_compat.memory import LIFT, limits_apply

__all__ = [
    "PIXEL_LIMIT",
    "UNREADABLE",
    "check_size",
    "open_pillow",
    "pixel_limit",
    "stated_size",
]

PIXEL_LIMIT = 1 << 27
"""Pixels of the largest picture that is decoded, unless limits are lifted: 134 million, e.g. 16384 x 8192."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise for files that they cannot read."""

_PNG = b"\x89PNG\r\n\x1a\n"
_pillow_lock = threading.Lock()


def pixel_limit() -> int:
    """The limit in force, 0 for none; see :func:`caffe_compat.memory.limits_apply`."""
    return PIXEL_LIMIT if limits_apply() else 0


def check_size(height: int, width: int, name: str, most: int | None = None) -> None:
    """Refuse a picture of more pixels than the limit.

    Args:
        name: begins the message.
        most: another limit than :func:`pixel_limit`; 0 for none.

    Raises:
        DataError: it has more.
    """
    most = pixel_limit() if most is None else most
    if most and height * width > most:
        raise DataError(
            f"{name}: is a picture of {width}x{height}, {height * width} pixels, the limit is {most}; {LIFT} lifts it"
        )


def stated_size(data: bytes, name: str) -> tuple[int, int] | None:
    """Height and width that the head of a picture file states; None if its kind is not known.

    Raises:
        DataError: a PNG or JPEG whose size its bytes cannot hold: decoders would allocate it first.
    """
    if data.startswith(_PNG):
        return _png_size(data, name)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data, name)
    if data.startswith(b"P7\n"):  # PAM
        found = dict(re.findall(rb"^(HEIGHT|WIDTH)\s+(\d{1,9})\s*$", data[:4096], re.M))
        return (int(found[b"HEIGHT"]), int(found[b"WIDTH"])) if len(found) == 2 else None
    if data.startswith((b"PF", b"Pf")):  # PFM
        sizes = re.match(rb"P[Ff]\s+(\d{1,9})\s+(\d{1,9})\s", data)
        return None if sizes is None else (int(sizes[2]), int(sizes[1]))
    if data.startswith((b"#?RADIANCE", b"#?RGBE")):
        found_line = re.search(rb"^[-+]Y (\d{1,9}) [-+]X (\d{1,9})\s*$", data[:65536], re.M)
        return None if found_line is None else (int(found_line[1]), int(found_line[2]))
    try:
        with _open_unlimited(io.BytesIO(data)) as image:
            return image.height, image.width
    except UNREADABLE:
        return None  # Pillow does not know all that OpenCV knows


def _png_size(data: bytes, name: str) -> tuple[int, int]:
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data) - at - 8:
            raise DataError(f"{name}: is a truncated or damaged PNG image, a part at byte {at} goes beyond its end")
        at += length + 12
    size = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    # a pixel takes at least 1/8 byte, of which deflate packs 1032 into one
    _refuse_lies(size, 8 * 1032 * len(data), data, name)
    return size


def _jpeg_size(data: bytes, name: str) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            _refuse_lies(size, 512 * len(data), data, name)  # a block of 64 pixels takes at least one bit
            return size
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _refuse_lies(size: tuple[int, int], most: int, data: bytes, name: str) -> None:
    if size[0] * size[1] > most:
        raise DataError(f"{name}: claims {size[0] * size[1]} pixels, which {len(data)} bytes cannot hold")


def open_pillow(stream: IO[bytes], name: str, most: int | None = None) -> Image.Image:
    """Pillow's image of a file, its size checked, its pixels not decoded yet.

    Args:
        most: another limit than :func:`pixel_limit`; 0 for none.  Pillow's own limits do not count.

    Raises:
        DataError: more pixels than the limit.
        OSError and others: what ``PIL.Image.open`` raises.
    """
    image = _open_unlimited(stream)
    try:
        check_size(image.height, image.width, name, most)
    except BaseException:
        image.close()
        raise
    return image


def _open_unlimited(stream: IO[bytes]) -> Image.Image:
    with _pillow_lock, _no_pillow_limit():
        return Image.open(stream)


@contextlib.contextmanager
def _no_pillow_limit() -> Iterator[None]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
