"""Flow in the files of others: Middlebury's ``.flo``, and the x and y pictures of two-stream networks."""

from __future__ import annotations

import os
import struct

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing, write_file
from caffe_compat.media.pictures import read_picture
from caffe_compat.media.sizes import check_size

__all__ = ["TWO_STREAM_MOST", "UNKNOWN", "read_flo", "read_two_stream", "write_flo"]

PathLike = str | os.PathLike[str]

TAG = struct.pack("<f", 202021.25)
"""``PIEH``: the first four bytes of a .flo file."""
UNKNOWN = 1e9
"""Middlebury's ``UNKNOWN_FLOW_THRESH``: larger numbers, and NaN, stand for flow that is not known."""
TWO_STREAM_MOST = 20.0
"""Pixels a frame that 0 and 255 stand for in pictures of two-stream networks (``dense_flow -b 20``)."""


def read_flo(path: PathLike) -> np.ndarray:
    """A ``.flo`` file: float32 [H, W, 2], pixels to the right and downwards; NaN where the flow is not known.

    Raises:
        MissingFileError: no such file.
        DataError: another tag, a size that makes no sense, or more or fewer bytes than the size needs.
    """
    name = os.fspath(path)
    with open_existing(path, "flow") as stream:
        head = stream.read(12)
        if len(head) < 12 or head[:4] != TAG:
            raise DataError(f"{name}: is no .flo file, it begins with {head[:4]!r}, expected {TAG!r}")
        width, height = struct.unpack("<ii", head[4:])
        if width < 1 or height < 1:
            raise DataError(f"{name}: says that it is {width} x {height} pixels")
        check_size(height, width, name)
        wanted = 8 * width * height
        data = stream.read(wanted + 1)
    if len(data) != wanted:
        has = f"{len(data)} bytes" if len(data) < wanted else "more"
        raise DataError(f"{name}: has {has} after its head, {width} x {height} pixels are {wanted}")
    flow = np.frombuffer(data, "<f4").reshape(height, width, 2).astype(np.float32)
    flow[~(np.abs(flow) <= UNKNOWN).all(-1)] = np.nan
    return flow


def write_flo(path: PathLike, flow: np.ndarray) -> None:
    """Write flow [H, W, 2] as a ``.flo`` file; NaN becomes 1e10, Middlebury's ``UNKNOWN_FLOW``.

    Raises:
        DataError: another shape, or infinite numbers.
        WriteError: it cannot be written.
    """
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise DataError(f"{os.fspath(path)}: flow of shape {list(flow.shape)}, expected [H, W, 2]")
    if np.isinf(flow).any():
        raise DataError(f"{os.fspath(path)}: flow is infinite at {int(np.isinf(flow).any(-1).sum())} pixels")
    values = np.nan_to_num(flow.astype("<f4"), nan=10 * UNKNOWN)
    write_file(path, TAG + struct.pack("<ii", flow.shape[1], flow.shape[0]), values.tobytes())


def read_two_stream(x: PathLike, y: PathLike, most: float = TWO_STREAM_MOST) -> np.ndarray:
    """The flow in a pair of two-stream pictures: float32 [H, W, 2], pixels to the right and downwards.

    They keep -``most`` to ``most`` pixels as 0 to 255, so steps are 0.16 pixel, nothing is exactly 0 (127 and 128 are
    -0.08 and 0.08), and 0 and 255 stand for all that is longer too.  That scale is not this package's:
    :func:`caffe_compat.flow.encode` makes its pictures of what is read here.

    Args:
        x: picture of the flow to the right, grey (``x_00001.jpg``, ``flow_x_00001.jpg``).
        y: picture of the flow downwards.
        most: pixels a frame that 255 stands for.

    Raises:
        MissingFileError: no such file.
        DataError: no pictures, of different sizes, or ``most`` is not positive.
    """
    if not 0 < most < UNKNOWN:
        raise DataError(f"two-stream flow of up to {most} pixels: expected a positive number")
    pictures = [read_picture(path, "gray") for path in (x, y)]
    if pictures[0].shape != pictures[1].shape:
        sizes = [f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures]
        raise DataError(f"{os.fspath(x)} is {sizes[0]}, {os.fspath(y)} is {sizes[1]}: expected one size")
    return ((np.stack(pictures, -1) * (2 * most / 255)) - most).astype(np.float32)
