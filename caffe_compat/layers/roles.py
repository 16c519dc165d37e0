"""What layers are to whoever computes a net faster than layer by layer: a few words that many types share.

A role holds in the phase TEST, for bottoms of certain shapes, without gradients.  A layer without a role is computed by
its own ``forward``, which is always right.  Tensors in roles are views of the layers' blobs, not copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.layers import (
    activation,
    arithmetic,
    bn,
    convolution,
    depthwise,
    detection,
    detectnet,
    detectnet_boxes,
    dropout,
    interp,
    linear,
    lrn,
    multibox,
    normalization,
    pooling,
    priors,
    region_loss,
    rpn,
    scaled_norm,
    scaling,
    selection,
    shaping,
    softmax,
    transfer,
    yolov3_loss,
)
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.data import hdf5

__all__ = [
    "Add", "Affine", "Convolve", "Pool", "Nearby", "Plain", "Product", "Rectify", "Role", "Same",
    "looks_at_numbers", "role",
]  # fmt: skip


@dataclass(frozen=True)
class Role:
    """Something that can be computed in a better way."""


@dataclass(frozen=True)
class Same(Role):
    """Every top is the bottom."""


@dataclass(frozen=True)
class Plain(Role):
    """Nothing better than the layer's ``forward``, which takes maps in any memory format.

    Attributes:
        gain: no number of a top is larger than this times the largest of the bottoms.
    """

    gain: float = 1.0


@dataclass(frozen=True)
class Convolve(Role):
    """A convolution over height and width that is one of torch's, of each bottom to the top of its number."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int


@dataclass(frozen=True)
class Product(Role):
    """A matrix product with the axes of the bottom from ``axis`` on as rows.

    Attributes:
        weight: Tensor[outputs, inputs].
    """

    weight: Tensor
    bias: Tensor | None
    axis: int


@dataclass(frozen=True)
class Affine(Role):
    """A factor and a summand for each channel (axis 1).

    Attributes:
        scale, shift: Tensor[C], float64.
    """

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Rectify(Role):
    """max(x, 0) + slope * min(x, 0)."""

    slope: float


@dataclass(frozen=True)
class Add(Role):
    """The sum of two bottoms of one shape."""


