"""Kernels, strides and pads that a ``.caffemodel`` keeps beside its weights.

Caffe saves every layer whole, so a snapshot says which geometry its weights were trained in.  This matters where other
nets take them over, such as hypercolumns on the maps of a detector that was repadded for supervision transfer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from caffe_compat.proto.caffe_pb2 import ConvolutionParameter, LayerParameter, PoolingParameter
from caffe_compat.proto.weights import is_hdf5
from caffe_compat.proto.wire import BYTES, Scanner

__all__ = ["StoredWindow", "stored_windows", "window_of"]

Sides = tuple[int, int]
_LAYER, _NAME = 100, 1  #: field numbers of today's format
_SECTIONS: Mapping[int, tuple[str, Any]] = MappingProxyType(
    {106: ("convolution_param", ConvolutionParameter), 121: ("pooling_param", PoolingParameter)}
)


@dataclass(frozen=True)
class StoredWindow:
    """A sliding window, height before width."""

    kernel: Sides
    stride: Sides
    pad: Sides
    dilation: Sides = (1, 1)


def window_of(layer: LayerParameter) -> StoredWindow | None:
    """The window of a layer that convolves or pools height and width; None: it has none."""
    return next((_window(getattr(layer, name)) for name, _ in _SECTIONS.values() if layer.HasField(name)), None)


def stored_windows(path: str | os.PathLike[str]) -> dict[str, StoredWindow]:
    """The windows that a binary weights file in today's format keeps, by layer; others (HDF5, V1) keep none.

    A layer whose parameters are no Caffe's (forks gave field numbers other meanings) is left out.

    Raises:
        MissingFileError: no such file.
        ModelFileError: the file is malformed.
    """
    if is_hdf5(path):
        return {}
    found: dict[str, StoredWindow] = {}
    with Scanner(path, "caffemodel") as scanner:
        at = 0
        while at < scanner.size:
            number, wire, value, after = scanner.field(at, scanner.size)
            if number == _LAYER and wire == BYTES:
                name, window = _layer(scanner, value, after)
                if window is not None:
                    found[name] = window
            at = after
    return found


def _layer(scanner: Scanner, start: int, end: int) -> tuple[str, StoredWindow | None]:
    """Name and window; blobs are stepped over."""
    name, window = "", None
    at = start
    while at < end:
        number, wire, value, after = scanner.field(at, end)
        if wire == BYTES and number == _NAME:
            name = scanner.string(value, after)
        elif wire == BYTES and number in _SECTIONS:
            try:
                window = _window(_SECTIONS[number][1].FromString(scanner.content(value, after)))
            except DecodeError:
                window = None
        at = after
    return name, window


def _window(param: Any) -> StoredWindow | None:
    """Of a ConvolutionParameter or PoolingParameter; of one over other axes or over a whole map none."""
    if getattr(param, "global_pooling", False):
        return None
    kernel = _sides(param, "kernel_size", "kernel_h", "kernel_w", 0)
    stride = _sides(param, "stride", "stride_h", "stride_w", 1)
    pad = _sides(param, "pad", "pad_h", "pad_w", 0)
    dilation = _sides(param, "dilation", "", "", 1) if hasattr(param, "dilation") else (1, 1)
    if kernel is None or stride is None or pad is None or dilation is None:
        return None
    return StoredWindow(kernel, stride, pad, dilation)


def _sides(param: Any, both: str, high: str, wide: str, default: int) -> Sides | None:
    """Height and width of a field that is one number, repeated, or two fields."""
    if high and (param.HasField(high) or param.HasField(wide)):
        return int(getattr(param, high)), int(getattr(param, wide))
    value = getattr(param, both)
    if isinstance(value, int):
        return (value, value) if param.HasField(both) else (default, default)
    values = [int(one) for one in value] or [default]
    return (values[0], values[-1]) if len(values) <= 2 else None
