"""Element-wise layers without arithmetic parameters: rectifiers, sigmoids, Dropout, Clip and their kin.

Where Caffe's backward pass reads a bottom that the forward pass has overwritten (BNLL and Clip in place, ReLU and ELU
in place with a negative slope), the gradient is computed from the top as Caffe does, wrong as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import NeuronLayer, OnnxGraph, Shape, register
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import Params

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Clip",
    "Dropout",
    "PReLU",
    "ReLU",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
    "from_top",
]


class _FromTop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bottom: Tensor, top: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        value = top(bottom)
        ctx.save_for_backward(value)
        ctx.gradient = gradient
        return value

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors
        return ctx.gradient(value, seeds[0]), None, None


def from_top(bottom: Tensor, top: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``top(bottom)`` whose gradient is ``gradient(top, top diff)``: Caffe in place, where the bottom is lost."""
    result: Tensor = _FromTop.apply(bottom, top, gradient)  # type: ignore[no-untyped-call]
    return result


@register
class ReLU(NeuronLayer):
    """max(x, 0) + negative_slope * min(x, 0); the gradient at 0 is that of the negative side, as in torch.

    In place with a negative slope the sign of the bottom is lost: the gradient is 1 wherever the top is positive.
    """

    caffe_type = "ReLU"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        relu = params.section("relu_param")
        self.negative_slope = float(relu.negative_slope)
        relu.ignore("engine")

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element."""
        slope = self.negative_slope
        if self.params.in_place and slope < 0:
            return from_top(bottom, lambda x: F.leaky_relu(x, slope), lambda y, dy: torch.where(y > 0, dy, slope * dy))
        overwrite = self.may_overwrite and not (bottom.is_leaf and bottom.requires_grad)
        if slope:
            return F.leaky_relu(bottom, slope, inplace=overwrite)
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

    Blob: the slopes, shape (C,) or (); filled with 0.25 unless ``filler`` says otherwise.
    """

    caffe_type = "PReLU"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        prelu = params.section("prelu_param")
        self._check_rank(bottoms[0])
        self.channels = None if prelu.channel_shared else bottoms[0][1]
        self.add_blob(() if self.channels is None else (self.channels,), prelu.filler("filler", Filler(value=0.25)))

    def _check_rank(self, shape: Shape) -> None:
        self.require(2 <= len(shape) <= 4, f"the bottom has shape {list(shape)}, expected 2 to 4 axes")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        self._check_rank(bottoms[0])
        self.require(
            self.channels in (None, bottoms[0][1]),
            f"the bottom has {bottoms[0][1]} channels, expected {self.channels} as at setup",
        )
        return [tuple(bottoms[0])]

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
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

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element."""
        alpha = self.alpha
        if self.params.in_place and alpha < 0:
            return from_top(bottom, lambda x: F.elu(x, alpha), lambda y, dy: torch.where(y > 0, dy, (alpha + y) * dy))
        return F.elu(bottom, alpha)

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

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element."""
        return torch.sigmoid(bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Sigmoid."""
        graph.node("Sigmoid", bottoms, tops)


@register
class TanH(NeuronLayer):
    """Hyperbolic tangent."""

    caffe_type = "TanH"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        params.section("tanh_param").ignore("engine")

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
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

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
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

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element."""
        return bottom.abs()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Abs."""
        graph.node("Abs", bottoms, tops)


@register
class BNLL(NeuronLayer):
    """log(1 + exp(x)).  In place the gradient is sigmoid(top), as the bottom is overwritten."""

    caffe_type = "BNLL"

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element; linear beyond 50, where float32 cannot tell."""
        if self.params.in_place:
            return from_top(bottom, lambda x: F.softplus(x, threshold=50), lambda y, dy: dy * torch.sigmoid(y))
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

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        clip = params.section("clip_param")
        if not (clip.has("min") and clip.has("max")):
            raise self.error("clip_param.min and clip_param.max are required")
        self.low, self.high = float(clip.min), float(clip.max)

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element."""
        if self.params.in_place:
            return from_top(bottom, lambda x: x.clamp(self.low, self.high), lambda y, dy: dy)
        top: Tensor = _ClipFunction.apply(bottom, self.low, self.high)  # type: ignore[no-untyped-call]
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

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """Element by element, detached."""
        return (bottom.detach() > self.threshold).to(bottom.dtype)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Greater, then Cast to float."""
        graph.node("Cast", [graph.add("Greater", [bottoms[0], graph.constant(self.threshold)])], tops, to=1)


@register
class Dropout(NeuronLayer):
    """TRAIN: drops each element with probability dropout_ratio; TEST: its bottom, unchanged.

    What is kept is scaled by 1 / (1 - ratio) in TRAIN.  With ``scale_train: false`` (faster-rcnn's fork) it is not, and
    TEST scales by 1 - ratio instead.
    """

    caffe_type = "Dropout"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        dropout = params.section("dropout_param")
        self.ratio, self.scale_train = float(dropout.dropout_ratio), bool(dropout.scale_train)
        if not 0 <= self.ratio <= 1:
            raise self.error(f"dropout_param.dropout_ratio is {self.ratio:g}, expected 0 to 1")

    def forward(self, bottom: Tensor) -> Tensor:  # type: ignore[override]
        """A new mask every time in TRAIN."""
        if self.training:
            dropped = F.dropout(bottom, self.ratio)
            return dropped if self.scale_train else dropped * (1 - self.ratio)
        return bottom if self.scale_train else bottom * (1 - self.ratio)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """What it is in TEST: nothing, or a factor."""
        if self.scale_train:
            graph.node("Identity", bottoms, tops)
        else:
            graph.node("Mul", [bottoms[0], graph.constant(1 - self.ratio)], tops)
