"""Element-wise layers without arithmetic parameters: rectifiers, sigmoids, Clip and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Clip",
    "PReLU",
    "ReLU",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
]


class _Rectify(torch.autograd.Function):
    """max(x, 0) whose gradient at NaN is 0, as Caffe's is; torch's own passes it on."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, overwrite: bool) -> Tensor:
        if overwrite:
            ctx.mark_dirty(bottom)
        top = bottom.relu_() if overwrite else bottom.relu()
        ctx.save_for_backward(top)
        return top

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (top,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(seed, top, 0.0, True), None


@register
class ReLU(NeuronLayer):
    """max(x, 0) + negative_slope * min(x, 0); the gradient at 0 is that of the negative side, as in torch.

    In place with a negative slope the sign of the bottom is lost: the gradient is 1 wherever the top is positive.
    """

    homogeneous = True
    precision = "any"
    caffe_type = "ReLU"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        relu = params.section("relu_param")
        self.negative_slope = float(relu.negative_slope)
        relu.ignore("engine", "relu6")  # CappedReLU is of another meaning
        self.keeps_sign = self.negative_slope >= 0
        self.survives_in_place = self.keeps_sign

    def backward_reads(self) -> Reads:
        """Where the bottom is positive."""
        return Reads(bottoms=(0,), sign=True)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        overwrite = self.may_overwrite and not (bottom.is_leaf and bottom.requires_grad)
        overwrite = overwrite and not torch.compiler.is_compiling()  # a compiler finds out itself
        if bottom.requires_grad and torch.is_grad_enabled() and not self.negative_slope:
            top: Tensor = _Rectify.apply(bottom, overwrite)  # type: ignore[no-untyped-call]
            return top
        if self.negative_slope:
            return F.leaky_relu(bottom, self.negative_slope, inplace=overwrite)
        return F.relu(bottom, inplace=overwrite)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Relu, or LeakyRelu with a slope."""
        if self.negative_slope:
            graph.node("LeakyRelu", bottoms, tops, alpha=self.negative_slope)
        else:
            graph.node("Relu", bottoms, tops)


@register
class PReLU(NeuronLayer):
    """max(x, 0) + slope * min(x, 0) with a learned slope per channel (axis 1), or one for all (``channel_shared``).

    Blob: the slopes, shape (C,) or (); filled with 0.25 unless ``filler`` says otherwise.  Of any number of axes from 2
    on, as in intel/caffe; BVLC's takes up to 4.
    """

    homogeneous = True
    caffe_type = "PReLU"
    has_blobs = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        prelu = params.section("prelu_param")
        self._check_rank(bottoms[0])
        self.channels = None if prelu.channel_shared else bottoms[0][1]
        self.add_blob(() if self.channels is None else (self.channels,), prelu.filler("filler", Filler(value=0.25)))

    def backward_reads(self) -> Reads:
        """The bottom; in place a copy of it."""
        return Reads() if self.params.in_place else Reads(bottoms=(0,))

    def _check_rank(self, shape: Shape) -> None:
        self.require(len(shape) >= 2, f"the bottom has shape {list(shape)}, expected 2 axes or more")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        self._check_rank(bottoms[0])
        self.require(
            self.channels in (None, bottoms[0][1]),
            f"the bottom has {bottoms[0][1]} channels, expected {self.channels} as at setup",
        )
        return [tuple(bottoms[0])]

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return F.prelu(bottom, self.blob(0))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """PRelu; its slope broadcasts from the right, so it gets trailing axes."""
        shape = [1] if self.channels is None else [self.channels] + [1] * (len(graph.shape(bottoms[0])) - 2)
        slope = graph.add("Reshape", [graph.parameter(self, 0), graph.constant(shape)])
        graph.node("PRelu", [bottoms[0], slope], tops)


@register
class ELU(NeuronLayer):
    """x where x > 0, else alpha * (exp(x) - 1).

    In place with a negative alpha the sign of the bottom is lost: the gradient is 1 wherever the top is positive.
    """

    caffe_type = "ELU"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.alpha = float(params.section("elu_param").alpha)
        self.keeps_sign = self.survives_in_place = self.alpha >= 0

    def backward_reads(self) -> Reads:
        """The sign of the bottom, and the top."""
        return Reads(bottoms=(0,), tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """alpha + top where the bottom is not positive."""
        bottom, top = memory.bottoms[0], memory.tops[0]
        return with_gradient(top, bottom, lambda seed: torch.where(bottom > 0, seed, (self.alpha + top) * seed))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return F.elu(bottom, self.alpha)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Elu."""
        graph.node("Elu", bottoms, tops, alpha=self.alpha)


@register
class Sigmoid(NeuronLayer):
    """1 / (1 + exp(-x))."""

    caffe_type = "Sigmoid"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        params.section("sigmoid_param").ignore("engine")

    def backward_reads(self) -> Reads:
        """The top."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """top (1 - top)."""
        top = memory.tops[0]
        return with_gradient(top, memory.bottoms[0], lambda seed: seed * top * (1 - top))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return torch.sigmoid(bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Sigmoid."""
        graph.node("Sigmoid", bottoms, tops)


@register
class TanH(NeuronLayer):
    """Hyperbolic tangent."""

    caffe_type = "TanH"
    keeps_sign = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        params.section("tanh_param").ignore("engine")

    def backward_reads(self) -> Reads:
        """The top."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """1 - top^2."""
        top = memory.tops[0]
        return with_gradient(top, memory.bottoms[0], lambda seed: seed * (1 - top * top))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return torch.tanh(bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Tanh."""
        graph.node("Tanh", bottoms, tops)


@register
class Swish(NeuronLayer):
    """x * sigmoid(beta * x)."""

    caffe_type = "Swish"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.beta = float(params.section("swish_param").beta)

    def backward_reads(self) -> Reads:
        """The top; the sigmoid is kept."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """beta top + sigmoid (1 - beta top), with the sigmoid of the forward pass."""
        scaled, sigmoid = self.beta * memory.tops[0], torch.sigmoid(self.beta * memory.then[0])
        return with_gradient(scaled, memory.bottoms[0], lambda seed: seed * (scaled + sigmoid * (1 - scaled)))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return F.silu(bottom) if self.beta == 1 else bottom * torch.sigmoid(self.beta * bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, Sigmoid, Mul."""
        scaled = bottoms[0] if self.beta == 1 else graph.add("Mul", [bottoms[0], graph.constant(self.beta)])
        graph.node("Mul", [bottoms[0], graph.add("Sigmoid", [scaled])], tops)


@register
class AbsVal(NeuronLayer):
    """|x|; the gradient at 0 is 0.  Caffe refuses it in place."""

    caffe_type = "AbsVal"
    in_place = False

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        return bottom.abs()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Abs."""
        graph.node("Abs", bottoms, tops)


@register
class BNLL(NeuronLayer):
    """log(1 + exp(x)).  In place the gradient is sigmoid(top), as the bottom is overwritten."""

    caffe_type = "BNLL"
    survives_in_place = False

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element; linear beyond 50, where float32 cannot tell."""
        return F.softplus(bottom, threshold=50)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Softplus."""
        graph.node("Softplus", bottoms, tops)


class _ClipFunction(torch.autograd.Function):
    """clamp with a gradient that passes on the limits: torch has changed its own between versions."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(bottom)
        ctx.limits = low, high
        return bottom.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor, None, None]:
        (bottom,), (low, high) = ctx.saved_tensors, ctx.limits
        return seeds[0] * ((bottom >= low) & (bottom <= high)), None, None


@register
class Clip(NeuronLayer):
    """x limited to [min, max]; the gradient passes on the limits.  In place it passes everywhere."""

    caffe_type = "Clip"
    survives_in_place = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        clip = params.section("clip_param")
        if not (clip.has("min") and clip.has("max")):
            raise self.error("clip_param.min and clip_param.max are required")
        self.low, self.high = float(clip.min), float(clip.max)

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        top: Tensor = _ClipFunction.apply(bottom, self.low, self.high)
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Clip."""
        graph.node("Clip", [bottoms[0], graph.constant(self.low), graph.constant(self.high)], tops)


@register
class Threshold(NeuronLayer):
    """1 where x > threshold, else 0.  Caffe refuses to backpropagate through it."""

    caffe_type = "Threshold"
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.threshold = float(params.section("threshold_param").threshold)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element, detached."""
        return (bottom.detach() > self.threshold).to(bottom.dtype)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Greater, then Cast to float."""
        graph.node("Cast", [graph.add("Greater", [bottoms[0], graph.constant(self.threshold)])], tops, to=1)
