"""Layers of caffe-sds for hypercolumns: grids of classifiers, crops of maps, superpixels.

Linear interpolation between cell centres, held at the border, is the same everywhere here: the weight of centre k for
coordinate Y is max(0, 1 - |Y - k|) once Y is held in [0, cells - 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import can_look, read_indices
from caffe_compat.layers.losses import FLT_MIN
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes

__all__ = [
    "BoxUpsample",
    "LocallyConnected",
    "LocallyConnectedWithLoss",
    "SuperpixelProjection",
    "tents",
]

_PIXELS_AT_ONCE = 1 << 25  #: regions x pixels that SuperpixelProjection holds at a time


def tents(coordinate: Tensor, cells: int) -> Tensor:
    """Weights (Tensor[P, cells]) of the cell centres for coordinates (Tensor[P])."""
    at = torch.arange(cells, dtype=coordinate.dtype, device=coordinate.device)
    return (1 - (coordinate.clamp(0, cells - 1)[:, None] - at).abs()).clamp(min=0)


def _centres(size: int, cells: int, like: Tensor | None = None) -> Tensor:
    """Centres of ``size`` pixels, measured in ``cells`` cells that cover the same length."""
    if like is None:
        return (torch.arange(size, dtype=torch.float32) + 0.5) * cells / size - 0.5
    return (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * cells / size - 0.5


def _grid_weights(grid: int, height: int, width: int, like: Tensor | None = None) -> Tensor:
    """Weights of the classifiers of a grid at every pixel (Tensor[grid * grid, H, W])."""
    rows, columns = tents(_centres(height, grid, like), grid), tents(_centres(width, grid, like), grid)
    return torch.einsum("yi,xj->ijyx", rows, columns).reshape(grid * grid, height, width)


def _mix(q: Tensor, grid: int) -> Tensor:
    """Probabilities (Tensor[N, K, H, W]) of a grid (Tensor[N, K, grid * grid, H, W]), rounded as Caffe's.

    The four corners are added in Caffe's order, with weights from coordinates cut to float32: where scores saturate,
    log(1 - p) is made of these roundings.
    """
    height, width = q.shape[3:]
    y, x = torch.arange(height, device=q.device)[:, None], torch.arange(width, device=q.device)
    total = torch.zeros_like(q[:, :, 0])
    for row, row_weight in _corners(height, grid, q):
        for column, column_weight in _corners(width, grid, q):
            total = total + row_weight[:, None] * column_weight * q[:, :, row[:, None] * grid + column, y, x]
    return total


def _corners(size: int, grid: int, like: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The cells before and after each pixel, with their weights."""
    centre = torch.arange(size, dtype=torch.float64, device=like.device) + 0.5
    coordinate = (centre * grid / size - 0.5).to(like.dtype)
    low = coordinate.floor()
    before, after = low.clamp(min=0).long(), (low + 1).clamp(max=grid - 1).long()
    return (before, low + 1 - coordinate), (after, coordinate - low)


class _GridLayer(Layer):
    """What the locally connected layers share."""

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section = params.section("local_layer_param")
        self.grid = int(self.section.grid_size)
        if not self.grid:
            raise self.error("local_layer_param.grid_size is 0 or missing, expected a positive number")

    def _channels(self, scores: Shape) -> int:
        self.require(len(scores) == 4, f"expected scores N x C x H x W, bottom 0 has the shape {list(scores)}")
        self.require(
            scores[1] > 0 and scores[1] % self.grid**2 == 0,
            f"has {scores[1]} channels, expected a multiple of grid_size^2 = {self.grid**2}",
        )
        return scores[1] // self.grid**2


