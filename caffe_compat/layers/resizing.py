"""Resizing as TensorFlow and ONNX name it: ResizeBilinear, ResizeNearestNeighbor; Darknet's upsampling.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``resize_bilinear_layer.cpp``,
``resize_nearest_neighbor_layer.cpp``, ``upsample_darknet_layer.cpp``.  The first two have no backward pass there; here
they have the derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.unpooling import NearestUpsample

__all__ = ["ResizeBilinear", "ResizeNearestNeighbor", "UpsampleDarknet"]

_AXES = {"NHWC": (1, 2), "NCHW": (2, 3), "NCHWD": (2, 3, 4)}
_SIDES = ("height", "width", "depth")


class _Resize(Layer):
    """What the two share: sizes, and how a pixel of the top samples.

    ``output_height`` and ``output_width`` give the size; where one is not set, the bottom's times ``scale_height`` or
    ``scale_width``, rounded down.  ``data_format`` says which axes those are; it is NHWC unless set.
    """

    homogeneous = True
    own_section: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]  #: fields of which one at most is set
    formats: ClassVar[tuple[str, ...]]

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.own_section)
        self.format = str(section.data_format)
        if self.format not in self.formats:
            raise self.error(
                f"{self.own_section}.data_format is '{self.format}', expected one of {', '.join(self.formats)}"
            )
        self.axes = _AXES[self.format]
        sides = _SIDES[: len(self.axes)]
        self.made = [section.optional(f"output_{side}") for side in sides]
        self.scales = [np.float32(section.value(f"scale_{side}")) for side in sides]
        modes = [name for name in self.modes if section.value(name)]
        if len(modes) > 1:
            raise self.error(f"{self.own_section} has {' and '.join(modes)}, expected one of them at most")
        self.mode = modes[0] if modes else ""

    def _sizes(self, shape: Shape) -> tuple[int, ...]:
        """Of the resized axes."""
        sizes = []
        for made, scale, axis in zip(self.made, self.scales, self.axes, strict=True):
            size = float(shape[axis]) * float(scale) if made is None else float(made)
            self.require(
                abs(size) < 2**31, f"{self.own_section} has a factor of {scale:g}, expected one that makes a size"
            )
            sizes.append(int(np.floor(np.float32(shape[axis]) * scale)) if made is None else int(made))
        return tuple(sizes)

    def _step(self, made: int, size: int) -> np.float32:
        """Pixels of the bottom for one of the top."""
        if self.mode == "align_corners" and made > 1:
            return np.float32(size - 1) / np.float32(made - 1)
        return np.float32(size) / np.float32(made)

    def _span(self, made: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """First and last pixel of the bottom that each of the top samples."""
        raise NotImplementedError

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The pixels on either side of where each samples."""
        if self.format != "NCHW":
            return None
        shape = tuple(bottoms[0])
        found = []
        for (first, last), made, axis in zip(spans, self._sizes(shape), self.axes, strict=True):
            low, high = self._span(made, shape[axis])
            found.append((int(low[min(max(first, 0), made - 1)]), int(high[min(max(last, 0), made - 1)])))
        return found[0], found[1]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's, with the new sizes."""
        shape = list(bottoms[0])
        rank = len(self.axes) + 2
        self.require(len(shape) == rank, f"expected {rank} axes ({self.format}), the bottom has the shape {shape}")
        self.require(
            min(shape[axis] for axis in self.axes) > 0, f"the bottom has the shape {shape}, expected some pixels"
        )
        sizes = self._sizes(tuple(shape))
        self.require(min(sizes) > 0, f"{self.own_section} asks for {list(sizes)} pixels, expected positive numbers")
        for axis, size in zip(self.axes, sizes, strict=True):
            shape[axis] = size
        self.require_memory("the top", [shape])
        return [tuple(shape)]

    def _known(self, graph: OnnxGraph, bottom: str) -> list[int] | None:
        """Sizes of the resized axes, if they are fixed."""
        shape = graph.shape(bottom)
        known = [size for size in (shape[axis] for axis in self.axes) if size is not None]
        return known if len(known) == len(self.axes) else None


