"""Layers of face recognition by angles and distances: Normalize, InnerDistance, ChannelScale, Flip, clamped weights.

Source: happynear/caffe-windows (NormFace), ``normalize_layer.cpp``, ``inner_distance_layer.cpp``,
``channel_scale_layer.cpp``, ``flip_layer.cpp``, ``inner_product_layer.cpp``, ``scale_layer.cpp``,
``accuracy_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import legacy_rank, legacy_shape
from caffe_compat.layers.linear import InnerProduct
from caffe_compat.layers.metrics import Accuracy
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.scaling import Scale
from caffe_compat.layers.sharing import Reads, Reread, with_gradients

__all__ = [
    "ChannelScale",
    "ClampedScale",
    "DistanceAccuracy",
    "Flip",
    "GivenProduct",
    "UnitNormalize",
    "UnitProduct",
    "unit_rows",
]

EPS = 1e-6  #: added to sums of squares and of sizes


def unit_rows(weight: Tensor) -> None:
    """Divide every row (Tensor[N, K]) by its length, in place: what a forward pass of the fork does to its blob."""
    rows = weight.data  # another layer of the pass may have kept the same blob for its gradient, as in the fork
    rows.div_((rows.square().sum(1, keepdim=True) + EPS).sqrt())


def _means_normface(params: Params) -> bool:
    """By its message, by one that the fork's own nets have by mistake, or by the rest of the net."""
    named = params.has_section("normalize_param") or params.has_section("softmax_param")
    spoken = params.speaks("normface") and not params.has_section("norm_param")
    return named or spoken


