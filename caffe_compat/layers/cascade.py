"""Cascade R-CNN's layers between its stages: DecodeBBox (MS-CNN has it too), ScaleRoute, HardMining.

Source: zhaoweicai/cascade-rcnn, ``decode_bbox_layer.cpp``, ``scale_route_layer.cpp``, ``hard_mining_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, Shape, as_rows, count
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.grid_boxes import BoxNorm, moved_priors
from caffe_compat.layers.labels import legacy_rank, legacy_shape, read_indices
from caffe_compat.layers.onnx_graph import OnnxGraph
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes

__all__ = ["DecodeBBox", "HardMining", "ScaleRoute"]

_WAYS = 4  #: that nets send regions of different scales
_SIDES = (200.0, 100.0)  #: of the picture that samples of regions lie in


def _require_regions(layer: Layer, shape: Shape, bottom: int) -> None:
    layer.require(
        legacy_shape(shape)[1:] == (5, 1, 1) and len(shape) > 1,
        f"bottom {bottom} has the shape {list(shape)}, expected R x 5 (image, x1, y1, x2, y2)",
    )


@register(dialect="mscnn")
class DecodeBBox(Layer):
    """Regions moved by what was predicted for them; no gradient passes.

    Bottoms: offsets [R, 8] (of the background, which are not read, and the object; less ``bbox_reg_param``'s means, in
    parts of its deviations), regions [R, 5] (image, x1, y1, x2, y2; the last pixel counts), and in TRAIN, if wanted,
    what they were matched with [R, 6], the overlap last.  Top: regions [K, 5, 1, 1].  In TRAIN those go whose corners
    are swapped, and those whose overlap is ``gt_iou_thr`` or more: boxes of ground truth that are regions already.
    """

    caffe_type = "DecodeBBox"
    bottom_count = (2, 3)
    phase_dependent = True
    sized_by_values = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.norm = BoxNorm.read(params)
        params.section("bbox_reg_param").ignore("cls_aware")
        self.most_overlap = float(params.section("decode_bbox_param").gt_iou_thr)
        self.trains = params.phase == "TRAIN"
        if len(bottoms) == 3 and not self.trains:
            raise self.error("has a third bottom in the phase TEST, expected it in TRAIN alone")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions of one image."""
        return sample_boxes((shapes[1][0], 5), [1], _SIDES, random).reshape(shapes[1]) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there are."""
        self.require(
            legacy_shape(bottoms[0])[1:] == (8, 1, 1),
            f"bottom 0 has the shape {list(bottoms[0])}, expected R x 8: offsets of background and object",
        )
        _require_regions(self, bottoms[1], 1)
        for index, shape in enumerate(bottoms):
            self.require(
                bool(shape) and shape[0] == bottoms[1][0] and (index < 2 or len(shape) > 1),
                f"bottom {index} has the shape {list(shape)}, expected a row for each of {bottoms[1][0]} regions",
            )
        return [(bottoms[1][0], 5, 1, 1)]

    @torch.no_grad()
    def forward(self, offsets: Tensor, priors: Tensor, *matched: Tensor) -> Tensor:
        """Move, and in TRAIN leave out."""
        bottoms = (offsets, priors, *matched)
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
        if offsets.is_meta:
            return offsets.new_empty(shapes[0])
        for index, bottom in enumerate(bottoms):
            unclear(self, bottom, index)
        regions = priors.reshape(-1, 5)
        learned = self.norm.undone(offsets.reshape(-1, 2, 4)[:, 1:], 2)
        moved = torch.cat([regions[:, :1], moved_priors(self, learned, regions[:, 1:])[:, 0]], 1)
        if self.trains:
            stay = (moved[:, 1:3] <= moved[:, 3:]).all(1)
            if matched:
                stay &= as_rows(matched[0])[:, -1] < self.most_overlap
            moved = moved[stay]
            if not len(moved):
                raise self.error("no region stays: all are swapped, or ground truth already")
        return moved[..., None, None]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Elementwise, of all regions: TEST leaves none out."""
        if self.trains:
            raise self.export_error("it leaves regions out in TRAIN; export the phase TEST")
        add, constant = graph.add, graph.constant

        def part(value: str, start: int, end: int) -> str:
            return add("Slice", [value, constant([start]), constant([end]), constant([1])])

        offsets, priors = (
            add("Reshape", [name, constant([-1, columns])]) for name, columns in zip(bottoms, (8, 5), strict=True)
        )
        stds, means = (np.array([values], np.float32) for values in (self.norm.stds, self.norm.means))
        learned = add("Add", [add("Mul", [part(offsets, 4, 8), constant(stds)]), constant(means)])
        low, high, one, half = part(priors, 1, 3), part(priors, 3, 5), constant(1.0), constant(0.5)
        sides = add("Add", [add("Sub", [high, low]), one])
        centres = add("Add", [add("Mul", [part(learned, 0, 2), sides]), add("Mul", [add("Add", [low, high]), half])])
        grown = add("Sub", [add("Mul", [sides, add("Exp", [part(learned, 2, 4)])]), one])
        first = add("Sub", [centres, add("Mul", [grown, half])])
        rows = add("Concat", [part(priors, 0, 1), first, add("Add", [first, grown])], axis=1)
        graph.node("Reshape", [rows, constant([-1, 5, 1, 1])], tops)


