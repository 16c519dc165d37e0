"""SSD nets converted from TensorFlow: boxes in another order, predictions that nobody permuted.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``prior_box_layer.cpp``, ``detection_output_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, OnnxGraph, Shape
from caffe_compat.layers.detection_output import DetectionOutput
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.priors import PriorBox
from caffe_compat.layers.registry import register

__all__ = ["TensorFlowPriorBox", "UnpermutedOutput"]

_SHRUNK = 60  #: the min_size whose square is smaller with ``tf``
_MARGIN = 0.05


def _from_tensorflow(params: Params) -> bool:
    section = params.section("prior_box_param")
    return bool(section.has("tf") or section.has("yx_order"))


@register(when=_from_tensorflow, dialect="synopsys", marked=True)
class TensorFlowPriorBox(PriorBox):
    """PriorBox with ``tf``, ``yx_order``: as TensorFlow's detectors have their boxes.

    With ``tf`` the square of sqrt(min max) comes last, and that of a ``min_size`` of 60 is 0.05 of the image smaller on
    each side.  With ``yx_order`` corners are y1 x1 y2 x2, for predictions in that order.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("prior_box_param")
        self.tf, self.swapped = bool(section.tf), bool(section.yx_order)
        self.margins = np.zeros(0)
        super().__init__(params, bottoms)

    def _sides(self, section: Section) -> np.ndarray:
        sides = super()._sides(section)
        self.margins = np.zeros(len(sides))
        if not self.tf:
            return sides
        sizes = self._sizes(section)
        each = len(sides) // len(sizes)
        for place, (smallest, largest) in enumerate(sizes):
            first = place * each
            if largest is not None:  # behind the smaller square without tf
                sides[first + 1 : first + each] = np.roll(sides[first + 1 : first + each], -1, 0)
            if smallest == _SHRUNK:
                self.margins[first] = _MARGIN
        return sides

    def _adjusted(self, corners: list[np.ndarray]) -> list[np.ndarray]:
        x1, y1, x2, y2 = (value + sign * self.margins for value, sign in zip(corners, (1, 1, -1, -1), strict=True))
        return [y1, x1, y2, x2] if self.swapped else [x1, y1, x2, y2]


def _is_unpermuted(params: Params) -> bool:
    section = params.section("detection_output_param")
    return bool(section.no_permute or section.has("nbottom"))


