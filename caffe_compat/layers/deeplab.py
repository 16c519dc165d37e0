"""What DeepLab's first version has besides Interp and SegAccuracy: Padding, MatWrite, a loss with weights of classes.

Source: TheLegendAli/CCVL, ``padding_layer.cpp``, ``mat_write_layer.cpp``, ``softmax_loss_layer.cpp``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.files import open_existing
from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.labels import on_axis, read_labels
from caffe_compat.layers.losses import SoftmaxWithLoss, floored_log
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.shaping import Silence

__all__ = ["MatWrite", "Padding", "WeightedSoftmaxLoss"]

_log = logging.getLogger(__name__)


@register(dialect="TheLegendAli/CCVL")
class Padding(Layer):
    """``pad_beg`` zeros before rows and columns and ``pad_end`` behind them; negative ones cut so many off."""

    caffe_type = "Padding"
    homogeneous = True
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("padding_param")
        self.begin, self.end = int(section.pad_beg), int(section.pad_end)
        if self.begin * self.end < 0:
            raise self.error(
                f"padding_param.pad_beg is {self.begin} and pad_end {self.end}, expected both to pad, or both to cut"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x H + pads x W + pads."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {list(shape)}")
        top = (*shape[:2], *(side + self.begin + self.end for side in shape[2:]))
        self.require(min(top[2:]) > 0, f"the bottom has the shape {list(shape)}, of which pads leave {list(top[2:])}")
        self.require_memory("the top", [top])
        return [top]

    def forward(self, bottom: Tensor) -> Tensor:
        """Pad or cut."""
        return F.pad(bottom, (self.begin, self.end, self.begin, self.end))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pad."""
        pads = [0, 0, self.begin, self.begin, 0, 0, self.end, self.end]
        graph.node("Pad", [bottoms[0], graph.constant(pads)], tops)


@register(dialect="TheLegendAli/CCVL")
class MatWrite(Silence):
    """Takes its bottoms as Silence does: files of results (``mat_write_param``) are not written here, which is said."""

    caffe_type = "MatWrite"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("mat_write_param")
        section.ignore("source", "strip", "period")
        _log.warning(
            "layer '%s' (MatWrite): writes no files here, none '%s...'; use %s",
            self.name,
            section.prefix,
            ", ".join(params.bottoms),
        )


@register(when=lambda params: params.has_section("softmaxloss_param"), dialect="TheLegendAli/CCVL")
class WeightedSoftmaxLoss(SoftmaxWithLoss):
    """SoftmaxWithLoss with ``softmaxloss_param``: a mean over the positions by the weights of their labels.

    ``weight_source`` is a text of a weight for each class, from 0; without it all are 1.  Positions with one of the
    ``ignore_label`` count for nothing; where none is left the loss is 0 (the fork: 0 / 0).
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if params.has_section("loss_param"):
            raise self.error("has softmaxloss_param and loss_param, expected one of them")
        section = params.section("softmaxloss_param")
        self.ignored = [int(label) for label in section.ignore_label]
        weights = self._read(str(section.weight_source)) if section.has("weight_source") else []
        self.weighted = bool(weights)
        self.class_weights = torch.tensor(weights, dtype=torch.float32)

    def _read(self, path: str) -> list[float]:
        with open_existing(path, "softmaxloss_param.weight_source") as stream:
            words = os.fsdecode(stream.read()).split()
        try:
            weights = [float(word) for word in words]
        except ValueError as error:
            raise self.error(f"{path}: expected numbers: {error}") from error
        if not weights or not all(0 <= weight < math.inf for weight in weights):
            raise self.error(f"{path}: expected a finite weight from 0 for each class")
        return weights

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Sum of weighted logarithms over the sum of weights."""
        axis = self.softmax.axis("axis", scores.dim())
        label = on_axis(label, scores.shape, axis)
        counted = ~torch.isin(label, torch.tensor(self.ignored).to(label))
        label, _ = read_labels(self, label.where(counted, torch.zeros_like(label)), scores.shape[axis], None)
        weights = self.class_weights.to(scores)[label] if self.weighted else torch.ones_like(label, dtype=scores.dtype)
        weights = weights * counted
        logs = floored_log(torch.log_softmax(scores, axis).gather(axis, label))
        total = weights.sum()
        loss: Tensor = -(logs * weights).sum() / total.where(total > 0, torch.ones_like(total))
        return loss
