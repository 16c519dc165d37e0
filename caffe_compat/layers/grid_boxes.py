"""Boxes that maps predict, one for each cell around a field of fixed size, as in MS-CNN and Cascade R-CNN.

Source: zhaoweicai/mscnn and zhaoweicai/cascade-rcnn (``bbox_util.cpp``: EncodeGroupBBoxes, DecodeGroupBBoxes,
DecodeBBoxesWithPrior).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params

__all__ = ["BoxNorm", "Fields", "Limits", "moved_priors", "span_overlap"]


@dataclass(frozen=True)
class BoxNorm:
    """``bbox_reg_param``: offsets are learned less their means, in parts of their standard deviations."""

    means: tuple[float, ...] = (0.0,) * 4
    stds: tuple[float, ...] = (1.0,) * 4

    @classmethod
    def read(cls, params: Params) -> BoxNorm:
        """That of a layer; without means or without deviations none, as there.

        Raises:
            LayerError: not four numbers of each, or a deviation that is not positive.
        """
        section = params.section("bbox_reg_param")
        means, stds = ([float(value) for value in section.value(name)] for name in ("bbox_mean", "bbox_std"))
        if not (means and stds):
            return cls()
        if (len(means), len(stds)) != (4, 4) or not all(map(math.isfinite, means + stds)) or min(stds) <= 0:
            raise params.error(
                f"bbox_reg_param has bbox_mean {means} and bbox_std {stds}, expected 4 numbers and 4 positive ones"
            )
        return cls(tuple(means), tuple(stds))

    def _columns(self, like: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        shape = [1] * like.dim()
        shape[axis] = 4
        return like.new_tensor(self.means).reshape(shape), like.new_tensor(self.stds).reshape(shape)

    def undone(self, offsets: Tensor, axis: int) -> Tensor:
        """Offsets as they are, out of those that were learned; the four lie along ``axis``."""
        means, stds = self._columns(offsets, axis)
        return offsets * stds + means

    def done(self, offsets: Tensor, axis: int) -> Tensor:
        """The opposite."""
        means, stds = self._columns(offsets, axis)
        return (offsets - means) / stds


@dataclass(frozen=True)
class Limits:
    """``field_xyr`` and ``field_whr``: offsets of centres reach 1 / xyr of the field, sides from 1 / whr to whr."""

    xyr: float
    whr: float

    @classmethod
    def read(cls, params: Params, field: str) -> Limits:
        """Those of a message.

        Raises:
            LayerError: they are not positive, or whr is below 1.
        """
        section = params.section(field)
        found = cls(float(section.field_xyr), float(section.field_whr))
        if not (0 < found.xyr < math.inf and 1 <= found.whr < math.inf):
            raise params.error(
                f"{field} has field_xyr {found.xyr:g} and field_whr {found.whr:g}, expected a positive number, and 1 "
                "or more"
            )
        return found

    def bounds(self, like: Tensor, norm: BoxNorm | None = None) -> tuple[Tensor, Tensor]:
        """Least and greatest offsets (Tensor[4, 1, 1] each), with ``norm`` of those that are learned.

        Means of two and roots of products of two stand for the means and deviations of x and y, as there.
        """
        high = like.new_tensor([1 / self.xyr] * 2 + [math.log(self.whr)] * 2)
        low = -high
        if norm is not None:
            pairs = ((0, 1), (2, 3))
            means = [(norm.means[a] + norm.means[b]) / 2 for a, b in pairs for _ in pairs]
            stds = [math.sqrt(norm.stds[a] * norm.stds[b]) for a, b in pairs for _ in pairs]
            low, high = ((side - like.new_tensor(means)) / like.new_tensor(stds) for side in (low, high))
        return low[:, None, None], high[:, None, None]


@dataclass(frozen=True)
class Fields:
    """Widths and heights of the fields of maps, which follow each other along axis 0, and the pixels of a cell."""

    widths: tuple[int, ...]
    heights: tuple[int, ...]
    stride: int

    def __len__(self) -> int:
        return len(self.widths)

    @classmethod
    def read(cls, params: Params, field: str, stride: str) -> Fields:
        """Those of a message whose sizes are single numbers or lists.

        Args:
            stride: the name of the field with the pixels of a cell.

        Raises:
            LayerError: not as many of each, or none that is positive.
        """
        section = params.section(field)
        sizes = [section.value(name) for name in ("field_w", "field_h")]
        widths, heights = (tuple(size) if isinstance(size, list) else (int(size),) for size in sizes)
        found = cls(tuple(map(int, widths)), tuple(map(int, heights)), int(section.value(stride)))
        found.check(params, field, stride)
        return found

    def check(self, params: Params, field: str, stride: str) -> None:
        """Raise a LayerError unless there are as many widths as heights, at least one, and all is positive."""
        if (
            not self.widths
            or len(self.widths) != len(self.heights)
            or min(*self.widths, *self.heights, self.stride) < 1
        ):
            raise params.error(
                f"{field} has field_w {list(self.widths)}, field_h {list(self.heights)} and {stride} {self.stride}, "
                "expected positive numbers, as many field_w as field_h"
            )

    def _of(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Fields (Tensor[M, 2, 1, 1]) of M maps and centres of cells (Tensor[2, H, W])."""
        height, width = maps.shape[-2:]
        sizes = maps.new_tensor([self.widths, self.heights]).T.repeat(maps.shape[0] // len(self), 1)
        rows, columns = (torch.arange(side, device=maps.device, dtype=maps.dtype) + 0.5 for side in (height, width))
        centres = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])
        return sizes[..., None, None], centres * self.stride

    def decoded(self, offsets: Tensor, limits: Limits) -> Tensor:
        """Boxes x y width height (x and y of the corner) out of offsets, both Tensor[M, 4, H, W]."""
        sizes, centres = self._of(offsets)
        low, high = limits.bounds(offsets)
        held = torch.minimum(torch.maximum(offsets, low), high)
        sides = sizes * held[:, 2:].exp()
        return torch.cat([held[:, :2] * sizes + centres - sides / 2, sides], 1)

    def encoded(self, boxes: Tensor) -> Tensor:
        """Offsets out of boxes x y width height (x and y of the centre), both Tensor[M, 4, H, W]."""
        sizes, centres = self._of(boxes)
        return torch.cat([(boxes[:, :2] - centres) / sizes, (boxes[:, 2:].clamp(min=2) / sizes).log()], 1)


