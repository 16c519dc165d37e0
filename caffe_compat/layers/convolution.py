"""Convolution, Deconvolution: a window that slides over any number of spatial axes.

torch convolves over one to three axes.  No axis is treated as one axis of size 1; four and more go through
:mod:`caffe_compat.layers.sliding`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import ConvWindow, Params, Section
from caffe_compat.layers.reach import NOTHING, Spans, window_reach
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads
from caffe_compat.layers.sliding import correlate, correlate_adjoint, first
from caffe_compat.layers.unfolding import convolve, unfolds

__all__ = ["SIDES", "Convolution", "Deconvolution", "Learned", "Windowed"]

SIDES = ("pad_t", "pad_b", "pad_l", "pad_r")
"""Paddings by side, of synopsys-caffe; a convolution of another meaning reads them where they are not 0."""

LONG = 256
"""From here on strides are looked at: no trained net has such."""

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


class Windowed(Layer):
    """Reads ``convolution_param``: the channel axis, and a window over the axes after it.

    Axes before the channel axis are all batch.
    """

    own_section: ClassVar[str] = "convolution_param"

    bottom_count = (1, UNLIMITED)
    top_count = (1, UNLIMITED)
    equal_counts = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section: Section = params.section(self.own_section)
        self.rank = len(bottoms[0])
        self.axis, self.window = self.read_window()
        self.spatial = self.rank - self.axis - 1
        self.channels = bottoms[0][self.axis]

    def read_window(self) -> tuple[int, ConvWindow]:
        """The channel axis and the window, as the section has them."""
        axis = self.section.axis("axis", self.rank)
        zeros = (name for name in SIDES if not getattr(self.section.message, name))
        self.section.ignore("engine", "force_nd_im2col", *zeros)
        if axis == self.rank - 1 and not self.section.has("kernel_size"):
            self.section.ignore("stride", "pad", "dilation")
            return axis, ConvWindow((), (), (), ())
        return axis, self.section.window(self.rank - axis - 1)

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Caffe's checks at Reshape: number of axes and channels stay, all bottoms have one shape."""
        first = bottoms[0]
        self.require(
            len(first) == self.rank, f"bottom has shape {list(first)}, expected {self.rank} axes as when it was built"
        )
        self.require(
            first[self.axis] == self.channels,
            f"bottom has shape {list(first)}, expected {self.channels} channels on axis {self.axis}",
        )
        for other in bottoms[1:]:
            self.require(other == first, f"bottoms have shapes {list(first)} and {list(other)}, expected equal ones")

    def slid(self, sizes: Sequence[int]) -> Shape:
        """Output sizes: (size + 2 pad - extent) / stride + 1, the division truncated toward zero as in C++.

        Truncation lets a window that is larger than the padded image by less than the stride have one position;
        what is missing reads as zero.
        """
        window = self.window
        rests = [n + 2 * p - e for n, p, e in zip(sizes, window.pad, window.extent, strict=True)]
        result = tuple((r // s if r >= 0 else -(-r // s)) + 1 for r, s in zip(rests, window.stride, strict=True))
        self.require(
            min(result, default=0) >= 0,
            f"the kernel (extent {list(window.extent)}) is larger than the padded image "
            f"({[n + 2 * p for n, p in zip(sizes, window.pad, strict=True)]})",
        )
        return result

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """A window of the bottom of the same number."""
        if self.spatial != 2:
            return None
        window = self.window
        return window_reach(spans, window.extent, window.stride, window.pad) if bottom == top else NOTHING

    def missing(self, sizes: Sequence[int], outs: Sequence[int]) -> Shape:
        """How many zeros past the padding the windows read on each axis (0 but for the truncated division)."""
        w = self.window
        reads = [max(o - 1, 0) * s + e for o, s, e in zip(outs, w.stride, w.extent, strict=True)]
        return tuple(max(0, r - n - 2 * p) for r, n, p in zip(reads, sizes, w.pad, strict=True))

    def batched(self, bottom: Tensor) -> Tensor:
        """The bottom with all axes before the channels merged into one."""
        if self.axis == 1:
            return bottom
        return bottom.reshape(count(bottom.shape, 0, self.axis), *bottom.shape[self.axis :])

    def unbatched(self, top: Tensor, bottom: Tensor) -> Tensor:
        """The top with the axes before the channels as the bottom has them."""
        return top if self.axis == 1 else top.reshape(*bottom.shape[: self.axis], *top.shape[1:])

    def onnx_batched(self, graph: OnnxGraph, bottom: str) -> str:
        """:meth:`batched` in ONNX; without spatial axes one of size 1 is added."""
        if self.axis != 1:
            shape = graph.shape(bottom)[self.axis :]
            sizes = [n for n in shape if n is not None]
            if len(sizes) < len(shape):
                raise self.export_error(f"axis {self.axis} needs static sizes after that axis, bottom has {shape}")
            bottom = graph.add("Reshape", [bottom, graph.constant([-1, *sizes])])
        if self.spatial == 0:
            bottom = graph.add("Unsqueeze", [bottom, graph.constant([2])])
        return bottom

    def onnx_unbatched(self, graph: OnnxGraph, value: str, top: Shape, bottom: str, name: str) -> None:
        """Write blob ``name``: what :meth:`onnx_batched` merged or added is undone.

        Args:
            top: sizes of the top from the channel axis on.
        """
        if self.axis == 1:
            if self.spatial == 0:
                graph.node("Squeeze", [value, graph.constant([2])], [name])
            return
        lead = graph.shape(bottom)[: self.axis]
        if sum(n is None for n in lead) > 1:
            raise self.export_error(f"axis {self.axis} with more than one dynamic axis before it: {lead}")
        target = [-1 if n is None else n for n in lead] + list(top)
        graph.node("Reshape", [value, graph.constant(target)], [name])

    def onnx_window(self) -> dict[str, list[int]]:
        """Attributes common to Conv and ConvTranspose."""
        w = self.window
        if self.spatial == 0:
            return {"kernel_shape": [1], "strides": [1], "dilations": [1]}
        return {"kernel_shape": list(w.kernel), "strides": list(w.stride), "dilations": list(w.dilation)}

    def onnx_pads(self, graph: OnnxGraph, bottom: str) -> list[int]:
        """Begin and end pads of a convolution; sizes known at run time only are taken to fit the kernel."""
        if self.spatial == 0:
            return [0, 0]
        sizes = graph.shape(bottom)[self.axis + 1 :]
        known = [n for n in sizes if n is not None]
        extra: Sequence[int] = [0] * self.spatial
        if len(known) == len(sizes):
            extra = self.missing(known, self.slid(known))
        return [*self.window.pad, *(p + e for p, e in zip(self.window.pad, extra, strict=True))]


class Learned(Windowed):
    """What Convolution and Deconvolution share: weights, bias, groups."""

    affine = True
    precision = "half"
    has_blobs = True
    filler_section = "convolution_param"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = self.section
        self.outputs, self.group = self.counts()
        if self.outputs < 1:
            raise self.error(f"{section.field}.num_output is {self.outputs}, expected a positive number")
        if self.group < 1 or self.channels % self.group or self.outputs % self.group:
            raise self.error(
                f"{section.field}.group is {self.group}, expected a divisor of the {self.channels} channels and of "
                f"num_output {self.outputs}"
            )
        self.add_blob((*self.filters(), *self.window.kernel), section.filler("weight_filler"))
        self.bias_term = bool(section.bias_term)
        if self.bias_term:
            self.add_blob((self.outputs,), section.filler("bias_filler"))
        else:
            section.ignore("bias_filler")

    def counts(self) -> tuple[int, int]:
        """Channels of the top, and groups."""
        return int(self.section.num_output), int(self.section.group)

    def backward_reads(self) -> Reads:
        """The bottoms, for the gradient of the weights."""
        return Reads(tuple(range(len(self.params.bottoms))))

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def filters(self) -> tuple[int, int]:
        """The first two axes of the weights."""
        raise NotImplementedError

    def sizes(self, spatial: Sequence[int]) -> Shape:
        """Spatial sizes of the top."""
        raise NotImplementedError

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The same shape for every bottom; spatial sizes may change between calls, channels may not."""
        self.check_bottoms(bottoms)
        lead, spatial = bottoms[0][: self.axis], bottoms[0][self.axis + 1 :]
        return [(*lead, self.outputs, *self.sizes(spatial))] * len(bottoms)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The same weights for every bottom."""
        weight, bias = self.blob(0), self.blob(1) if self.bias_term else None
        slide = self.slide if all(bottoms[0].shape[self.axis + 1 :]) else self.blank
        tops = tuple(self.unbatched(slide(self.batched(b), weight, bias), b) for b in bottoms)
        return tops[0] if len(tops) == 1 else tops

    def blank(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The top of a bottom without pixels: the bias wherever there is padding to slide over."""
        top = x.new_zeros(x.shape[0], self.outputs, *self.sizes(x.shape[2:]))
        return top if bias is None else top + bias.view(-1, *[1] * self.spatial)

    def slide(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute one top from a bottom of shape [batch, channels, spatial...]."""
        raise NotImplementedError

    def write(self, graph: OnnxGraph, op: str, bottom: str, top: str, pads: list[int]) -> None:
        """One Conv or ConvTranspose node, with reshapes around it where the axis asks for them."""
        weight = graph.parameter(self, 0)
        if self.spatial == 0:
            weight = graph.add("Unsqueeze", [weight, graph.constant([2])])
        inputs = [self.onnx_batched(graph, bottom), weight] + ([graph.parameter(self, 1)] if self.bias_term else [])
        attributes = {"group": self.group, "pads": pads, **self.onnx_window()}
        if self.axis == 1 and self.spatial:
            graph.node(op, inputs, [top], **attributes)
            return
        value = graph.add(op, inputs, **attributes)
        spatial = [n for n in graph.shape(bottom)[self.axis + 1 :] if n is not None]  # all static if axis != 1
        sizes = self.sizes(spatial) if len(spatial) == self.spatial else ()
        self.onnx_unbatched(graph, value, (self.outputs, *sizes), bottom, top)


def _strides(window: ConvWindow, sizes: Sequence[int]) -> Shape:
    """Strides that mean the same, none longer than the padded image: on such torch's backward pass crashes."""
    if max(window.stride) < LONG:
        return window.stride
    return tuple(max(1, min(s, n + 2 * p)) for s, n, p in zip(window.stride, sizes, window.pad, strict=True))


@register
class Convolution(Learned):
    """Cross-correlation with zero padding.

    Weights [num_output, channels / group, kernel...], bias [num_output]; both start at 0 without a filler.
    """

    caffe_type = "Convolution"

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One filter per number of the tops."""
        return sum(count(top) for top in tops) * count(self.blob_shapes[0], 1)

    def filters(self) -> tuple[int, int]:
        """[num_output, channels / group]."""
        return self.outputs, self.channels // self.group

    def sizes(self, spatial: Sequence[int]) -> Shape:
        """See :meth:`slid`."""
        return self.slid(spatial)

    def slide(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One torch convolution, unless the image is too small for the kernel or has no or over three axes."""
        w = self.window
        if self.spatial == 0:
            return F.conv1d(x.unsqueeze(2), weight.unsqueeze(2), bias, groups=self.group).squeeze(2)
        outs = self.slid(x.shape[2:])
        extra = self.missing(x.shape[2:], outs)
        if any(extra):
            x = F.pad(x, [n for end in reversed(extra) for n in (0, end)])
        if unfolds(x) and 0 not in outs:
            top = convolve(x, weight, bias, w, self.group)
        elif self.spatial in _CONV:
            stride = _strides(w, x.shape[2:])
            top = _CONV[self.spatial](x, weight, bias, stride, w.pad, w.dilation, self.group)
        else:
            top = correlate(x, weight, bias, w, self.group)
        return first(top, outs)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Conv."""
        for bottom, top in zip(bottoms, tops, strict=True):
            self.write(graph, "Conv", bottom, top, self.onnx_pads(graph, bottom))


@register
class Deconvolution(Learned):
    """The adjoint of Convolution: sizes stride (n - 1) + extent - 2 pad.

    Weights [channels, num_output / group, kernel...] as in torch's transposed convolution.
    """

    caffe_type = "Deconvolution"

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One filter per number of the bottoms."""
        return sum(count(bottom) for bottom in bottoms) * count(self.blob_shapes[0], 1)

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """All whose windows cover a pixel of the top: stride i - pad <= o < stride i - pad + extent."""
        if self.spatial != 2:
            return None
        window = self.window
        rows, columns = (
            (-((extent - 1 - pad - first) // stride), (last + pad) // stride)
            for (first, last), extent, stride, pad in zip(spans, window.extent, window.stride, window.pad, strict=True)
        )
        return (rows, columns) if bottom == top else NOTHING

    def filters(self) -> tuple[int, int]:
        """[channels, num_output / group]."""
        return self.channels, self.outputs // self.group

    def sizes(self, spatial: Sequence[int]) -> Shape:
        """stride (n - 1) + extent - 2 pad."""
        w = self.window
        result = tuple(s * (n - 1) + e - 2 * p for n, s, e, p in zip(spatial, w.stride, w.extent, w.pad, strict=True))
        self.require(min(result, default=0) >= 0, f"the top would have spatial sizes {list(result)}")
        return result

    def slide(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One torch transposed convolution, unless the top is empty or there are no or over three axes."""
        w = self.window
        if self.spatial == 0:
            return F.conv_transpose1d(x.unsqueeze(2), weight.unsqueeze(2), bias, groups=self.group).squeeze(2)
        outs = self.sizes(x.shape[2:])
        if 0 in outs:
            return x.new_zeros(x.shape[0], self.outputs, *outs)
        if unfolds(x):
            return convolve(x, weight, bias, w, self.group, outs)
        if self.spatial in _TRANSPOSED:
            zeros = (0,) * self.spatial
            return _TRANSPOSED[self.spatial](x, weight, bias, w.stride, w.pad, zeros, self.group, w.dilation)
        return correlate_adjoint(x, weight, bias, w, self.group)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ConvTranspose."""
        for bottom, top in zip(bottoms, tops, strict=True):
            self.write(graph, "ConvTranspose", bottom, top, [*self.window.pad] * 2 or [0, 0])