@register(dialect="synopsys")
class ResizeNearestNeighbor(_Resize):
    """Every pixel is one of the bottom: that at i in / out, rounded down.

    With ``align_corners`` at i (in - 1) / (out - 1), rounded half up, with ``half_pixel_centers`` at (i + 0.5) in / out
    and with ``half_pixel_onnx`` half a pixel before that, both rounded down; all in float32.
    """

    caffe_type = "ResizeNearestNeighbor"
    own_section = "resize_nearest_neighbor_param"
    modes = ("align_corners", "half_pixel_centers", "half_pixel_onnx")
    formats = ("NHWC", "NCHW")

    def _places(self, made: int, size: int) -> np.ndarray:
        """Which pixel of ``size`` each of ``made`` is."""
        at = np.arange(made, dtype=np.float32)
        step = self._step(made, size)
        if self.mode == "align_corners":
            places = np.floor((at * step).astype(np.float64) + 0.5)
        elif self.mode == "half_pixel_onnx":
            places = np.floor((at + np.float32(0.5)) * step - np.float32(0.5))
        elif self.mode == "half_pixel_centers":
            places = np.floor((at + np.float32(0.5)) * step)
        else:
            places = np.floor(at * step)
        return places.astype(np.int64).clip(0, size - 1)

    def _span(self, made: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        places = self._places(made, size)
        return places, places

    def forward(self, bottom: Tensor) -> Tensor:
        """One selection for each axis."""
        for axis, made in zip(self.axes, self._sizes(tuple(bottom.shape)), strict=True):
            places = torch.from_numpy(self._places(made, bottom.shape[axis])).to(bottom.device)
            bottom = bottom.index_select(axis, places)
        return bottom

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Resize where pixels are repeated equally often, else Gather; open sizes only for scales of 2, 4, ..."""
        known = self._known(graph, bottoms[0])
        scales = self._repeats(known)
        if scales:
            factors = np.ones(4, np.float32)
            factors[list(self.axes)] = scales
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            graph.node("Resize", [bottoms[0], "", graph.constant(factors)], tops, mode="nearest", **how)
            return
        if known is None:
            raise self.export_error("the sizes of the bottom decide which pixels are taken, expected fixed ones")
        shape = [0] * 4
        for axis, size in zip(self.axes, known, strict=True):
            shape[axis] = size
        first, second = self.axes
        places = [self._places(made, size) for made, size in zip(self._sizes(tuple(shape)), known, strict=True)]
        rows = graph.add("Gather", [bottoms[0], graph.constant(places[0])], axis=first)
        graph.node("Gather", [rows, graph.constant(places[1])], tops, axis=second)

    def _repeats(self, known: list[int] | None) -> list[int]:
        """How often each row and column is there, if all are equally often."""
        if known is None:
            whole = self.made == [None, None] and not self.mode
            powers = [int(scale) for scale in self.scales if scale >= 1 and np.frexp(scale)[0] == 0.5]
            return powers if whole and len(powers) == 2 else []
        shape = [0] * 4
        for axis, size in zip(self.axes, known, strict=True):
            shape[axis] = size
        repeats = []
        for made, size in zip(self._sizes(tuple(shape)), known, strict=True):
            if made % size or (self._places(made, size) != np.arange(made) // (made // size)).any():
                return []
            repeats.append(made // size)
        return repeats


@register(dialect="synopsys")
class ResizeBilinear(_Resize):
    """Linear interpolation along two axes, or three (NCHWD): at i in / out, what lies outside is the border.

    With ``align_corners`` at i (in - 1) / (out - 1), with ``half_pixel_centers`` and ``pytorch_half_pixel`` at
    (i + 0.5) in / out - 0.5, the latter at the first pixel if only one is made.  Results of integer arithmetic
    (``output_scale``, ``saturate``) are not made.
    """

    caffe_type = "ResizeBilinear"
    own_section = "resize_bilinear_param"
    modes = ("align_corners", "half_pixel_centers", "pytorch_half_pixel")
    formats = ("NHWC", "NCHW", "NCHWD")
    ONNX: ClassVar[dict[str, str]] = {
        "": "asymmetric",
        "align_corners": "align_corners",
        "half_pixel_centers": "half_pixel",
        "pytorch_half_pixel": "pytorch_half_pixel",
    }

    def _between(self, made: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pixels on either side of where each samples, and how far from the first."""
        at = np.arange(made, dtype=np.float32)
        step = self._step(made, size)
        if self.mode in ("", "align_corners"):
            places = at * step
        elif self.mode == "pytorch_half_pixel" and made == 1:
            places = np.array([-0.5], np.float32)
        else:
            places = (at + np.float32(0.5)) * step - np.float32(0.5)
        low, high = np.floor(places), np.ceil(places)
        ends = (low.astype(np.int64).clip(0, size - 1), high.astype(np.int64).clip(0, size - 1))
        return (*ends, places - low)

    def _span(self, made: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        return self._between(made, size)[:2]

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch interpolation, unless torch has none of the kind."""
        sizes = self._sizes(tuple(bottom.shape))
        if not bottom.numel():
            return bottom.new_zeros(self.top_shapes([tuple(bottom.shape)])[0])
        if self.mode and (self.mode != "pytorch_half_pixel" or min(sizes) > 1):
            channels_last = self.format == "NHWC"
            image = bottom.permute(0, 3, 1, 2) if channels_last else bottom
            mode = "trilinear" if len(sizes) == 3 else "bilinear"
            top = F.interpolate(image, sizes, mode=mode, align_corners=self.mode == "align_corners")
            return top.permute(0, 2, 3, 1) if channels_last else top
        for axis, made in reversed(list(zip(self.axes, sizes, strict=True))):
            found = self._between(made, bottom.shape[axis])
            low, high, share = (torch.from_numpy(value).to(bottom.device) for value in found)
            first = bottom.index_select(axis, low)
            share = share.to(bottom.dtype).view(-1, *[1] * (bottom.dim() - axis - 1))
            bottom = first + (bottom.index_select(axis, high) - first) * share
        return bottom

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Resize, of the channels second; factors need fixed sizes."""
        known = self._known(graph, bottoms[0])
        if known is None and None in self.made:
            raise self.export_error("the size of the top depends on that of the bottom, expected a fixed one")
        shape = [0] * (len(self.axes) + 2)
        for axis, size in zip(self.axes, known or [0] * len(self.axes), strict=True):
            shape[axis] = size
        channels_last = self.format == "NHWC"
        x = graph.add("Transpose", bottoms, perm=[0, 3, 1, 2]) if channels_last else bottoms[0]
        kept = graph.add("Slice", [graph.add("Shape", [x]), graph.constant([0]), graph.constant([2])])
        sizes = graph.add("Concat", [kept, graph.constant(list(self._sizes(tuple(shape))))], axis=0)
        how = {"mode": "linear", "coordinate_transformation_mode": self.ONNX[self.mode]}
        if channels_last:
            graph.node("Transpose", [graph.add("Resize", [x, "", "", sizes], **how)], tops, perm=[0, 2, 3, 1])
        else:
            graph.node("Resize", [x, "", "", sizes], tops, **how)


@register(dialect="synopsys")
class UpsampleDarknet(NearestUpsample):
    """Every pixel becomes ``stride`` x ``stride`` pixels."""

    caffe_type = "UpsampleDarknet"
    factor = ("upsample_darknet_param", "stride")
