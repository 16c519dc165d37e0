"""What nets converted from TensorFlow use: paddings by side, Squeeze, HardSwish, Add, Mul, a ReLU up to 6.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``base_conv_layer.cpp``, ``squeeze_layer.cpp``,
``hard_swish_layer.cpp``, ``add_layer.cpp``, ``mul_layer.cpp``, ``relu_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.compact import ReLU6
from caffe_compat.layers.convolution import SIDES, Convolution
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import NOTHING, Spans, window_reach
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Share

__all__ = ["Add", "CappedReLU", "HardSwish", "Mul", "SidedConvolution", "Squeeze"]


def _sided(params: Params) -> bool:
    section = params.section("convolution_param")
    return any(section.value(name) for name in SIDES)


@register(when=_sided, dialect="synopsys", marked=True)
class SidedConvolution(Convolution):
    """A convolution over an image with a padding for each side: ``pad_t``, ``pad_b``, ``pad_l``, ``pad_r``.

    Two spatial axes; ``pad``, ``pad_h`` and ``pad_w`` exclude them.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.top, self.bottom, self.left, self.right = (int(self.section.value(name)) for name in SIDES)
        if self.spatial != 2:
            raise self.error(f"convolution_param.pad_t, ... are for 2 spatial axes, this layer has {self.spatial}")
        if any(self.section.has(name) for name in ("pad", "pad_h", "pad_w")):
            raise self.error("convolution_param has pad and pad_t, pad_b, pad_l or pad_r, expected one form")
        if min(self.top, self.bottom, self.left, self.right) < 0:
            raise self.error("convolution_param.pad_t, pad_b, pad_l or pad_r is negative, expected 0 or more")

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """A window of the bottom of the same number."""
        if bottom != top:
            return NOTHING
        return window_reach(spans, self.window.extent, self.window.stride, (self.top, self.left))

    def _wide(self, spatial: Sequence[int]) -> Shape:
        return spatial[0] + self.top + self.bottom, spatial[1] + self.left + self.right

    def sizes(self, spatial: Sequence[int]) -> Shape:
        """Of the padded image."""
        return self.slid(self._wide(spatial))

    def slide(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Pad, then convolve without padding."""
        return super().slide(F.pad(x, (self.left, self.right, self.top, self.bottom)), weight, bias)

    def onnx_pads(self, graph: OnnxGraph, bottom: str) -> list[int]:
        """Those of the sides, and what the windows read past them."""
        known = [n for n in graph.shape(bottom)[self.axis + 1 :] if n is not None]
        extra: Sequence[int] = (0, 0)
        if len(known) == self.spatial:
            extra = self.missing(self._wide(known), self.sizes(known))
        return [self.top, self.left, self.bottom + extra[0], self.right + extra[1]]


@register(when=lambda params: bool(params.section("relu_param").relu6), dialect="synopsys", marked=True)
class CappedReLU(ReLU6):
    """ReLU with ``relu6``: :class:`~caffe_compat.layers.compact.ReLU6` under another name."""

    caffe_type = "ReLU"
    own_section = "relu_param"


@register(dialect="synopsys")
class Squeeze(Layer):
    """The bottom without some axes of size 1: those that ``axis`` names, else all."""

    caffe_type = "Squeeze"
    precision = "any"
    homogeneous = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("squeeze_param")
        self.given = [int(axis) for axis in self.section.value("axis")]

    def _axes(self, shape: Shape) -> list[int]:
        axes = sorted({self.section.canonical_axis(axis, len(shape)) for axis in self.given})
        for axis in axes:
            self.require(shape[axis] == 1, f"axis {axis} of the bottom's {list(shape)} is not of size 1")
        return axes if self.given else [axis for axis, size in enumerate(shape) if size == 1]

    def shared_memory(self) -> tuple[Share, ...]:
        """Top and bottom; the backward pass gives the bottom the diff of the top."""
        return (Share(0, 0, "backward"),)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The other axes."""
        gone = self._axes(tuple(bottoms[0]))
        return [tuple(size for axis, size in enumerate(bottoms[0]) if axis not in gone)]

    def forward(self, bottom: Tensor) -> Tensor:
        """A view."""
        return bottom.reshape(self.top_shapes([tuple(bottom.shape)])[0])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Squeeze."""
        shape = graph.shape(bottoms[0])
        if self.given:
            axes = sorted({self.section.canonical_axis(axis, len(shape)) for axis in self.given})
        elif None in shape:
            raise self.export_error(f"the bottom has the shape {shape}, expected known sizes: all of 1 go")
        else:
            axes = [axis for axis, size in enumerate(shape) if size == 1]
        if axes:
            graph.node("Squeeze", [bottoms[0], graph.constant(axes)], tops)
        else:
            graph.node("Identity", bottoms, tops)


@register(dialect="synopsys")
class HardSwish(NeuronLayer):
    """x min(max(x + 3, 0), 6) / 6."""

    caffe_type = "HardSwish"
    precision = "any"
    survives_in_place = False

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return bottom * (bottom + 3).clamp(0, 6) / 6

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """HardSwish."""
        graph.node("HardSwish", bottoms, tops)


class _Broadcast(Layer):
    """Two operands of which axes of size 1, or missing, repeat."""

    def other_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """Of the second operand."""
        return tuple(bottoms[1])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The larger size of each axis."""
        one, other = tuple(bottoms[0]), self.other_shape(bottoms)
        rank = max(len(one), len(other))
        pairs = list(zip(*((1,) * (rank - len(shape)) + shape for shape in (one, other)), strict=True))
        self.require(
            all(a == b or 1 in (a, b) for a, b in pairs),
            f"shapes {list(one)} and {list(other)}, expected equal sizes or 1, counted from the last axis",
        )
        return [tuple(b if a == 1 else a for a, b in pairs)]


@register(dialect="synopsys")
class Add(_Broadcast):
    """The sum of two bottoms; axes of size 1, or missing, repeat.

    The fork takes a blob for a second bottom that is not there, but makes none: it must come from a weights file.
    """

    caffe_type = "Add"
    bottom_count = (2, 2)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Add."""
        return one + other

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Add."""
        graph.node("Add", bottoms, tops)


@register(dialect="synopsys")
class Mul(_Broadcast):
    """The product of two bottoms, or of one and a blob of ``mul_shape``; axes of size 1, or missing, repeat."""

    caffe_type = "Mul"
    bottom_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        shape = tuple(int(size) for size in params.section("mul_param").mul_shape)
        if len(bottoms) == 1:
            self.add_blob(shape)

    @property
    def has_blobs(self) -> bool:  # type: ignore[override]
        """With one bottom."""
        return len(self.params.bottoms) == 1

    def backward_reads(self) -> Reads:
        """All bottoms."""
        return Reads(bottoms=tuple(range(len(self.params.bottoms))))

    def other_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """Of the second bottom or of the blob."""
        return tuple(bottoms[1]) if len(bottoms) == 2 else self.blob_shapes[0]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Multiply."""
        return bottoms[0] * (bottoms[1] if len(bottoms) == 2 else self.blob(0))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul."""
        other = [] if len(bottoms) == 2 else [graph.parameter(self, 0)]
        graph.node("Mul", [*bottoms, *other], tops)
