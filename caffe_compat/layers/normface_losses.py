"""Distances to the centres of classes, and losses of them: InnerDistance, GeneralContrastiveLoss, GeneralTripletLoss.

Source: happynear/caffe-windows (NormFace), ``inner_distance_layer.cpp``, ``general_constrastive_loss_layer.cpp``,
``general_triplet_loss_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.labels import read_labels
from caffe_compat.layers.normface import unit_rows
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import indices
from caffe_compat.layers.sharing import Reads, with_gradient, with_gradients

__all__ = ["GeneralContrastiveLoss", "GeneralTripletLoss", "InnerDistance"]


@register(dialect="normface")
class InnerDistance(Layer):
    """Squared distances of the items (Tensor[M, ..., K], flattened from ``axis`` on) from rows of weights [N, K].

    The weights are a blob of ``num_output`` rows, or bottom 1.  ``distance_type: "L1"`` sums sizes; its gradient is the
    fork's, whose macro for the sign lacks parentheses: the top's diff where the difference is positive, -1 where it is
    negative.  ``normalize`` first makes the rows of the blob of length 1, for good.  With ``update_center_only`` and
    labels as bottom 2 a row gets gradients of items of its class only.  There is no bias.
    """

    caffe_type = "InnerDistance"
    bottom_count = (1, 3)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("inner_distance_param")
        section.ignore("bias_term", "bias_filler")
        self.section, self.kind = section, str(section.distance_type)
        self.own = bool(section.update_center_only)
        if self.kind not in ("L2", "L1"):
            raise self.error(f"inner_distance_param.distance_type is '{self.kind}', expected L2 or L1")
        if section.transpose:
            raise self.error("inner_distance_param.transpose is true, expected false: the fork's loops know no other")
        if self.own != (len(bottoms) == 3):
            raise self.error(
                f"has {len(bottoms)} bottoms, expected items, weights and labels with "
                "inner_distance_param.update_center_only only"
            )
        self.inputs = count(bottoms[0], section.axis("axis", len(bottoms[0])))
        self.unit = bool(section.normalize) and len(bottoms) == 1
        section.ignore("num_output", "weight_filler")
        if len(bottoms) == 1:
            self.add_blob((int(section.num_output), self.inputs), section.filler("weight_filler", Filler()))

    @property
    def has_blobs(self) -> bool:  # type: ignore[override]
        """With one bottom."""
        return len(self.params.bottoms) == 1

    @property
    def no_gradient(self) -> tuple[int, ...]:  # type: ignore[override]
        """The labels."""
        return (2,) if self.own else ()

    def backward_reads(self) -> Reads:
        """All bottoms."""
        return Reads(tuple(range(len(self.params.bottoms))))

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Labels: rows of the weights."""
        return indices(shapes[2], shapes[1][0], random) if bottom == 2 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The axes before ``axis``, and the rows."""
        x = tuple(bottoms[0])
        axis = self.section.axis("axis", len(x))
        weight = tuple(bottoms[1]) if len(bottoms) > 1 else self.blob_shapes[0]
        self.require(
            count(x, axis) == self.inputs and bool(weight) and count(weight, 1) == self.inputs,
            f"bottom 0 has the shape {list(x)} and the weights {list(weight)}, expected {self.inputs} numbers of each "
            "item and row",
        )
        self.require(
            len(bottoms) < 3 or count(bottoms[2]) == count(x, 0, axis),
            f"bottom 2 has the shape {list(bottoms[-1])}, expected {count(x, 0, axis)} labels",
        )
        return [(*x[:axis], weight[0])]

    def forward(self, bottom: Tensor, *more: Tensor) -> Tensor:
        """Without an array of all differences, but for the gradient of L1."""
        if self.unit:
            unit_rows(self.blob(0))
        axis = self.section.axis("axis", bottom.dim())
        weight = more[0].reshape(len(more[0]), self.inputs) if more else self.blob(0)
        x = bottom.reshape(count(bottom.shape, 0, axis), self.inputs)
        top = self._distances(x, weight, more[1] if self.own else None)
        return top.reshape(*bottom.shape[:axis], len(weight))

    def _distances(self, x: Tensor, weight: Tensor, labels: Tensor | None) -> Tensor:
        rows = None
        if labels is not None:
            which = read_labels(self, labels.reshape(-1), len(weight), None)[0]
            rows = _columns(which, len(weight)).to(x.dtype)
        if self.kind == "L2":
            exact = "donot_use_mm_for_euclid_dist"
            if rows is None:
                return torch.cdist(x, weight, compute_mode=exact).square()
            top = torch.cdist(x, weight.detach(), compute_mode=exact).square()
            own = torch.cdist(x.detach(), weight, compute_mode=exact).square()
            return top + rows * (own - own.detach())

        def rule(seed: Tensor) -> Sequence[Tensor]:
            step = x.detach()[:, None] - weight.detach()
            above, below = (step > 0).to(seed), (step < 0).to(seed)
            mine = torch.ones_like(seed) if rows is None else rows
            to_x = (seed[..., None] * above - below).sum(1)
            return to_x, (mine[..., None] * (seed[..., None] * below - above)).sum(0)

        return with_gradients(torch.cdist(x.detach(), weight.detach(), p=1.0), [x, weight], rule)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Differences, and ReduceSum."""
        if self.unit:
            unit_rows(self.blob(0))
        axis = self.section.axis("axis", len(graph.shape(bottoms[0])))
        x = graph.add("Reshape", [bottoms[0], graph.constant([0] * axis + [1, self.inputs])])
        weight = bottoms[1] if len(bottoms) > 1 else graph.parameter(self, 0)
        if len(bottoms) > 1:
            weight = graph.add("Flatten", [weight], axis=1)
        step = graph.add("Sub", [x, weight])
        sizes = graph.add("Abs", [step]) if self.kind == "L1" else graph.add("Mul", [step, step])
        graph.node("ReduceSum", [sizes, graph.constant([-1])], tops, keepdims=0)


