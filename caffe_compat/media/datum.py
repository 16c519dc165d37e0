"""``Datum`` messages: the records of Caffe's databases of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.errors import DataError
from caffe_compat.media.pictures import Channels, decode, planes
from caffe_compat.proto import caffe_pb2

__all__ = ["datum_channels", "encoded_datum", "picture_datum"]


def datum_channels(
    raw: bytes, name: str, force_color: bool = False, force_gray: bool = False
) -> tuple[Sequence[np.ndarray] | np.ndarray, int]:
    """The planes (height, width) of a serialized ``Datum``, and its label.

    ``data`` holds uint8, ``float_data`` float32 values; an ``encoded`` datum is a compressed image, decoded as it is or
    to three channels or one.  The force flags mean nothing to a datum that is not encoded.

    Raises:
        DataError: the datum is malformed.
    """
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(raw)
    except DecodeError as error:
        raise DataError(f"{name}: is no Datum: {error}") from error
    if datum.encoded:
        if force_color and force_gray:
            raise DataError(f"{name}: transform_param has force_color and force_gray, expected one of them")
        wanted: Channels = "color" if force_color else "gray" if force_gray else "unchanged"
        return planes(decode(datum.data, name, wanted)), datum.label
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        raise DataError(f"{name}: a Datum of {values.size} values cannot have the shape {list(shape)}")
    return values.reshape(shape), datum.label


def picture_datum(image: np.ndarray, label: int) -> caffe_pb2.Datum:
    """The ``Datum`` of a picture, uint8 (height, width) or (height, width, channels)."""
    channels = planes(image)
    height, width = image.shape[:2]
    data = b"".join(plane.tobytes() for plane in channels)
    return caffe_pb2.Datum(channels=len(channels), height=height, width=width, data=data, label=label, encoded=False)


def encoded_datum(content: bytes, label: int) -> caffe_pb2.Datum:
    """The ``Datum`` of a picture as the bytes of its file."""
    return caffe_pb2.Datum(data=content, label=label, encoded=True)
