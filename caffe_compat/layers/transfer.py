"""Layers of supervision transfer that Caffe does not have: AlignMaps, ExplainedVariance and DeadUnits.

Gupta, Hoffman, Malik: Cross Modal Distillation for Supervision Transfer, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["AlignMaps", "DeadUnits", "ExplainedVariance"]


@register
class AlignMaps(Layer):
    """Crop two feature maps (N x C x H x W each) to their common height and width, at the bottom and right only.

    Teacher and student may differ by one row or column because one net rounds sizes up and the other down.  Units of
    the same index then stay less than half a cell apart; a centred crop or a shift would double that.

    Raises:
        ShapeError: the maps differ by more than one row or column, which means other strides or pads.
    """

    caffe_type = "AlignMaps"
    precision = "any"
    pointwise = True
    bottom_count = (2, 2)
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._told: set[tuple[Shape, Shape]] = set()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottoms with the smaller height and the smaller width of the two."""
        first, second = bottoms
        self.require(len(first) == len(second) == 4, f"takes maps of 4 axes, not {list(first)} and {list(second)}")
        self.require(
            abs(first[2] - second[2]) <= 1 and abs(first[3] - second[3]) <= 1,
            f"maps of {first[2]} x {first[3]} and {second[2]} x {second[3]} differ by more than one row or column; "
            "teacher and student must have the same stride (check pads, or crop images to a multiple of 32)",
        )
        height, width = min(first[2], second[2]), min(first[3], second[3])
        if first[2:] != second[2:] and (tuple(first), tuple(second)) not in self._told:
            self._told.add((tuple(first), tuple(second)))
            log.info(
                f"{self.name}: maps of {first[2]} x {first[3]} and {second[2]} x {second[3]} are cropped to "
                f"{height} x {width}",
                "align_maps",
            )
        return [(*first[:2], height, width), (*second[:2], height, width)]

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps, cropped."""
        height, width = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
        return first[:, :, :height, :width], second[:, :, :height, :width]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Two Slice nodes."""
        shapes = [graph.static_shape(bottom, "the common size of both maps") for bottom in bottoms]
        ends = graph.constant([min(s[2] for s in shapes), min(s[3] for s in shapes)])
        for bottom, top in zip(bottoms, tops, strict=True):
            graph.node("Slice", [bottom, graph.constant([0, 0]), ends, graph.constant([2, 3])], [top])


@register
class ExplainedVariance(Layer):
    """1 - sum (prediction - target)^2 / sum (target - mean_c(target))^2, means per channel over the whole test.

    Bottoms: prediction and target, N x C [x H x W].  The top covers all batches since :meth:`start_over`, which the
    solver calls when a test begins; it is therefore not averaged over test iterations.  A target without variance
    gives NaN.
    """

    caffe_type = "ExplainedVariance"
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    running_metric = True
    onnx_reason = "a score over a whole test set is not a function of one batch"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._channels = bottoms[1][1] if len(bottoms[1]) > 1 else 1
        self.start_over()

    def start_over(self) -> None:
        """Forget all batches."""
        self._residual = 0.0
        self._count = 0
        self._sum: Tensor | None = None
        self._square = 0.0

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        self.require(
            tuple(bottoms[0]) == tuple(bottoms[1]) and len(bottoms[0]) >= 2,
            f"prediction and target must have the same shape, not {list(bottoms[0])} and {list(bottoms[1])}",
        )
        self.require(count(bottoms[0]) > 0, f"the bottoms have the shape {list(bottoms[0])}, expected some values")
        return [()]

    @torch.no_grad()
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The explained variance of everything seen so far."""
        if target.is_meta:
            return target.new_zeros(())
        wide = target.double()
        self._residual += float((prediction.double() - wide).square().sum())
        channels = wide.transpose(0, 1).reshape(wide.shape[1], -1)
        sums = channels.sum(1)
        self._sum = sums if self._sum is None else self._sum + sums
        self._square += float(wide.square().sum())
        self._count += channels.shape[1]
        return torch.full((), self._value(), dtype=target.dtype, device=target.device)

    def _value(self) -> float:
        if self._sum is None:
            return float("nan")
        spread = self._square - float(self._sum.square().sum()) / max(self._count, 1)
        return 1 - self._residual / spread if spread > 0 else float("nan")

    def unite(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        """As :meth:`Layer.unite`."""
        own = torch.zeros(self._channels, dtype=torch.float64) if self._sum is None else self._sum.cpu()
        numbers = torch.tensor([self._residual, self._square, self._count], dtype=torch.float64)
        self._residual, self._square, count_ = total(numbers).tolist()
        self._count, self._sum = int(count_), total(own)
        return torch.tensor(self._value())


@register
class DeadUnits(Layer):
    """Part of the units (channels) of a feature, N x C [x H x W], that are not above zero anywhere in a whole test.

    After a ReLU such a unit passes no gradient: what feeds it does not learn, and it rarely comes back.  The top covers
    all batches since :meth:`start_over`, which the solver calls when a test begins; it is therefore not averaged over
    test iterations.
    """

    caffe_type = "DeadUnits"
    no_gradient = (0,)
    running_metric = True
    onnx_reason = "a score over a whole test set is not a function of one batch"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._units = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        self.start_over()

    def start_over(self) -> None:
        """Forget all batches."""
        self._alive: Tensor | None = None

    @property
    def hopeless(self) -> str:  # type: ignore[override]
        """That all units are dead, if they are."""
        if self._alive is None or bool(self._alive.any()):
            return ""
        return (
            f"layer '{self.name}' ({self.caffe_type}): all {len(self._alive)} units that it watches are zero on "
            "the whole test, so that nothing is learned any more"
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        (shape,) = bottoms
        self.require(len(shape) >= 2 and count(shape) > 0, f"takes N x C [x H x W] with some values, not {list(shape)}")
        return [()]

    @torch.no_grad()
    def forward(self, feature: Tensor) -> Tensor:
        """The part of the units that was zero, or below, in everything seen so far."""
        if feature.is_meta:
            return feature.new_zeros(())
        alive = (feature.transpose(0, 1).flatten(1) > 0).any(1)
        self._alive = alive if self._alive is None else self._alive | alive
        return (~self._alive).to(feature).mean()

    def unite(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        """As :meth:`Layer.unite`."""
        own = torch.zeros(self._units, dtype=torch.bool) if self._alive is None else self._alive.cpu()
        self._alive = total(own.double()) > 0
        return (~self._alive).float().mean()
