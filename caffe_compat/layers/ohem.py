"""Online hard example mining as R-FCN does it: losses of single regions, and which regions count.

Source: ``softmax_loss_ohem_layer.cu``, ``smooth_L1_loss_ohem_layer.cpp`` and ``box_annotator_ohem_layer.cpp`` of
daijifeng001/caffe-rfcn and intel/caffe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, Shape, count
from caffe_compat.layers.labels import (
    Normalizer,
    can_look,
    check_labels,
    legacy_rank,
    legacy_shape,
    on_axis,
    read_indices,
    read_labels,
    same_legacy_shape,
)
from caffe_compat.layers.losses import FLT_MIN
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, kept
from caffe_compat.layers.softmax import softmax_section

__all__ = ["BoxAnnotatorOHEM", "RfcnSmoothL1Loss", "RfcnSoftmaxWithLoss", "SmoothL1LossOHEM", "SoftmaxWithLossOHEM"]


class _SoftmaxLoss(torch.autograd.Function):
    """Sum over the positions, each position's loss, and the softmax; only the sum has a gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, valid: Tensor | None, axis: int, divisor: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        softmax = scores.softmax(axis)
        each = -softmax.gather(axis, label).clamp(min=FLT_MIN).log()
        if valid is not None:
            each = each.masked_fill(~valid, 0)
        ctx.save_for_backward(softmax, label, valid)
        ctx.axis, ctx.divisor = axis, divisor
        ctx.mark_non_differentiable(each, softmax)
        return each.sum() / divisor, each, softmax

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        softmax, label, valid = ctx.saved_tensors
        diff = softmax.scatter_add(ctx.axis, label, softmax.new_full(label.shape, -1.0))
        if valid is not None:
            diff = diff * valid
        return diff * (seed / ctx.divisor), None, None, None, None