@register
class LocallyConnected(_GridLayer):
    """A grid of classifiers per output channel; each pixel mixes the probabilities of the 4 nearest ones.

    Scores have grid_size^2 channels per output channel (grid row by row); the top holds probabilities.
    """

    caffe_type = "LocallyConnected"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.section.ignore("pos_loss_wt", "neg_loss_wt")  # of LocallyConnectedWithLoss, same message

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """grid_size^2 times fewer channels."""
        channels = self._channels(bottoms[0])
        return [(bottoms[0][0], channels, *bottoms[0][2:])]

    def forward(self, scores: Tensor) -> Tensor:
        """Weighted sum of sigmoids."""
        number, channels, height, width = scores.shape
        weights = _grid_weights(self.grid, height, width, scores)
        cells = scores.reshape(number, channels // self.grid**2, self.grid**2, height, width)
        return (cells.sigmoid() * weights).sum(2)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Sigmoid, weights, sum over the grid; height and width are fixed, as the weights depend on them."""
        shape = graph.shape(bottoms[0])
        if None in shape[1:]:
            shape = graph.static_shape(bottoms[0], "the weights of the grid depend on its height and width")
        channels, height, width = (int(dim or 0) for dim in shape[1:])
        cells = self.grid**2
        split = graph.constant([-1, channels // cells, cells, height, width])
        weights = _grid_weights(self.grid, height, width).numpy()
        mixed = graph.add(
            "Mul",
            [graph.add("Sigmoid", [graph.add("Reshape", [bottoms[0], split])]), graph.constant(weights, np.float32)],
        )
        graph.node("ReduceSum", [mixed, graph.constant([2])], tops, keepdims=0)


class _GridLoss(torch.autograd.Function):
    """Loss of LocallyConnectedWithLoss, with the gradient that its GPU code computes."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, wanted: Tensor, weights: Tensor, losses: tuple[float, float]
    ) -> Tensor:
        number, channels, height, width = label.shape
        q = (
            scores.double()
            .sigmoid()
            .to(scores.dtype)
            .reshape(number, channels, scores.shape[1] // max(channels, 1), height, width)
        )
        p = _mix(q, math.isqrt(q.shape[2]))
        positive, negative = label > 0.5, (label >= 0) & (label < 0.5)
        logs = losses[0] * p.clamp(min=FLT_MIN).log() * positive
        logs = logs + losses[1] * (1 - p).clamp(min=FLT_MIN).log() * negative
        ctx.save_for_backward(q, p, label, wanted, weights)
        return -(logs.sum((1, 2, 3)) * wanted).sum() / number

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, p, label, wanted, weights = ctx.saved_tensors
        p, label = p[:, :, None], label[:, :, None]
        positive = label > 0.5
        right = torch.where(positive, q, 1 - q)
        whole = torch.where(positive, p, 1 - p).clamp(min=FLT_MIN)
        slope = (weights * right / whole).clamp(0, 1) * torch.where(positive, q - 1, q) * (label >= 0)
        slope = slope * (grad / len(q) * wanted)[:, None, None, None, None]
        return slope.flatten(1, 2), None, None, None, None


@register
class LocallyConnectedWithLoss(_GridLayer, LossLayer):
    """LocallyConnected and the cross entropy of its probabilities, summed over pixels, divided by the boxes.

    Bottoms: scores (Tensor[N, K * grid^2, H, W]), labels (Tensor[N, K, H, W]: above 0.5 positive, below 0 ignored,
    else negative) and a weight per box (Tensor[N]).  ``pos_loss_wt`` and ``neg_loss_wt`` (default 0) weigh the value
    but not the gradient.  The default loss weight is 0.  This is the GPU code of caffe-sds, which trained the
    published nets; its CPU code does not divide the gradient by N.
    """

    caffe_type = "LocallyConnectedWithLoss"
    bottom_count = (3, 3)
    default_loss_weight = 0.0
    unforced = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.losses = (float(self.section.pos_loss_wt), float(self.section.neg_loss_wt))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        scores, label, wanted = bottoms
        channels = self._channels(scores)
        self.require(
            tuple(label) == (scores[0], channels, *scores[2:]),
            f"expected labels {[scores[0], channels, *scores[2:]]}, bottom 1 has the shape {list(label)}",
        )
        self.require(
            count(wanted) == scores[0], f"expected one weight per box, {scores[0]}, bottom 2 is {list(wanted)}"
        )
        return [()]

    def forward(self, scores: Tensor, label: Tensor, wanted: Tensor) -> Tensor:
        """Gradients go to the scores only."""
        weights = _grid_weights(self.grid, scores.shape[2], scores.shape[3], scores)
        top: Tensor = _GridLoss.apply(scores, label.detach(), wanted.detach().flatten(), weights, self.losses)
        return top


@register
class BoxUpsample(Layer):
    """Crops of maps, each resized to height x width by bilinear interpolation.

    Bottoms: maps (Tensor[L, C, H, W]) and boxes (Tensor[R, 6]: level, group, x1, y1, x2, y2; corners in 0..1 of the
    map).  Group g means the channels from g * channels on.  What lies outside the map repeats its border (Caffe reads
    out of bounds more than half a cell away from it).  The gradient is the exact one; caffe-sds on CPU computes
    another at the borders.
    """

    caffe_type = "BoxUpsample"
    bottom_count = (2, 2)
    per_box = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("box_upsample_param")
        for name in ("width", "height", "channels"):
            if not section.optional(name):
                raise self.error(f"box_upsample_param.{name} is missing or 0, expected a positive number")
        self.height, self.width, self.channels = int(section.height), int(section.width), int(section.channels)

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Boxes with a level, a group and corners in 0..1."""
        levels, channels = shapes[0][:2]
        return boxes(shapes[1], (levels, channels // self.channels), (1, 1), random) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One crop per box."""
        maps, boxes = bottoms
        self.require(len(maps) == 4, f"expected maps L x C x H x W, bottom 0 has the shape {list(maps)}")
        self.require(min(maps[2:]) > 0, f"the maps have the shape {list(maps)}, expected some pixels")
        self.require(maps[1] >= self.channels, f"has {maps[1]} channels, expected at least {self.channels}")
        self.require(
            len(boxes) in (2, 3, 4) and count(boxes, 1) == 6,
            f"expected boxes R x 6 (level, group, x1, y1, x2, y2), bottom 1 has the shape {list(boxes)}",
        )
        return [(boxes[0], self.channels, self.height, self.width)]

    def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Every output pixel is a weighted sum of four rows of channels, looked up in one embedding bag."""
        levels, channels, height, width = maps.shape
        groups = channels // self.channels
        boxes = boxes.detach().to(maps.dtype).reshape(-1, 6)
        name = self.params.bottoms[1]
        level = read_indices(self, boxes[:, 0], levels, f"a level in '{name}'")
        group = read_indices(self, boxes[:, 1], groups, f"a group in '{name}'")
        y, wy = _neighbours(boxes[:, 3], boxes[:, 5], self.height, height)
        x, wx = _neighbours(boxes[:, 2], boxes[:, 4], self.width, width)
        table = maps[:, : groups * self.channels].reshape(levels * groups, self.channels, height * width).movedim(1, 2)
        plane = (level * groups + group)[:, None, None, None, None] * (height * width)
        index = plane + y[:, :, None, :, None] * width + x[:, None, :, None, :]  # R, height, width, 2, 2
        weight = wy[:, :, None, :, None] * wx[:, None, :, None, :]
        rows = F.embedding_bag(
            index.reshape(-1, 4),
            table.reshape(-1, self.channels),
            per_sample_weights=weight.reshape(-1, 4),
            mode="sum",
        )
        return rows.view(len(boxes), self.height, self.width, self.channels).permute(0, 3, 1, 2).contiguous()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """GridSample (half-pixel centres, border padding) of the chosen maps."""
        maps, boxes = bottoms
        channels = int(graph.shape(maps)[1] or 0)
        groups = channels // self.channels
        if groups * self.channels != channels:
            axis = [graph.constant([value]) for value in (0, groups * self.channels, 1)]
            maps = graph.add("Slice", [maps, *axis])
        table = graph.add("Reshape", [maps, graph.constant([-1, self.channels, 0, 0])])
        boxes = graph.add("Reshape", [boxes, graph.constant([-1, 6])])

        def column(index: int) -> str:
            return graph.add("Gather", [boxes, graph.constant([index])], axis=1)

        level, group = (graph.add("Cast", [column(index)], to=7) for index in (0, 1))
        plane = graph.add("Add", [graph.add("Mul", [level, graph.constant(groups)]), group])
        planes = graph.add("Gather", [table, graph.add("Reshape", [plane, graph.constant([-1])])], axis=0)

        def coordinates(low: str, high: str, size: int) -> str:
            at = (2 * (np.arange(size, dtype=np.float32) + 0.5) / size)[None]
            extent = graph.add("Mul", [graph.add("Sub", [high, low]), graph.constant(at, np.float32)])
            shift = graph.add("Sub", [graph.add("Mul", [low, graph.constant(2.0)]), graph.constant(1.0)])
            return graph.add("Add", [extent, shift])

        x, y = coordinates(column(2), column(4), self.width), coordinates(column(3), column(5), self.height)
        ones = np.ones((1, self.height, self.width, 1), np.float32)
        x = graph.add("Reshape", [x, graph.constant([-1, 1, self.width, 1])])
        y = graph.add("Reshape", [y, graph.constant([-1, self.height, 1, 1])])
        full = [graph.add("Mul", [value, graph.constant(ones, np.float32)]) for value in (x, y)]
        grid = graph.add("Concat", full, axis=3)
        mode = "linear" if graph.opset >= 20 else "bilinear"
        graph.node("GridSample", [planes, grid], tops, mode=mode, padding_mode="border", align_corners=0)


def _neighbours(low: Tensor, high: Tensor, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """The two cells around each of ``size`` samples between ``low`` and ``high`` (of 0..1), and their weights."""
    at = (torch.arange(size, dtype=low.dtype, device=low.device) + 0.5) / size
    coordinate = ((at * (high - low)[:, None] + low[:, None]) * cells - 0.5).clamp(0, cells - 1)
    first = coordinate.floor()
    second = (first + 1).clamp(max=cells - 1)
    share = coordinate - first
    return torch.stack((first, second), -1).long(), torch.stack((1 - share, share), -1)


@register
class SuperpixelProjection(Layer):
    """Mean of box masks over superpixels; pixels of a superpixel outside the box count as 0.

    Bottoms: superpixel ids from 1 on (Tensor[1, 1, H, W]), boxes (Tensor[R, 6]: two unread values, x1, y1, x2, y2 in
    0..1) and masks (Tensor[R, 1, h, w]).  Top: Tensor[1, 1, R, S], where S is the largest id and so depends on the
    data; before the first forward pass it is 0.  No gradient.
    """

    caffe_type = "SuperpixelProjection"
    bottom_count = (3, 3)
    onnx_reason = "the shape of the top depends on the ids in the map"
    sized_by_values = True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The last axis is 0, as the ids are not known yet."""
        ids, boxes, masks = bottoms
        self.require(len(ids) == 4 and ids[:2] == (1, 1), f"expected ids 1 x 1 x H x W, bottom 0 is {list(ids)}")
        self.require(bool(boxes) and count(boxes, 1) == 6, f"expected boxes R x 6, bottom 1 is {list(boxes)}")
        self.require(
            len(masks) == 4 and masks[0] == boxes[0] and masks[1] == 1,
            f"expected masks {boxes[0]} x 1 x h x w, bottom 2 is {list(masks)}",
        )
        return [(1, 1, boxes[0], 0)]

    @torch.no_grad()
    def forward(self, ids: Tensor, boxes: Tensor, masks: Tensor) -> Tensor:
        """Some boxes at a time, so that their pixels fit into memory."""
        height, width = ids.shape[2:]
        numbers = ids.flatten().long() - 1
        segments = int(numbers.max()) + 1 if can_look(numbers) else 0
        if can_look(numbers) and int(numbers.min()) < 0:
            raise self.error(f"superpixel {int(numbers.min()) + 1} in '{self.params.bottoms[0]}', expected ids from 1")
        boxes = boxes.reshape(-1, 6)
        columns, inside_x = _cells(boxes[:, 2] * width, boxes[:, 4] * width, width, masks.shape[3])
        rows, inside_y = _cells(boxes[:, 3] * height, boxes[:, 5] * height, height, masks.shape[2])
        top = masks.new_zeros(len(boxes), segments)
        at_once = max(1, math.floor(_PIXELS_AT_ONCE / max(1, numbers.numel())))
        for start in range(0, len(boxes) if segments else 0, at_once):
            part = slice(start, start + at_once)
            picked = masks[part, 0].gather(1, rows[part, :, None].expand(-1, -1, masks.shape[3]))
            picked = picked.gather(2, columns[part, None].expand(-1, height, -1))
            picked = picked * (inside_y[part, :, None] & inside_x[part, None])
            top[part].index_add_(1, numbers, picked.flatten(1))
        sizes = torch.bincount(numbers, minlength=segments).clamp(min=1) if segments else 1
        return (top / sizes)[None, None]


def _cells(low: Tensor, high: Tensor, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """For each of ``size`` pixels its mask cell in each box (Tensor[R, size]), and whether it is in the box."""
    at = torch.arange(size, dtype=low.dtype, device=low.device)
    low, high = low[:, None], high[:, None]
    cell = ((at - low) / (high - low + 1) * cells).floor().clamp(0, cells - 1).long()
    return cell, (at >= low.ceil().clamp(0, size - 1)) & (at <= high.floor().clamp(0, size - 1))
