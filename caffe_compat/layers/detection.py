"""Layers of Fast R-CNN and of simultaneous detection and segmentation: regions of interest and their losses."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, OnnxGraph, Shape, count
from caffe_compat.layers.labels import can_look, judged_indices, read_indices, same_legacy_shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.roi_onnx import write_roi_pooling
from caffe_compat.layers.samples import boxes

__all__ = ["CFMPooling", "ROIPooling", "SmoothL1Loss", "roi_pool"]

_MASKED_AT_ONCE = 1 << 26  #: elements of masked feature maps that CFMPooling holds at a time


def roi_pool(layer: Layer, feature: Tensor, rois: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
    """torchvision's roi_pool: its rounding and its float32 bins are Caffe's, and so is its gradient."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises RuntimeError
        raise layer.error(f"needs torchvision, built for torch {torch.__version__}: {error}") from error
    top: Tensor = torch.ops.torchvision.roi_pool(feature, rois, scale, *size)[0]
    return top


class _RoiLayer(Layer):
    """What the pooling layers share."""

    per_box = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("roi_pooling_param")
        self.size = (int(section.pooled_h), int(section.pooled_w))
        self.scale = float(section.spatial_scale)
        if 0 in self.size:
            raise self.error(f"roi_pooling_param: pooled_h, pooled_w must be > 0, not {self.size[0]}, {self.size[1]}")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions with an index, inside the image."""
        number, _, height, width = shapes[0]
        scale = self.scale or 1.0
        sides = (width / scale, height / scale)
        return boxes(shapes[1], [number], sides, random) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One pooled map per region."""
        feature, rois = bottoms[:2]
        self.require(len(feature) == 4, f"expected features N x C x H x W, bottom 0 has the shape {list(feature)}")
        self.require(
            len(rois) in (2, 3, 4) and count(rois, 1) == 5,
            f"expected regions R x 5 (index, x1, y1, x2, y2), bottom 1 has the shape {list(rois)}",
        )
        return [(rois[0], feature[1], *self.size)]


