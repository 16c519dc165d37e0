"""Mean pictures in Caffe's ``.binaryproto`` files."""

from __future__ import annotations

import math
import os

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import write_file
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.read import read_message_binary
from caffe_compat.proto.weights import read_blob_proto

__all__ = ["read_mean", "read_volume_mean", "write_mean"]


def read_mean(path: str) -> np.ndarray:
    """The mean picture of a ``.binaryproto``, float32 (channels, height, width).

    A blob of fewer than four axes counts as if it had ones at the end, as in Caffe: a mean without the leading axis
    fits no picture.

    Raises:
        MissingFileError: no such file.
        ModelFileError: it holds no blob, or one of a shape that its numbers do not have, or NaN or infinity.
    """
    blob = read_message_binary(path, caffe_pb2.BlobProto)
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        shape: tuple[int, ...] = (blob.num, blob.channels, blob.height, blob.width)
    else:
        shape = tuple(blob.shape.dim)
    values = np.array(blob.double_data or blob.data, np.float32)
    if len(shape) > 4 or any(size < 1 for size in shape) or values.size != math.prod(shape) or values.size == 0:
        raise ModelFileError(f"{path}: a mean blob of shape {list(shape)} with {values.size} values cannot be used")
    if not np.isfinite(values).all():
        raise ModelFileError(f"{path}: {np.count_nonzero(~np.isfinite(values))} values of the mean are NaN or infinite")
    image: np.ndarray = values.reshape(shape + (1,) * (4 - len(shape)))[0]
    return image


def read_volume_mean(path: str) -> np.ndarray:
    """The mean of clips in a ``.binaryproto``, float32 (channels, length, height, width); of C3D 1.0 or later.

    Raises:
        MissingFileError: no such file.
        ModelFileError: it holds no blob of five axes, the first of size 1, or NaN or infinity.
    """
    mean = read_blob_proto(path)
    if mean.ndim != 5 or len(mean) != 1 or not mean.size or not np.isfinite(mean).all():
        raise ModelFileError(
            f"{path}: a mean blob of shape {list(mean.shape)} cannot be used, expected finite numbers of shape "
            "1 x channels x length x height x width"
        )
    found: np.ndarray = mean[0]
    return found


def write_mean(path: str | os.PathLike[str], mean: np.ndarray) -> None:
    """Write a mean picture (channels, height, width) as a ``BlobProto`` with legacy dims, as Caffe's tool does.

    Raises:
        WriteError: it cannot be written.
    """
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
    blob.data.extend(np.ravel(mean).tolist())
    write_file(path, blob.SerializeToString())