@register(dialect="rfcn")
class SoftmaxWithLossOHEM(LossLayer):
    """SoftmaxWithLoss with up to three tops: the loss, the softmax, and the loss of each position.

    The gradient is that of the first top alone.  The third top has the shape of the labels and is 0 where they are
    ignored.  Several tops need a ``loss_weight`` each.  The CPU code of the forks adds up the first so many positions
    instead of those that count; the GPU code, followed here, does not.
    """

    caffe_type = "SoftmaxWithLossOHEM"
    judges_classes = True
    creates_layer = True  # a Softmax
    top_count = (1, 3)
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.softmax, self.normalizer = softmax_section(params, bottoms[0]), Normalizer(params)
        if len(params.tops) > 1 and not params.description.loss_weights:
            raise self.error(
                f"with {len(params.tops)} tops each needs a loss_weight, expected {len(params.tops)} entries"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, the shape of the scores, the shape of the labels."""
        super().top_shapes(bottoms)
        check_labels(self, bottoms[0], bottoms[1], self.softmax.axis("axis", len(bottoms[0])))
        return [(), tuple(bottoms[0]), tuple(bottoms[1])][: max(1, len(self.params.tops))]

    def forward(self, scores: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Sum over the positions that are not ignored, divided by the normalizer."""
        axis = self.softmax.axis("axis", scores.dim())
        which, valid = read_labels(self, on_axis(label, scores.shape, axis), scores.shape[axis], self.normalizer.ignore)
        outer, inner = count(scores.shape, 0, axis), count(scores.shape, axis + 1)
        divisor = self.normalizer.divisor(valid, outer, inner)
        loss, each, softmax = _SoftmaxLoss.apply(scores, which, valid, axis, divisor)  # type: ignore[no-untyped-call]
        tops: tuple[Tensor, ...] = (loss, softmax, each.reshape(label.shape))
        return tops[: max(1, len(self.params.tops))]


@register(when=lambda params: len(params.tops) > 2 and params.speaks("rfcn", "cascade"), dialect="rfcn")
class RfcnSoftmaxWithLoss(SoftmaxWithLossOHEM):
    """The same under BVLC's name: in daijifeng001/caffe-rfcn, whose third top no other SoftmaxWithLoss has."""

    caffe_type = "SoftmaxWithLoss"


class _SmoothL1(torch.autograd.Function):
    """Sum and each position's sum over the channels; the weights are left out of the gradient, as there."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, weight: Tensor | None, shape: Shape, divisor: float
    ) -> tuple[Tensor, Tensor]:
        difference = (a - b) if weight is None else weight * (a - b)
        size = difference.abs()
        error = torch.where(size < 1, 0.5 * difference.square(), size - 0.5)
        ctx.save_for_backward(torch.where(size < 1, difference, difference.sign()))
        ctx.divisor = divisor
        each = error.reshape(shape).sum(1, keepdim=True)
        ctx.mark_non_differentiable(each)
        return error.sum() / divisor, each

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        diff = slope * (seed / ctx.divisor)
        return diff, -diff, None, None, None


@register(dialect="rfcn")
class SmoothL1LossOHEM(LossLayer):
    """Sum of f(w (a - b)) over a normalizer; f(d) = d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere.

    Bottoms: a, b[, w].  Second top: each position's sum over the channels (Tensor[N, 1, H, W]), without a gradient.
    The gradient is f'(w (a - b)), without the factor w, which is the derivative for weights 0 and 1 only.  The
    normalizer is N x H x W (FULL, VALID and by default), N (BATCH_SIZE), 1 (NONE) or ``pre_fixed_normalizer``.  The
    default loss weight is 0: write ``loss_weight: 1``.
    """

    caffe_type = "SmoothL1LossOHEM"
    bottom_count = (2, 3)
    top_count = (1, 2)
    default_loss_weight = 0.0
    unforced = ()

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        params.section("loss_param").ignore("ignore_label")
        self.normalizer = Normalizer(params)

    def backward_reads(self) -> Reads:
        """Nothing: the difference is kept."""
        return Reads()

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """The loss again, of the bottoms of the forward pass."""
        pairs = zip(memory.then[:2], memory.bottoms[:2], strict=True)
        tops: tuple[Tensor, ...] = self(*(kept(then, now) for then, now in pairs), *memory.then[2:])
        return tops

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, and N x 1 x H x W."""
        super().top_shapes(bottoms)
        number, _, height, width = same_legacy_shape(self, bottoms)
        return [(), (number, 1, height, width)][: max(1, len(self.params.tops))]

    def forward(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> tuple[Tensor, ...]:
        """No gradient goes to the weights."""
        shape = legacy_shape(a.shape)
        divisor = self.normalizer.divisor(None, shape[0], shape[2] * shape[3])
        weight = None if weight is None else weight.detach().reshape(a.shape)
        loss, each = _SmoothL1.apply(a, b.reshape(a.shape), weight, shape, float(divisor))  # type: ignore[no-untyped-call]
        return (loss, each)[: max(1, len(self.params.tops))]


def _measures_regions(params: Params) -> bool:
    """Whether there is what fast-rcnn's layer, which divides by the number of regions, has not."""
    several = len(params.tops) > 1 and len(params.bottoms) < 4  # with four bottoms it is Cascade R-CNN's
    return (several and params.speaks("rfcn")) or params.section("loss_param").has("pre_fixed_normalizer")


@register(when=_measures_regions, dialect="rfcn")
class RfcnSmoothL1Loss(SmoothL1LossOHEM):
    """The same under fast-rcnn's name: in daijifeng001/caffe-rfcn (``smooth_L1_loss_layer.cu``)."""

    caffe_type = "SmoothL1Loss"


@register(dialect="rfcn")
class BoxAnnotatorOHEM(Layer):
    """Keeps the labels and box weights of the ``roi_per_img`` regions of an image whose loss is highest.

    Bottoms: regions (Tensor[R, 5, H, W]; the first channel is the image), the loss of each (Tensor[R, 1, H, W]), labels
    (the same shape), weights of their boxes (Tensor[R, B, H, W]).  Tops: labels, ``ignore_label`` where a region does
    not count, and weights, 0 there.  Of equal losses the first counts (Caffe's sort leaves that open).  No gradients.
    """

    caffe_type = "BoxAnnotatorOHEM"
    bottom_count = (4, 4)
    top_count = (2, 2)
    onnx_reason = "it chooses training examples; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("box_annotator_ohem_param")
        self.most, self.ignore = int(section.roi_per_img), int(section.ignore_label)
        if self.most < 1:
            raise self.error(f"box_annotator_ohem_param.roi_per_img is {self.most}, expected a positive number")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """R x 1 x H x W and R x B x H x W."""
        legacy_rank(self, bottoms)
        number, channels, height, width = legacy_shape(bottoms[0])
        self.require(
            channels == 5, f"bottom 0 has the shape {list(bottoms[0])}, expected R x 5 (index, x1, y1, x2, y2)"
        )
        for index in (1, 2, 3):
            shape = legacy_shape(bottoms[index])
            fits = shape[0] == number and shape[2:] == (height, width) and (index == 3 or shape[1] == 1)
            wanted = f"{number} x {'B' if index == 3 else 1} x {height} x {width}"
            self.require(fits, f"bottom {index} has the shape {list(bottoms[index])}, expected {wanted}")
        return [(number, 1, height, width), (number, legacy_shape(bottoms[3])[1], height, width)]

    @torch.no_grad()
    def forward(self, rois: Tensor, loss: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """One sort by loss, one by image."""
        shape, boxes = self.top_shapes([tuple(bottom.shape) for bottom in (rois, loss, labels, weights)])
        flat = loss.reshape(-1)
        if can_look(flat) and bool(flat.isnan().any()):
            raise self.error(f"bottom '{self.params.bottoms[1]}' holds NaN, expected the loss of each region")
        what = f"an image index in '{self.params.bottoms[0]}'"
        image = read_indices(self, rois.reshape(legacy_shape(rois.shape))[:, 0].reshape(-1), 1 << 31, what)
        by_loss = flat.argsort(descending=True, stable=True)
        order = by_loss[image[by_loss].argsort(stable=True)]
        at = torch.arange(len(order), device=order.device)
        first = torch.searchsorted(image[order].contiguous(), image[order].contiguous())
        counts = torch.zeros_like(at, dtype=torch.bool).scatter(0, order, at - first < self.most).reshape(shape)
        kept_labels = torch.where(counts, labels.reshape(shape), float(self.ignore))
        return kept_labels, torch.where(counts, weights.reshape(boxes), 0.0)
