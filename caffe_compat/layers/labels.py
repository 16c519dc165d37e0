"""What losses and scores make of labels: class numbers, what is ignored, what is divided by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.looking import judge
from caffe_compat.layers.params import Params

__all__ = [
    "Normalizer",
    "can_look",
    "check_labels",
    "check_regions",
    "judged_indices",
    "legacy_rank",
    "legacy_shape",
    "on_axis",
    "read_indices",
    "read_labels",
    "same_legacy_shape",
]


def can_look(value: Tensor) -> bool:
    """Whether values can be looked at now: not on the meta device, while compiling or while a CUDA graph is taken."""
    if value.device.type == "meta" or torch.compiler.is_compiling() or not value.numel():
        return False
    return not (value.is_cuda and torch.cuda.is_current_stream_capturing())


def read_indices(layer: Layer, blob: Tensor, end: int, what: str) -> Tensor:
    """``blob`` cut to whole numbers.

    Raises:
        LayerError: one of them is outside ``[0, end)``.
    """
    indices = blob.detach().long()
    if can_look(indices):
        _judge_range(layer, torch.stack(torch.aminmax(indices)).tolist(), end, what)
    return indices


def judged_indices(layer: Layer, blob: Tensor, end: int, what: str) -> tuple[Tensor, bool]:
    """The same, and whether they were looked at: a solver that trains on a GPU puts that off, and until it has looked
    indices out of range are the nearest that are not."""
    indices = blob.detach().long()
    if not can_look(indices):
        return indices, True
    looked = judge(torch.stack(torch.aminmax(indices)), lambda values: _judge_range(layer, values, end, what))
    return indices if looked else indices.clamp(0, max(end - 1, 0)), looked


def _judge_range(layer: Layer, bounds: Sequence[float], end: int, what: str) -> None:
    low, high = map(int, bounds)
    if low < 0 or high >= end:
        raise layer.error(f"{what} is {low if low < 0 else high}, expected 0 to {end - 1}")


def check_regions(layer: Layer, rois: Tensor, bottom: int = 1) -> None:
    """Raise unless all numbers of regions (Tensor[R, ...]) are finite.

    Raises:
        LayerError: names the bottom and the first such region.
    """
    wrong = ~torch.isfinite(rois.detach()).flatten(1).all(1)
    if can_look(wrong) and bool(wrong.any()):
        first = int(wrong.int().argmax())
        raise layer.error(
            f"region {first} in bottom '{layer.params.bottoms[bottom]}' is {rois[first].tolist()}, expected finite "
            "numbers"
        )


def read_labels(layer: Layer, label: Tensor, classes: int, ignore: int | None) -> tuple[Tensor, Tensor | None]:
    """Labels as class numbers, and where they are not ``ignore`` (``None``: nowhere); ignored ones become 0.

    Raises:
        LayerError: a label has no class; on a GPU, in training, some iterations later.
    """
    what = f"a label in bottom '{layer.params.bottoms[1]}'"
    whole, valid = label.detach().long(), None
    if ignore is not None:
        valid = whole != ignore
        whole = whole * valid
    return judged_indices(layer, whole, classes, what)[0], valid


class Normalizer:
    """What a loss is divided by: ``loss_param { ignore_label, normalize, normalization }``.

    R-FCN's ``PRE_FIXED`` is the number ``pre_fixed_normalizer``, at least 1 too.

    Args:
        default: the mode where neither ``normalization`` nor ``normalize`` is set.
    """

    def __init__(self, params: Params, default: str = "VALID") -> None:
        section = params.section("loss_param")
        self.ignore: int | None = section.optional("ignore_label")
        normalize = section.optional("normalize")
        self.mode = default if normalize is None else "VALID" if normalize else "BATCH_SIZE"
        if section.has("normalization"):
            self.mode = section.enum("normalization")
        self.fixed = float(section.pre_fixed_normalizer)

    def divisor(self, valid: Tensor | None, outer: int, inner: int) -> Tensor | float:
        """At least 1; ``valid`` is ``None`` where no position is ignored."""
        if self.mode == "PRE_FIXED":
            return max(1.0, self.fixed)
        if self.mode == "VALID" and valid is not None:
            return valid.sum().clamp(min=1)
        return max(1, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[self.mode])


def legacy_rank(layer: Layer, bottoms: Sequence[Shape]) -> None:
    """Raise a ShapeError for more than 4 axes: the layer still speaks of num, channels, height and width."""
    for name, shape in zip(layer.params.bottoms, bottoms, strict=False):
        layer.require(len(shape) <= 4, f"bottom '{name}' has the shape {list(shape)}, expected at most 4 axes")


def legacy_shape(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Num, channels, height and width of at most 4 axes."""
    number, channels, height, width = (*shape, 1, 1, 1, 1)[:4]
    return number, channels, height, width


def same_legacy_shape(layer: Layer, bottoms: Sequence[Shape]) -> tuple[int, int, int, int]:
    """Num, channels, height and width of all bottoms; raise a ShapeError unless they agree."""
    legacy_rank(layer, bottoms)
    shapes = [legacy_shape(shape) for shape in bottoms]
    layer.require(len(set(shapes)) == 1, f"expected equal shapes, bottoms are {[list(shape) for shape in bottoms]}")
    return shapes[0]


def check_labels(layer: Layer, shape: Shape, label: Shape, axis: int) -> None:
    """Raise a ShapeError unless there is a label for each position of scores of that shape."""
    positions = count(shape, 0, axis) * count(shape, axis + 1)
    layer.require(
        positions == count(label),
        f"expected one label per position, {positions} for {list(shape)} with classes on axis {axis}; bottom "
        f"'{layer.params.bottoms[1]}' has the shape {list(label)}",
    )


def on_axis(label: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    """Labels in the shape of the scores, with one entry on the axis of the classes."""
    return label.reshape(*shape[:axis], 1, *shape[axis + 1 :])