def _columns(which: Tensor, columns: int) -> Tensor:
    """True in the column of each row (int64[N] -> bool[N, columns])."""
    return which[:, None] == torch.arange(columns, device=which.device)


class _DistanceLoss(LossLayer):
    """What the two share: distances (Tensor[N, C]), labels, a second top of means that passes no gradient."""

    bottom_count = (2, 3)
    top_count = (1, 2)
    no_gradient = (1, 2)

    def backward_reads(self) -> Reads:
        """All bottoms."""
        return Reads(tuple(range(len(self.params.bottoms))))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; mean distances from the own centre and the others."""
        tops = super().top_shapes(bottoms[:2])
        self.require(
            len(bottoms[0]) > 1 and count(bottoms[0], 1) > 1 and count(bottoms[1]) == bottoms[0][0] > 0,
            f"bottoms have the shapes {list(bottoms[0])} and {list(bottoms[1])}, expected distances from two or more "
            "centres and a label for each item",
        )
        return [*tops, (2,)][: max(1, len(self.params.tops))]

    def _own(self, distances: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Where the columns are those of the labels (bool[N, C]), and the distances there (Tensor[N, 1])."""
        which = read_labels(self, label.reshape(-1), distances.shape[1], None)[0]
        return _columns(which, distances.shape[1]), distances.gather(1, which[:, None])

    def _tops(self, source: Tensor, slope: Tensor, loss: Tensor, means: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The loss, whose gradient is ``slope`` / N, and the means."""
        shaped = slope.reshape(source.shape) / len(source)
        value = with_gradient(loss / len(source), source, lambda seed: seed * shaped)
        others = slope.shape[1] - 1
        mean = torch.stack([means[0] / len(source), means[1] / len(source) / others])
        return (value, mean)[: max(1, len(self.params.tops))]


@register(dialect="normface")
class GeneralContrastiveLoss(_DistanceLoss):
    """Sum of what the own centre is too far and other centres are too near, over N.

    Too far: distance - ``positive_margin``, at most ``positive_outlier_thresh``, times ``positive_weight``; too near:
    ``negative_margin`` - distance, or exp(-distance) with ``exp_negative_weight``, times ``negative_weight``.  The
    gradient is that of the fork: past ``positive_outlier_thresh`` itself nothing pulls; ``normalize_negative`` divides
    the push by its mean over that number, where that is more than ``positive_weight``.  ``positive_first`` leaves out
    the push where the own distance is above ``positive_upper_bound``.  ``max_positive_only`` keeps of all items the
    *smallest* pull and ``max_negative_only`` of an item the largest push, found as the fork finds them: class 0 is the
    largest to begin with, though it may be the own.  A third bottom is measured instead of the first.
    ``add_intra_mae`` is not known here.
    """

    caffe_type = "GeneralContrastiveLoss"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("general_contrastive_loss_param")
        params.section("general_triplet_loss_param").ignore(*_TRIPLET)  # a net of the fork's authors has both
        section.ignore("square", "max_negative_margin")
        self.margins = float(section.positive_margin), float(section.negative_margin)
        self.weights = float(section.positive_weight), float(section.negative_weight)
        self.outlier, self.upper = float(section.positive_outlier_thresh), float(section.positive_upper_bound)
        self.first, self.exponential = bool(section.positive_first), bool(section.exp_negative_weight)
        self.one_pull, self.one_push = bool(section.max_positive_only), bool(section.max_negative_only)
        self.push: float | None = section.optional("normalize_negative")
        if section.add_intra_mae:
            raise self.error(
                "general_contrastive_loss_param.add_intra_mae is true, expected false: it is not known here"
            )
        if self.push == 0:
            raise self.error("general_contrastive_loss_param.normalize_negative is 0, expected another number or none")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; mean distances."""
        tops = super().top_shapes(bottoms)
        self.require(
            len(bottoms) == 2 or tuple(bottoms[2]) == tuple(bottoms[0]),
            f"bottom 2 has the shape {list(bottoms[-1])}, expected that of bottom 0, {list(bottoms[0])}",
        )
        return tops

    def forward(self, source: Tensor, label: Tensor, other: Tensor | None = None) -> tuple[Tensor, ...]:
        """The loss and the fork's gradient at once."""
        with torch.no_grad():
            d = (source if other is None else other).detach().flatten(1)
            own, same = self._own(d, label)
            near = ~own & (d < self.margins[1])
            far = (d - self.margins[0]).clamp(min=0).clamp(max=self.outlier)
            gap = (self.margins[1] - d).clamp(min=0)
            force = torch.exp(-d) if self.exponential else gap
            parts = torch.where(own, far * self.weights[0], torch.where(near, force * self.weights[1], 0))
            late = (same > self.upper) & self.first  # pushes wait there
            pulls, pushes = own, near
            if self.one_pull:
                least = torch.where(own, parts, 0).sum(1).argmin()
                pulls = own & (torch.arange(len(d), device=d.device) == least)[:, None]
            if self.one_push:
                choice = torch.where(near, parts, -torch.inf)
                choice[:, 0] = parts[:, 0]
                pushes = near & _columns(choice.argmax(1), d.shape[1])
            pushes = pushes & ~late
            loss = torch.where(pulls | pushes, parts, 0).abs().sum()
            held = (pulls & (d > self.margins[0]) & (d < self.outlier)) | (own & late)
            slope = self.weights[0] * held.to(d) + self._push(d, pushes)
            means = [(far * own).sum(), (gap * near).sum()]
        return self._tops(source, slope, loss, means)

    def _push(self, d: Tensor, pushes: Tensor) -> Tensor:
        """What Backward_cpu makes of other centres, before it is divided by the number of items."""
        force = torch.exp(-d) if self.exponential else torch.ones_like(d)
        push = torch.where(pushes, -force * self.weights[1], 0)
        if self.push is None:
            return push
        mean = push.sum().abs() / self.push / len(d)
        return torch.where(mean > self.weights[0], push / mean, push)


@register(dialect="normface")
class GeneralTripletLoss(_DistanceLoss):
    """Sum over other centres of own distance + ``margin`` - distance where positive, times ``negative_weight``, over N.

    ``hardest_only`` keeps the largest of each item, ``positive_first`` none of an item whose own distance is above
    ``positive_upper_bound``.  The gradient is the fork's: -``negative_weight`` for each, and once ``positive_weight``
    for the own distance, if there is one or with ``add_center_loss`` (the default) always; a hardest distance of 0
    keeps what the forward pass left in its place.  A third bottom weighs the items' gradients.
    """

    caffe_type = "GeneralTripletLoss"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("general_triplet_loss_param")
        self.margin, self.upper = float(section.margin), float(section.positive_upper_bound)
        self.weights = float(section.positive_weight), float(section.negative_weight)
        self.center, self.hardest = bool(section.add_center_loss), bool(section.hardest_only)
        self.first = bool(section.positive_first)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; mean distances."""
        tops = super().top_shapes(bottoms)
        self.require(
            len(bottoms) == 2 or count(bottoms[2]) == bottoms[0][0],
            f"bottom 2 has the shape {list(bottoms[-1])}, expected a weight for each of {bottoms[0][0]} items",
        )
        return tops

    def forward(self, source: Tensor, label: Tensor, item_weight: Tensor | None = None) -> tuple[Tensor, ...]:
        """The loss and the fork's gradient at once."""
        with torch.no_grad():
            d = source.detach().flatten(1)
            own, same = self._own(d, label)
            parts = (same + self.margin - d).clamp(min=0) * self.weights[1] * ~own
            late = (same > self.upper) & self.first
            slope = -self.weights[1] * (~own & (same + self.margin > d)).to(d)
            if self.hardest:
                positive = torch.where(parts > 0, parts, -torch.inf)
                found = (parts > 0).any(1, keepdim=True)
                hard = _columns(positive.argmax(1), d.shape[1]) & found
                parts = torch.where(found, parts * hard, parts)
                slope = torch.where(hard & (d != 0), torch.full_like(d, -self.weights[1]), parts)
                pulled = (hard & (d != 0)).any(1, keepdim=True)
            else:
                pulled = (~own & (same + self.margin > d)).any(1, keepdim=True)
            pull = (late | self.center | pulled) * self.weights[0]
            slope = torch.where(own, pull, slope * ~late)
            if item_weight is not None:
                slope = slope * item_weight.reshape(-1, 1)
            means = [same.sum(), (d * ~own).sum()]
        return self._tops(source, slope, (parts * ~late).abs().sum(), means)


_TRIPLET = (
    "margin",
    "add_center_loss",
    "hardest_only",
    "positive_first",
    "positive_upper_bound",
    "positive_weight",
    "negative_weight",
)