@register(when=_is_unpermuted, dialect="synopsys", marked=True)
class UnpermutedOutput(DetectionOutput):
    """DetectionOutput with ``no_permute``: every map has its bottoms, as convolutions make them.

    Bottoms: scores of ``nbottom`` (6) maps, N x C x R x (H W), as many predictions of boxes, N x (R L 4) x H x W, and
    the priors of all maps, 1 x 2 x (P 4), in the order of PriorBox: rows, columns, boxes of a cell.  Places, which
    decide among equal scores, go by box of a cell, then row and column.  The fork gives every image of a batch what the
    first one has; here each has its own.
    """

    bottom_count = (3, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_output_param")
        self.maps = int(section.nbottom)
        if not section.no_permute or self.maps < 1 or len(bottoms) != 2 * self.maps + 1:
            raise self.error(
                f"has {len(bottoms)} bottoms, detection_output_param.nbottom {self.maps} and no_permute "
                f"{str(bool(section.no_permute)).lower()}, expected no_permute, scores and boxes of nbottom maps, and "
                "the priors"
            )

    @property
    def no_gradient(self) -> tuple[int, ...]:  # type: ignore[override]
        """All bottoms."""
        return tuple(range(len(self.params.bottoms)))

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Scores, and priors with their variances."""
        if bottom < self.maps:
            return random.random(shapes[bottom])
        return super().sample(2, [shapes[0], shapes[0], shapes[-1]], random) if bottom == 2 * self.maps else None

    def _cells(self, bottoms: Sequence[Shape]) -> list[tuple[int, int]]:
        """Boxes of a cell and cells of each map."""
        each, found = (1 if self.share else self.classes), []
        for number, (scores, boxes) in enumerate(zip(bottoms, bottoms[self.maps : -1], strict=False)):
            self.require(
                len(scores) == len(boxes) == 4 and scores[0] == boxes[0] == bottoms[0][0] and scores[1] == self.classes,
                f"bottom {number} has the shape {list(scores)} and bottom {number + self.maps} {list(boxes)}, expected "
                f"N x {self.classes} x R x (H W) and N x (R {4 * each}) x H x W",
            )
            self.require(
                boxes[1] == scores[2] * 4 * each and scores[3] == boxes[2] * boxes[3],
                f"bottom {number} has the shape {list(scores)}, expected {scores[0]} x {self.classes} x "
                f"{boxes[1] // 4 // each} x {boxes[2] * boxes[3]} for boxes of the shape {list(boxes)}",
            )
            found.append((scores[2], scores[3]))
        return found

    def _joined(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the bottoms that SSD's layer has."""
        cells = self._cells(bottoms)
        total, each = sum(a * b for a, b in cells), 1 if self.share else self.classes
        images = bottoms[0][0]
        return [(images, total * each * 4), (images, total * self.classes), tuple(bottoms[-1])]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x K x 7, for the largest K."""
        return super().top_shapes(self._joined(bottoms))

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """1 x 1 x 1 x 7."""
        self._priors(self._joined([tuple(bottom.shape) for bottom in bottoms]))
        return [(1, 1, 1, 7)]

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> Tensor:
        """SSD's, of bottoms in its order."""
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        (made,) = self.top_shapes(shapes)
        if bottoms[0].is_meta:
            return bottoms[0].new_empty(made)
        images = len(bottoms[0])
        scores = torch.cat([scores.flatten(2) for scores in bottoms[: self.maps]], 2).transpose(1, 2).flatten(1)
        boxes = []
        for (each, cells), predicted in zip(self._cells(shapes), bottoms[self.maps : -1], strict=True):
            parts = predicted.reshape(images, each, -1, cells).transpose(2, 3)
            boxes.append(parts.reshape(images, -1))
        priors = bottoms[-1].reshape(1, 2, -1, 4)
        order = torch.from_numpy(self._order(shapes)).to(priors.device)
        priors = torch.stack([priors[0, 0, order], priors[0, 1]])[None].reshape(bottoms[-1].shape)
        return super().forward(torch.cat(boxes, 1), scores, priors)

    def _order(self, bottoms: Sequence[Shape]) -> np.ndarray:
        """Places among the priors of those by box of a cell, row and column."""
        parts, start = [], 0
        for each, cells in self._cells(bottoms):
            parts.append(start + np.arange(cells * each).reshape(cells, each).T.reshape(-1))
            start += cells * each
        return np.concatenate(parts)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """As SSD's, of bottoms in its order; sizes but the batch's must be fixed."""
        super().to_onnx(graph, [*bottoms[:2], bottoms[-1], *bottoms], tops)

    def onnx_bottoms(self, graph: OnnxGraph, bottoms: Sequence[str]) -> list[str]:
        """Put together from those behind the third."""
        own, constant = bottoms[3:], graph.constant
        shapes: list[Shape] = []
        for name in own:
            known = [size for size in graph.shape(name)[1:] if size is not None]
            if len(known) + 1 < len(graph.shape(name)):
                raise self.export_error(f"bottom '{name}' has the shape {graph.shape(name)}, expected a fixed one")
            shapes.append((1, *known))
        tables, boxes = [], []
        for (each, cells), scores, predicted in zip(self._cells(shapes), own, own[self.maps : -1], strict=False):
            tables.append(graph.add("Reshape", [scores, constant([0, self.classes, each * cells])]))
            parts = graph.add("Reshape", [predicted, constant([0, each, -1, cells])])
            parts = graph.add("Transpose", [parts], perm=[0, 1, 3, 2])
            boxes.append(graph.add("Reshape", [parts, constant([0, math.prod(shapes[own.index(predicted)])])]))
        scores = graph.add("Transpose", [graph.add("Concat", tables, axis=2)], perm=[0, 2, 1])
        priors = graph.add("Reshape", [own[-1], constant([1, 2, -1, 4])])
        parted = [graph.add("Slice", [priors, constant([k]), constant([k + 1]), constant([1])]) for k in (0, 1)]
        parted[0] = graph.add("Gather", [parted[0], constant(self._order(shapes))], axis=2)
        priors = graph.add("Reshape", [graph.add("Concat", parted, axis=1), constant([1, 2, -1])])
        return [graph.add("Concat", boxes, axis=1), scores, priors]