@register
class ROIPooling(_RoiLayer):
    """Maxima over a grid of bins in each region of interest.

    Bottoms: features (Tensor[N, C, H, W]) and regions (Tensor[R, 5]: index in the batch, x1, y1, x2, y2, corners
    inclusive, in image coordinates).  Corners are multiplied by ``spatial_scale`` in float32 and rounded with halves
    away from zero; a region is at least 1 x 1; empty bins are 0.  The gradient goes to the first maximum of a bin,
    row by row (the GPU code of caffe-fast-rcnn drops it where a region is inverted; the reference values do not).
    With ``pad_ratio`` (zhaoweicai/mscnn's) a region is wider by so many of its own widths on each side, and higher.
    """

    homogeneous = True
    caffe_type = "ROIPooling"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.pad = float(params.section("roi_pooling_param").pad_ratio)
        if not 0 <= self.pad < float("inf"):
            raise self.error(f"roi_pooling_param.pad_ratio is {self.pad:g}, expected 0 or more")

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def forward(self, feature: Tensor, rois: Tensor) -> Tensor:
        """One torchvision kernel."""
        rois = rois.detach().to(feature.dtype).reshape(-1, 5)
        what = f"an image index in '{self.params.bottoms[1]}'"
        images, looked = judged_indices(self, rois[:, 0], feature.shape[0], what)
        if not looked:
            rois = torch.cat([images[:, None].to(rois.dtype), rois[:, 1:]], 1)
        if self.pad:
            pad = (rois[:, 3:] - rois[:, 1:3] + 1) * self.pad
            rois = torch.cat([rois[:, :1], rois[:, 1:3] - pad, rois[:, 3:] + pad], 1)
        return roi_pool(self, feature, rois, self.scale, self.size)

    def _onnx_padded(self, graph: OnnxGraph, rois: str) -> str:
        """The regions with ``pad_ratio``."""
        add, constant = graph.add, graph.constant
        bounds = ((0, 1), (1, 3), (3, 5))
        image, low, high = (add("Slice", [rois, constant([a]), constant([b]), constant([1])]) for a, b in bounds)
        sides = add("Add", [add("Sub", [high, low]), constant(1.0)])
        pad = add("Mul", [sides, constant(self.pad)])
        return add("Concat", [image, add("Sub", [low, pad]), add("Add", [high, pad])], axis=1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """MaxRoiPool, whose rounding and bins are Caffe's, or for a GPU what equals it without being it."""
        feature, rois = bottoms
        if len(graph.shape(rois)) != 2:
            rois = graph.add("Reshape", [rois, graph.constant([-1, 5])])
        if self.pad:
            rois = self._onnx_padded(graph, rois)
        if graph.roi == "gpu":
            write_roi_pooling(graph, [feature, rois], tops, self.size, self.scale)
            return
        if graph.opset > 21:
            raise self.export_error(f"MaxRoiPool has no kernel beyond opset 21, opset {graph.opset} was asked for")
        graph.node("MaxRoiPool", [feature, rois], tops, pooled_shape=list(self.size), spatial_scale=self.scale)


@register
class CFMPooling(_RoiLayer):
    """ROIPooling of features that are masked by a shape inside each region (convolutional feature masking).

    Bottoms: features (Tensor[L, C, H, W]), regions (Tensor[R, 5]: level, x1, y1, x2, y2 in cells of the map, cut
    towards zero, inclusive) and masks (Tensor[R, 1, h, w], stretched over their regions).  A cell counts if the
    weighted mean of the mask around its centre is at least 0.5.  The second top, if any, is the binary map
    (Tensor[R, 1, H, W]).  Masks get no gradient.
    """

    caffe_type = "CFMPooling"
    bottom_count = (3, 3)
    top_count = (1, 2)
    onnx_reason = "ONNX has no masked region pooling"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if self.scale != 1:
            raise self.error(f"roi_pooling_param.spatial_scale is {self.scale:g}; this layer takes cells, expected 1")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One pooled map per region; one binary map per region."""
        tops = super().top_shapes(bottoms)
        feature, rois, masks = bottoms
        self.require(
            len(masks) == 4 and masks[0] == rois[0] and masks[1] == 1,
            f"expected one mask per region, {rois[0]} x 1 x h x w, bottom 2 has the shape {list(masks)}",
        )
        return [*tops, (rois[0], 1, *feature[2:])][: len(self.params.tops)]

    def forward(self, feature: Tensor, rois: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        """Some regions at a time, so that their masked features fit into memory."""
        rois = rois.detach().to(feature.dtype).reshape(-1, 5).trunc()
        planes = read_indices(self, rois[:, 0], feature.shape[0], f"a level in '{self.params.bottoms[1]}'")
        height, width = feature.shape[2:]
        corners = rois[:, 1:]
        self._check_corners(corners, height, width)
        maps = _stretch(masks.detach().to(feature.dtype)[:, 0], corners, height, width)
        pooled = []
        at_once = max(1, _MASKED_AT_ONCE // max(1, count(feature.shape, 1)))
        for start in range(0, max(1, len(rois)), at_once):
            part = slice(start, start + at_once)
            masked = feature[planes[part]] * maps[part, None]
            local = torch.arange(len(masked), device=rois.device, dtype=rois.dtype)[:, None]
            pooled.append(roi_pool(self, masked, torch.cat((local, corners[part]), 1), 1.0, self.size))
        return (torch.cat(pooled), maps[:, None])[: len(self.params.tops)]

    def _check_corners(self, corners: Tensor, height: int, width: int) -> None:
        x1, y1, x2, y2 = corners.unbind(1)
        wrong = (x1 < 0) | (y1 < 0) | (x2 >= width) | (y2 >= height) | (x2 < x1) | (y2 < y1)
        if can_look(wrong) and bool(wrong.any()):
            first = int(wrong.int().argmax())
            raise self.error(
                f"region {first} is {corners[first].tolist()}, expected x1 <= x2 < {width} and y1 <= y2 < {height}"
            )


def _stretch(masks: Tensor, corners: Tensor, height: int, width: int) -> Tensor:
    """Binary maps (Tensor[R, H, W]) of masks (Tensor[R, h, w]) stretched over their regions; 0 outside."""
    x1, y1, x2, y2 = corners.unbind(1)
    rows, inside_y = _tents(y1, y2, height, masks.shape[1])
    columns, inside_x = _tents(x1, x2, width, masks.shape[2])
    total = rows.sum(2)[:, :, None] * columns.sum(2)[:, None]
    mean = rows @ masks @ columns.transpose(1, 2) / total
    inside = inside_y[:, :, None] & inside_x[:, None]
    return (inside & (total > 0) & (mean >= 0.5)).to(masks)


def _tents(low: Tensor, high: Tensor, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """Weight of each mask cell for each of ``size`` map cells (Tensor[R, size, cells]), and which are in the region."""
    at = torch.arange(size, device=low.device, dtype=low.dtype)
    step = (cells / (high - low + 1))[:, None]
    centre = (at + 0.5 - low[:, None]) * step - 0.5
    distance = (torch.arange(cells, device=low.device, dtype=low.dtype) - centre[:, :, None]).abs()
    return (1 - distance / step[:, :, None]).clamp(min=0), (at >= low[:, None]) & (at <= high[:, None])


@register
class SmoothL1Loss(LossLayer):
    """Sum of f(w_in (a - b)) w_out over N; f(d) = (sigma d)^2 / 2 if |d| < 1 / sigma^2, else |d| - 1 / (2 sigma^2).

    Bottoms: a, b[, w_in[, w_out]].  The gradient holds w_in once more, as in the faster-rcnn branch of
    caffe-fast-rcnn; its older branch (three bottoms) leaves that factor out, which is the same for weights 0 and 1.
    The default loss weight is 0, as Caffe's layer never asks for more: write ``loss_weight: 1``.
    """

    caffe_type = "SmoothL1Loss"
    bottom_count = (2, 4)
    default_loss_weight = 0.0
    unforced = ()

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        sigma = float(params.section("smooth_l1_loss_param").sigma)
        if not sigma:
            raise self.error("smooth_l1_loss_param.sigma is 0, expected another number")
        self.knee = 1 / sigma**2

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar; all bottoms have the same shape."""
        tops = super().top_shapes(bottoms)
        same_legacy_shape(self, bottoms)
        return tops

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """No gradient goes to the weights."""
        b, *weights = [value.reshape(a.shape) for value in (b, *weights)]  # type: ignore[assignment]
        if not weights:
            return F.smooth_l1_loss(a, b, reduction="sum", beta=self.knee) / a.shape[0]
        inside, *outside = [weight.detach() for weight in weights]
        loss = F.smooth_l1_loss(inside * a, inside * b, reduction="none" if outside else "sum", beta=self.knee)
        return (loss * outside[0]).sum() / a.shape[0] if outside else loss / a.shape[0]