@dataclass(frozen=True)
class Pool(Role):
    """MAX pooling with torch's windows; NaN and -inf aside, of which Caffe's never takes one."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    ceil: bool


@dataclass(frozen=True)
class Nearby(Role):
    """x (k + alpha / size * sum of x^2 over the ``size`` nearest channels)^-beta."""

    size: int
    alpha: float
    beta: float
    k: float


def role(layer: Layer, bottoms: Sequence[Shape]) -> Role | None:
    """What a layer does with bottoms of these shapes; None: only its ``forward`` knows."""
    found = _ROLES.get(type(layer))
    return None if found is None or layer.layer_phase != "TEST" else found(layer, bottoms)


def looks_at_numbers(layer: Layer) -> bool:
    """Whether its ``forward`` asks for numbers, or for something outside the net, so that no graph can hold it."""
    outside = not layer.params.bottoms or layer.instance is not None or not layer.on_meta
    return outside or layer.sized_by_values or isinstance(layer, _LOOKING)


def _convolution(layer: convolution.Convolution, bottoms: Sequence[Shape]) -> Role | None:
    window, image = layer.window, bottoms[0][layer.axis + 1 :]
    if layer.axis != 1 or layer.spatial != 2 or 0 in bottoms[0]:
        return None
    outs = layer.slid(image)
    if 0 in outs or any(layer.missing(image, outs)):
        return None
    bias = layer.blob(1) if layer.bias_term else None
    return Convolve(layer.blob(0), bias, window.stride, window.pad, window.dilation, layer.group)


def _product(layer: linear.InnerProduct, bottoms: Sequence[Shape]) -> Role | None:
    weight = layer.blob(0).t() if layer.transpose else layer.blob(0)
    bias = layer.blob(1) if layer.bias_term else None
    return None if 0 in bottoms[0] else Product(weight, bias, layer.section.axis("axis", len(bottoms[0])))


def _normalization(layer: normalization.BatchNorm, bottoms: Sequence[Shape]) -> Role | None:
    if not layer.global_stats:
        return None
    mean, variance = (value.detach().double() for value in layer.statistics())
    scale = 1 / (variance + layer.eps).sqrt()
    return Affine(scale, -mean * scale)


def _scaled_normalization(layer: scaled_norm.IntelBatchNorm, bottoms: Sequence[Shape]) -> Role | None:
    inner = _normalization(layer, bottoms)
    if not isinstance(inner, Affine):
        return inner
    scale, shift = (value.detach().double() for value in layer.scale_and_shift(inner.scale))
    return Affine(inner.scale * scale, inner.shift * scale + shift)


def _moving(layer: bn.MovingBN, bottoms: Sequence[Shape]) -> Role | None:
    if not layer.stored or 0 in bottoms[0]:
        return None
    slope, bias, mean, variance = (layer.blob(index).detach().double().reshape(-1) for index in range(4))
    scale = slope / (variance + layer.eps).sqrt()
    return Affine(scale, bias - mean * scale)


def _scale_shift(layer: bn.ScaleShiftBN, bottoms: Sequence[Shape]) -> Role | None:
    if layer.learns or len(bottoms[0]) != 4:
        return None
    scale, shift = (layer.blob(index).detach().double().reshape(-1) for index in range(2))
    return Affine(scale, shift)


def _of_channels(layer: scaling.Scale | scaling.Bias, bottoms: Sequence[Shape]) -> bool:
    """Whether a learned operand is one number for each channel."""
    rank = len(bottoms[0])
    return len(bottoms) == 1 and rank > 1 and layer.blob_shapes[0] == (bottoms[0][1],) and (
        layer.section.axis("axis", rank) == 1
    )  # fmt: skip


def _scale(layer: scaling.Scale, bottoms: Sequence[Shape]) -> Role | None:
    if not _of_channels(layer, bottoms):
        return None
    scale = layer.blob(0).detach().double()
    return Affine(scale, layer.blob(1).detach().double() if layer.bias_term else torch.zeros_like(scale))


def _bias(layer: scaling.Bias, bottoms: Sequence[Shape]) -> Role | None:
    if not _of_channels(layer, bottoms):
        return None
    shift = layer.blob(0).detach().double()
    return Affine(torch.ones_like(shift), shift)


def _pooling(layer: pooling.Pooling, bottoms: Sequence[Shape]) -> Role | None:
    image = bottoms[0][2:]
    window = layer.window_for(image)
    outs = window.sizes(image)
    if layer.method == "STOCHASTIC" or 0 in outs or 0 in bottoms[0] or not window.as_torch(image, outs):
        return None
    if len(layer.params.tops) > 1:
        return Plain(torch.inf)  # the mask
    if layer.method == "AVE":
        return Plain()
    return Pool(window.kernel, window.stride, window.pad, window.ceil)


def _nearby(layer: lrn.LRN, bottoms: Sequence[Shape]) -> Role | None:
    if layer.within or layer.params.in_place or 0 in bottoms[0]:
        return None
    return Nearby(layer.size, layer.alpha, layer.beta, layer.k)


def _eltwise(layer: arithmetic.Eltwise, bottoms: Sequence[Shape]) -> Role | None:
    if layer.operation == "PROD" or layer.params.in_place:
        return None
    if layer.operation == "MAX":
        return Plain()
    return Add() if layer.coeff == [1.0, 1.0] else Plain(sum(abs(value) for value in layer.coeff))


def _dropout(layer: dropout.Dropout, bottoms: Sequence[Shape]) -> Role | None:
    if layer.training or layer.always:
        return None
    return Same() if layer.scale_train else Plain()


def _prelu(layer: activation.PReLU, bottoms: Sequence[Shape]) -> Role:
    slope = layer.blob(0).detach()
    return Plain(max(1.0, float(slope.abs().max()) if slope.numel() else 0.0))


def _anyhow(layer: Layer, bottoms: Sequence[Shape]) -> Role:
    """Whose numbers have no bound here."""
    return Plain(torch.inf)


_ROLES: dict[type[Layer], Callable[..., Role | None]] = {
    activation.ReLU: lambda layer, bottoms: Rectify(layer.negative_slope),
    activation.AbsVal: lambda layer, bottoms: Plain(),
    activation.BNLL: _anyhow,
    activation.Clip: _anyhow,
    activation.ELU: lambda layer, bottoms: Plain(max(1.0, abs(layer.alpha))),
    activation.PReLU: _prelu,
    activation.Sigmoid: _anyhow,
    activation.Swish: _anyhow,
    activation.TanH: lambda layer, bottoms: Plain(),
    arithmetic.Eltwise: _eltwise,
    arithmetic.Power: _anyhow,
    bn.MovingBN: _moving,
    bn.ScaleShiftBN: _scale_shift,
    convolution.Convolution: _convolution,
    convolution.Deconvolution: _anyhow,
    depthwise.ConvolutionDepthwise: _convolution,
    depthwise.DepthwiseConvolution: _convolution,
    dropout.Dropout: _dropout,
    dropout.SpatialDropoutLayer: _anyhow,
    interp.Interp: _anyhow,
    linear.InnerProduct: _product,
    lrn.LRN: _nearby,
    normalization.BatchNorm: _normalization,
    pooling.Pooling: _pooling,
    scaled_norm.IntelBatchNorm: _scaled_normalization,
    scaled_norm.NvidiaBatchNorm: _scaled_normalization,
    scaling.Bias: _bias,
    scaling.Scale: _scale,
    shaping.Concat: lambda layer, bottoms: Plain() if len(bottoms) > 1 else Same(),
    shaping.Slice: lambda layer, bottoms: Plain(),
    shaping.Split: lambda layer, bottoms: Same(),
    softmax.Softmax: _anyhow,
}
"""By the very type: what inherits from one of these may compute something else."""

_LOOKING: tuple[type[Layer], ...] = (
    detection.CFMPooling,
    detection.ROIPooling,
    detectnet.DetectNetTransformation,
    detectnet_boxes.ClusterDetections,
    detectnet_boxes.ClusterGroundtruth,
    detectnet_boxes.MeanAveragePrecision,
    detectnet_boxes.ScoreDetections,
    hdf5.HDF5Output,
    linear.Embed,
    multibox.MultiBoxLoss,
    priors.PriorBox,
    region_loss.RegionLoss,
    rpn.RpnLayer,
    selection.BatchReindex,
    selection.PickItems,
    selection.PickSlice,
    transfer.ExplainedVariance,
    yolov3_loss.Yolov3,
)
"""Layers that choose by the numbers, check them, or call what torch.compile does not know."""
