"""How coordinates of one top map to those of another, and Crop layers made from that (for ``net_spec`` tops).

A map is (axis, scale, shift): coordinate ``x`` of the top, along the spatial axes that follow ``axis``, lies at
``scale * x + shift`` in the other.  Source: BVLC Caffe 1.0, ``python/caffe/coord_map.py`` (behaviour only).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe_compat.pycaffe.net_spec import Top, layers

__all__ = [
    "AxisMismatchException",
    "UndefinedMapException",
    "compose",
    "coord_map",
    "coord_map_from_to",
    "crop",
    "crop_params",
    "inverse",
]

CoordMap = tuple[Any, Any, Any]

PASS_THROUGH = (
    *("AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN", "Power"),
    *("ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"),
)
WINDOWS = ("Convolution", "Pooling", "Im2col")


class UndefinedMapException(Exception):
    """A layer whose coordinates do not map."""


class AxisMismatchException(Exception):
    """Two maps along different axes."""


def _settings(fn: Any) -> dict[str, Any]:
    for name in ("convolution_param", "pooling_param", "crop_param"):
        if name in fn.params:
            return dict(fn.params[name])
    return dict(fn.params)


def conv_params(fn: Any) -> tuple[Any, Any, Any, Any]:
    """axis, stride, kernel size (with dilation) and padding of a layer with windows; arrays where they differ."""
    values = _settings(fn)
    if any(name in values for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w")):
        raise UndefinedMapException(f"{fn.type_name}: give kernel_size, stride and pad as lists, not by _h and _w")
    kernel = np.array(values["kernel_size"])
    dilation = np.array(values.get("dilation", 1))
    extent = (kernel - 1) * dilation + 1
    return values.get("axis", 1), np.array(values.get("stride", 1)), extent, np.array(values.get("pad", 0))


def crop_params(fn: Any) -> tuple[Any, Any]:
    """axis and offset of a Crop layer."""
    values = _settings(fn)
    return values.get("axis", 2), np.array(values.get("offset", 0))


def coord_map(fn: Any) -> CoordMap:
    """The map from a layer's top to its (first) bottom.

    Raises:
        UndefinedMapException: there is none.
    """
    if fn.type_name in WINDOWS:
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    raise UndefinedMapException(fn.type_name)


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """First ``next_map``, then ``base_map``.

    Raises:
        AxisMismatchException: they are along different axes.
    """
    (first, scale1, shift1), (second, scale2, shift2) = base_map, next_map
    if first is not None and second is not None and first != second:
        raise AxisMismatchException(f"axes {first} and {second}")
    return (second if first is None else first), scale1 * scale2, scale1 * shift2 + shift1


def inverse(coord_map: CoordMap) -> CoordMap:
    """The map in the other direction."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _ancestors(top: Top) -> dict[Top, CoordMap]:
    """Maps to everything that a top is computed from, as far as maps are defined."""
    maps: dict[Top, CoordMap] = {top: (None, 1, 0)}
    waiting = [top]
    while waiting:
        current = waiting.pop(0)
        try:
            step = coord_map(current.fn)
            bottoms = current.fn.inputs[:1] if current.fn.type_name == "Crop" else current.fn.inputs
            for bottom in bottoms:
                if bottom not in maps:
                    maps[bottom] = compose(maps[current], step)
                    waiting.append(bottom)
        except UndefinedMapException:
            continue
    return maps


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """The map between two tops, by way of something that both are computed from.

    Raises:
        RuntimeError: they are not connected by layers that have maps.
    """
    mine, theirs = _ancestors(top_from), _ancestors(top_to)
    for common, there in theirs.items():
        if common in mine:
            return compose(there, inverse(mine[common]))
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts ``top_from`` to where ``top_to`` lies in it.

    Raises:
        AssertionError: their scales differ, or the offset is negative or no whole number (pycaffe's own error here).
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    for met, reason in (
        (np.all(np.asarray(scale) == 1), f"scale mismatch on crop (scale = {scale})"),
        (np.all(np.asarray(shift) <= 0), f"cannot crop negative offset (shift = {shift})"),
        (np.all(np.round(shift) == shift), f"cannot crop noninteger offset (shift = {shift})"),
    ):
        if not met:
            raise AssertionError(reason)
    offset = (-np.round(shift)).astype(int).tolist()
    crop: Top = layers.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
    return crop