def moved_priors(layer: Layer, offsets: Tensor, priors: Tensor) -> Tensor:
    """Boxes x1 y1 x2 y2 (Tensor[R, C, 4]) that offsets (the same) make of others (Tensor[R, 4]).

    Raises:
        LayerError: they are no finite numbers: an offset of a side is too large.
    """
    sides = (priors[:, 2:] - priors[:, :2] + 1)[:, None]
    centres = (0.5 * (priors[:, 2:] + priors[:, :2]))[:, None]
    grown = sides * offsets[..., 2:].exp()
    low = offsets[..., :2] * sides + centres - (grown - 1) / 2
    boxes = torch.cat([low, low + grown - 1], -1)
    if can_look(boxes) and not bool(torch.isfinite(boxes).all()):
        raise layer.error("offsets make boxes that are no finite numbers, expected smaller ones")
    return boxes


def span_overlap(first: Sequence[Tensor] | Tensor, second: Sequence[Tensor] | Tensor, pixel: int) -> Tensor:
    """Intersection over union of boxes x, y, width and height (four tensors each, broadcast).

    Args:
        pixel: 0: as MS-CNN has it (BoxIOU).  1: the last pixel counts, as in Cascade R-CNN (JaccardOverlap): boxes
            that share less than a pixel on a side do not overlap.
    """
    shared: Tensor | None = None
    for axis in (0, 1):
        low = torch.maximum(first[axis], second[axis])
        ends = (box[axis] + box[axis + 2] - pixel for box in (first, second))
        side = torch.minimum(*ends) - low
        side = torch.where((side >= 0) if pixel else (side > 0), side + pixel, 0)
        shared = side if shared is None else shared * side
    sides = [box[axis] for box in (first, second) for axis in (2, 3)]
    empty = torch.stack([side <= 0 for side in torch.broadcast_tensors(*sides)]).any(0)
    assert shared is not None
    shared = shared.masked_fill(empty, 0)
    union = sides[0] * sides[1] + sides[2] * sides[3] - shared
    return torch.where(shared > 0, shared / union, 0)