@register(when=_means_normface, dialect="normface")
class UnitNormalize(Layer):
    """The channels of every pixel over their length, with 1e-6 added to the sum of squares.

    ``normalize_type: "L1"`` takes the sum of sizes instead.  The top has 4 axes; a second one, N x 1 x H x W, is the
    length, which passes a gradient with ``bp_norm`` only.  A ``softmax_param`` is not read, as in the fork, whose nets
    have one from before the message had a name of its own.
    """

    caffe_type = "Normalize"
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("normalize_param")
        params.section("softmax_param").ignore("normalize_type")
        self.kind = str(section.normalize_type)
        if self.kind not in ("L2", "L1"):
            raise self.error(f"normalize_param.normalize_type is '{self.kind}', expected L2 or L1")
        if section.fix_gradient:
            raise self.error(
                "normalize_param.fix_gradient is true, expected false: the fork's CPU code has no such rule"
            )
        self.passes = bool(section.bp_norm) and len(params.tops) == 2

    def backward_reads(self) -> Reads:
        """The top, and with two the lengths; of L1 the signs of the bottom too."""
        return Reads((0,) if self.kind == "L1" else (), tuple(range(len(self.params.tops))))

    def backward_form(self, memory: Reread) -> Tensor | tuple[Tensor, ...]:
        """The fork's formula with what tops hold now."""
        (bottom,), top = memory.bottoms, memory.tops[0]
        length = memory.tops[1] if len(memory.tops) == 2 else self._length(memory.then[0].reshape(top.shape))
        slope = top if self.kind == "L2" else bottom.detach().reshape(top.shape).sign()

        def rule(seed: Tensor) -> Sequence[Tensor]:
            along = (seed * top).sum(1, keepdim=True)
            return [((seed - slope * along) / length).reshape(bottom.shape)]

        first = with_gradients(top, [bottom], rule)
        if len(memory.tops) == 1:
            return first
        second = with_gradients(
            memory.tops[1], [bottom], lambda seed: [(seed * slope * float(self.passes)).reshape(bottom.shape)]
        )
        return first, second

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The same pixels."""
        return spans

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's with 4 axes; one channel of it."""
        legacy_rank(self, bottoms)
        shape: Shape = legacy_shape(bottoms[0])
        return [shape, (shape[0], 1, *shape[2:])][: len(self.params.tops)]

    def _length(self, x: Tensor) -> Tensor:
        if self.kind == "L1":
            return x.abs().sum(1, keepdim=True) + EPS
        return (x.square().sum(1, keepdim=True) + EPS).sqrt()

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        """Divide."""
        x = bottom.reshape(legacy_shape(bottom.shape))
        length = self._length(x)
        return (x / length, length if self.passes else length.detach())[: len(self.params.tops)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ReduceSum and Div."""
        x, rank = bottoms[0], len(graph.shape(bottoms[0]))
        if rank < 4:
            x = graph.add("Unsqueeze", [x, graph.constant(list(range(rank, 4)))])
        sizes = graph.add("Abs", [x]) if self.kind == "L1" else graph.add("Mul", [x, x])
        sums = graph.add("ReduceSum", [sizes, graph.constant([1])], keepdims=1)
        length = graph.add("Add", [sums, graph.constant(EPS)])
        length = length if self.kind == "L1" else graph.add("Sqrt", [length])
        graph.node("Div", [x, length], tops[:1])
        if len(tops) == 2:
            graph.node("Identity", [length], tops[1:])


@register(dialect="normface")
class ChannelScale(Layer):
    """All channels of a pixel times one number: Tensor[N, C, H, W] and Tensor[N, 1, H, W].

    Without ``do_forward`` the top is bottom 0, with the same gradients; without ``do_backward_feature`` bottom 0 gets
    the top's gradient as it is, without ``do_backward_scale`` bottom 1 gets 0.  ``global_scale`` is not known here.
    """

    caffe_type = "ChannelScale"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("channel_scale_param")
        self.scales, self.features = bool(section.do_forward), bool(section.do_backward_feature)
        self.factors = bool(section.do_backward_scale)
        if section.global_scale:
            raise self.error("channel_scale_param.global_scale is true, expected false: one is not known here")
        section.ignore("max_global_scale", "min_global_scale", "init_global_scale")

    def backward_reads(self) -> Reads:
        """Both bottoms."""
        return Reads((0, 1))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The same pixels."""
        return spans

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of bottom 0."""
        legacy_rank(self, bottoms)
        x, scale = (legacy_shape(shape) for shape in bottoms)
        self.require(
            scale == (x[0], 1, *x[2:]),
            f"bottom 1 has the shape {list(bottoms[1])}, expected one number for each pixel of {list(bottoms[0])}",
        )
        return [tuple(bottoms[0])]

    def forward(self, bottom: Tensor, scale: Tensor) -> Tensor:
        """Multiply."""
        shape = legacy_shape(bottom.shape)
        x, factor = bottom.detach().reshape(shape), scale.detach().reshape(shape[0], 1, *shape[2:])

        def rule(seed: Tensor) -> Sequence[Tensor]:
            dy = seed.reshape(shape)
            to_scale = (x * dy).sum(1, keepdim=True) * float(self.factors)
            to_bottom = factor * dy if self.features else dy
            return to_bottom.reshape(bottom.shape), to_scale.reshape(scale.shape)

        value = (x * factor).reshape(bottom.shape) if self.scales else bottom
        return with_gradients(value, [bottom, scale], rule)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul."""
        if not self.scales:
            graph.node("Identity", bottoms[:1], tops)
            return
        x, factor = bottoms
        have, rank = len(graph.shape(factor)), len(graph.shape(x))
        if have < rank:
            factor = graph.add("Unsqueeze", [factor, graph.constant(list(range(have, rank)))])
        elif have > rank:
            factor = graph.add("Squeeze", [factor, graph.constant(list(range(max(rank, 2), have)))])
        graph.node("Mul", [x, factor], tops)


@register(dialect="normface")
class Flip(Layer):
    """An image with its columns (``flip_width``, the default) or rows (``flip_height``) in the other order."""

    caffe_type = "Flip"
    homogeneous = True
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("flip_param")
        self.axes = [axis for axis, wanted in ((2, section.flip_height), (3, section.flip_width)) if wanted]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {list(shape)}")
        return [shape]

    def forward(self, bottom: Tensor) -> Tensor:
        """A copy."""
        return bottom.flip(self.axes) if self.axes else bottom.clone()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Slice backwards."""
        if not self.axes:
            graph.node("Identity", bottoms, tops)
            return
        numbers = ([-1] * len(self.axes), [-(2**31)] * len(self.axes), self.axes, [-1] * len(self.axes))
        graph.node("Slice", [bottoms[0], *(graph.constant(value) for value in numbers)], tops)


def _is_unit(params: Params) -> bool:
    return len(params.bottoms) == 1 and params.section("inner_product_param").has("normalize")


@register(when=_is_unit, dialect="normface", marked=True)
class UnitProduct(InnerProduct):
    """InnerProduct with ``normalize``: every forward pass first makes the rows of the weights of length 1, for good."""

    affine = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.unit = bool(self.section.normalize)
        if self.unit and self.transpose:
            raise self.error("inner_product_param has normalize and transpose, expected one of them")

    def forward(self, bottom: Tensor) -> Tensor:
        """One matrix product."""
        if self.unit:
            unit_rows(self.blob(0))
        return super().forward(bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Those of InnerProduct."""
        if self.unit:
            unit_rows(self.blob(0))
        super().to_onnx(graph, bottoms, tops)


@register(when=lambda params: len(params.bottoms) > 1 and params.speaks("normface"), dialect="normface", marked=True)
class GivenProduct(Layer):
    """InnerProduct whose weights are bottom 1 (Tensor[O, K], or O x ... of as many numbers), and bias bottom 2, if any.

    With two bottoms ``bias_term`` must be false; the fork would read a blob that it does not make.
    """

    caffe_type = "InnerProduct"
    bottom_count = (2, 3)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("inner_product_param")
        self.section.ignore("num_output", "weight_filler", "bias_filler", "normalize")
        self.first = int(self.section.value("axis"))
        if self.section.transpose:
            raise self.error("inner_product_param.transpose is true, expected false: the weights are a bottom")
        if bool(self.section.bias_term) != (len(bottoms) == 3):
            raise self.error(
                f"has {len(bottoms)} bottoms and inner_product_param.bias_term {str(self.section.bias_term).lower()}, "
                "expected a third bottom with bias_term only"
            )

    def backward_reads(self) -> Reads:
        """Bottom and weights."""
        return Reads((0, 1))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The axes before ``axis``, and the rows of the weights."""
        x, weight = tuple(bottoms[0]), tuple(bottoms[1])
        axis = self.section.axis("axis", len(x))
        self.require(
            bool(weight) and count(weight, 1) == count(x, axis),
            f"bottom 1 has the shape {list(weight)}, expected rows of {count(x, axis)} numbers",
        )
        self.require(
            len(bottoms) == 2 or count(bottoms[2]) == weight[0],
            f"the last bottom has the shape {list(bottoms[-1])}, expected {weight[0]} numbers",
        )
        return [(*x[:axis], weight[0])]

    def forward(self, bottom: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """One matrix product."""
        axis = self.section.axis("axis", bottom.dim())
        inputs = count(bottom.shape, axis)
        rows = bottom.reshape(*bottom.shape[:axis], inputs)
        return F.linear(rows, weight.reshape(len(weight), inputs), None if bias is None else bias.reshape(-1))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape, Transpose, MatMul, Add."""
        axis = self.section.axis("axis", len(graph.shape(bottoms[0])))
        x = graph.add("Reshape", [bottoms[0], graph.constant([0] * axis + [-1])])
        weight = graph.add("Transpose", [graph.add("Flatten", [bottoms[1]], axis=1)], perm=[1, 0])
        if len(bottoms) == 2:
            graph.node("MatMul", [x, weight], tops)
            return
        bias = graph.add("Reshape", [bottoms[2], graph.constant([-1])])
        graph.node("Add", [graph.add("MatMul", [x, weight]), bias], tops)


def _is_clamped(params: Params) -> bool:
    section = params.section("scale_param")
    return bool(section.has("min_value") or section.has("max_value"))


@register(when=_is_clamped, dialect="normface", marked=True)
class ClampedScale(Scale):
    """Scale with ``min_value`` and ``max_value``: every forward pass first cuts the learned scale to them, for good."""

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.least, self.most = self.section.optional("min_value"), self.section.optional("max_value")
        if len(bottoms) > 1:
            raise self.error("scale_param has min_value or max_value and the layer two bottoms, expected one")

    def _clamp(self) -> None:
        self.blob(0).data.clamp_(self.least, self.most)

    def forward(self, bottom: Tensor, operand: Tensor | None = None) -> Tensor:
        """Clamp, then multiply."""
        self._clamp()
        return super().forward(bottom, operand)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Those of Scale."""
        self._clamp()
        super().to_onnx(graph, bottoms, tops)


@register(when=lambda params: bool(params.section("accuracy_param").min_is_better), dialect="normface", marked=True)
class DistanceAccuracy(Accuracy):
    """Accuracy with ``min_is_better``: a label counts where it is among the ``top_k`` smallest.

    Of equal values the lower class comes first, as the fork sorts them.
    """

    def better(self, scores: Tensor, label: Tensor, axis: int) -> Tensor:
        """How many classes come before the label."""
        shape = [1] * scores.dim()
        shape[axis] = -1
        number = torch.arange(scores.shape[axis], device=scores.device).view(shape)
        own = scores.gather(axis, label)
        return ((scores < own) | ((scores == own) & (number < label))).sum(axis, keepdim=True)
