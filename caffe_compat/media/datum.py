"""``Datum`` messages: the records of Caffe's databases of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.errors import DataError
from caffe_compat.media.pictures import Channels, decode, planes
from caffe_compat.proto import caffe_pb2

__all__ = ["datum_channels", "encoded_datum", "picture_datum", "read_boxed_datum", "read_datum"]

_NUMBER, _BYTES = 0, 2
"""Wire types."""
_DATA = 4 << 3 | _BYTES


def datum_channels(
    raw: bytes, name: str, force_color: bool = False, force_gray: bool = False
) -> tuple[Sequence[np.ndarray] | np.ndarray, int]:
    """The planes (height, width) of a serialized ``Datum``, and its label; see :func:`read_datum`."""
    picture, values, label = read_datum(raw, name, force_color, force_gray)
    return (planes(picture) if values is None else values), label


def read_datum(
    raw: bytes, name: str, force_color: bool = False, force_gray: bool = False
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """What a serialized ``Datum`` holds: a picture (height, width[, channels]), or else planes, and its label.

    ``data`` holds uint8, ``float_data`` float32 values; an ``encoded`` datum is a compressed image, decoded as it is or
    to three channels or one.  The force flags mean nothing to a datum that is not encoded.

    Returns:
        The picture, None, label; or nothing, the planes (channels, height, width), label.

    Raises:
        DataError: the datum is malformed.
    """
    datum = caffe_pb2.Datum()
    rest, data = _apart(raw)
    try:
        datum.ParseFromString(rest)
    except DecodeError as error:
        raise DataError(f"{name}: is no Datum: {error}") from error
    if data is None:
        data = memoryview(datum.data)
    if datum.encoded:
        if force_color and force_gray:
            raise DataError(f"{name}: transform_param has force_color and force_gray, expected one of them")
        wanted: Channels = "color" if force_color else "gray" if force_gray else "unchanged"
        return decode(bytes(data), name, wanted), None, datum.label
    values = np.frombuffer(data, np.uint8) if len(data) else np.array(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        raise DataError(f"{name}: a Datum of {values.size} values cannot have the shape {list(shape)}")
    return values[:0], values.reshape(shape), datum.label


def read_boxed_datum(
    raw: bytes, name: str, numbers: int, force_color: bool = False, force_gray: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The picture of an ``encoded`` Datum, and the rows of ``numbers`` in its ``float_data``: float32 (boxes, numbers).

    Raises:
        DataError: the datum is malformed, not encoded, or has no such rows.
    """
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(raw)
    except DecodeError as error:
        raise DataError(f"{name}: is no Datum: {error}") from error
    rows = np.array(datum.float_data, np.float32)
    if not datum.encoded or not rows.size or rows.size % numbers:
        raise DataError(
            f"{name}: is {'' if datum.encoded else 'not '}encoded and has {rows.size} numbers of boxes, expected an "
            f"encoded picture and {numbers} for each box"
        )
    return read_datum(raw, name, force_color, force_gray)[0], rows.reshape(-1, numbers)


def _apart(raw: bytes) -> tuple[bytes, memoryview | None]:
    """A serialized ``Datum`` without its ``data``, and that in place: the pixels need not be copied twice.

    All of it, and None, where it is not the usual form, or malformed: that is protobuf's affair.
    """
    found, at, size = None, 0, len(raw)
    while at < size:
        start, tag = at, raw[at]
        value, at = _varint(raw, at + 1)
        if at < 0 or tag >= 0x80 or tag < 8 or tag & 7 not in (_NUMBER, _BYTES):
            return raw, None
        if tag & 7 == _BYTES:
            body, at = at, at + value
            if tag == _DATA:
                if found is not None:
                    return raw, None
                found = start, body, at
    if found is None or at != size:
        return raw, None
    start, body, end = found
    return raw[:start] + raw[end:], memoryview(raw)[body:end]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of protobuf's, and where it ends; -1: it does not."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        byte = raw[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    return 0, -1


def picture_datum(image: np.ndarray, label: int) -> caffe_pb2.Datum:
    """The ``Datum`` of a picture, uint8 (height, width) or (height, width, channels)."""
    channels = planes(image)
    height, width = image.shape[:2]
    data = b"".join(plane.tobytes() for plane in channels)
    return caffe_pb2.Datum(channels=len(channels), height=height, width=width, data=data, label=label, encoded=False)


def encoded_datum(content: bytes, label: int) -> caffe_pb2.Datum:
    """The ``Datum`` of a picture as the bytes of its file."""
    return caffe_pb2.Datum(data=content, label=label, encoded=True)