class _Choosing(Layer):
    """Tops are rows of bottoms, which are the same rows for all."""

    bottom_count = (1, UNLIMITED)
    top_count = (1, UNLIMITED)

    def _require_rows(self, bottoms: Sequence[Shape]) -> None:
        legacy_rank(self, bottoms)
        for index, shape in enumerate(bottoms):
            self.require(
                bool(shape) and shape[0] == bottoms[0][0],
                f"bottom {index} has the shape {list(shape)}, expected a row for each of {bottoms[0][0]} regions",
            )


@register(dialect="cascade")
class ScaleRoute(_Choosing):
    """The rows of all bottoms whose region's scale, the root of its area, is ``low_scale`` or more and below
    ``high_scale`` (without either there is no limit); no gradient passes.

    Bottom 0: regions [R, 5] (image, x1, y1, x2, y2; the last pixel counts).  Without any such region the row is taken
    whose scale is nearest, in octaves, to the middle of the two limits (the one limit, 256 without both).  Tops have
    four axes.
    """

    caffe_type = "ScaleRoute"
    equal_counts = True
    sized_by_values = True
    onnx_reason = "no ONNX form yet"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("scale_route_param")
        low, high = section.optional("low_scale"), section.optional("high_scale")
        self.low, self.high = 0.0 if low is None else float(low), math.inf if high is None else float(high)
        if (low is not None and not 0 < self.low < math.inf) or not (self.low <= self.high and self.high > 0):
            raise self.error(
                f"scale_route_param has low_scale {self.low:g} and high_scale {self.high:g}, expected positive numbers "
                "in order"
            )
        if low is not None and high is not None:
            self.middle = math.sqrt(np.float32(self.low) * np.float32(self.high))
        else:
            self.middle = self.low if low is not None else self.high if high is not None else 256.0

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions of one image."""
        return sample_boxes((shapes[0][0], 5), [1], _SIDES, random).reshape(shapes[0]) if bottom == 0 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A quarter of the rows, though there may be more: nets send them four ways and put them together again, so
        that with all of them each time three stages would announce blobs too large to be."""
        self._require_rows(bottoms)
        _require_regions(self, bottoms[0], 0)
        return [(max(1, -(-shape[0] // _WAYS)), *legacy_shape(shape)[1:]) for shape in bottoms]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """One row, as in Caffe until the forward pass."""
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
        return [(1, *shape[1:]) for shape in shapes]

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Measure and choose."""
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
        if bottoms[0].is_meta:
            return tuple(bottoms[0].new_empty(shape) for shape in shapes)
        unclear(self, bottoms[0], 0)
        sides = (bottoms[0].reshape(-1, 5)[:, 3:] - bottoms[0].reshape(-1, 5)[:, 1:3]).float()
        area = (sides + 1).prod(1).masked_fill((sides < 0).any(1), 0)
        scale = area.sqrt()
        chosen = ((scale >= self.low) & (scale < self.high)).nonzero().reshape(-1)
        if not len(chosen):
            distance = (scale / self.middle).log2().abs()
            if not len(scale) or not bool((distance < math.inf).any()):
                raise self.error(f"bottom '{self.params.bottoms[0]}' has no region with an area, expected one")
            chosen = distance.argmin().reshape(1)
        return tuple(
            bottom[chosen].reshape(len(chosen), *shape[1:]) for bottom, shape in zip(bottoms, shapes, strict=True)
        )


@register(dialect="cascade")
class HardMining(_Choosing):
    """The rows of the regions of highest score; no gradient passes.

    Bottoms: scores [R], regions [R, 5] (image below ``num_image``, x1, y1, x2, y2), and more with R rows.  Tops: the
    chosen rows of all bottoms but the first, in the order in which they come: ``num_roi_per_image`` of each image, and
    if there are fewer of some, the best of all others, ``num_image`` times as many in all, or all there are.  Of equal
    scores the later region comes first.  Tops have four axes.
    """

    caffe_type = "HardMining"
    bottom_count = (2, UNLIMITED)
    onnx_reason = "it chooses training examples; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("hard_mining_param")
        self.each, self.images = int(section.num_roi_per_image), int(section.num_image)
        if min(self.each, self.images) < 1:
            raise self.error(
                f"hard_mining_param has num_roi_per_image {self.each} and num_image {self.images}, expected positive "
                "numbers"
            )
        if len(bottoms) != len(params.tops) + 1:
            raise self.error(f"has {len(bottoms)} bottoms and {len(params.tops)} tops, expected a top for all but one")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Regions."""
        rows = (shapes[1][0], 5)
        return sample_boxes(rows, [self.images], _SIDES, random).reshape(shapes[1]) if bottom == 1 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many rows as are wanted."""
        self._require_rows(bottoms)
        self.require(
            count(bottoms[0]) == bottoms[0][0], f"bottom 0 has the shape {list(bottoms[0])}, expected a score a region"
        )
        _require_regions(self, bottoms[1], 1)
        number = min(self.each * self.images, bottoms[0][0])
        return [(number, *legacy_shape(shape)[1:]) for shape in bottoms[1:]]

    @torch.no_grad()
    def forward(self, scores: Tensor, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Sort by score, then by image."""
        shapes = self.top_shapes([tuple(bottom.shape) for bottom in (scores, *bottoms)])
        if scores.is_meta:
            return tuple(scores.new_empty(shape) for shape in shapes)
        unclear(self, scores, 0)
        what = f"an image index in '{self.params.bottoms[1]}'"
        image = read_indices(self, bottoms[0].reshape(-1, 5)[:, 0], self.images, what)
        by_score = scores.reshape(-1).flip(0).argsort(descending=True, stable=True)
        by_score = len(image) - 1 - by_score
        order = by_score[image[by_score].argsort(stable=True)]
        place = torch.arange(len(order), device=order.device)
        first = torch.searchsorted(image[order].contiguous(), image[order].contiguous())
        own = torch.zeros_like(order, dtype=torch.bool).scatter(0, order, place - first < self.each)
        others = by_score[~own[by_score]][: shapes[0][0] - int(own.sum())]
        chosen = torch.cat([own.nonzero().reshape(-1), others]).sort().values
        return tuple(bottom[chosen].reshape(shape) for bottom, shape in zip(bottoms, shapes, strict=True))
