"""DetectNet's layers written in Python: boxes of what the grid sees, and how well they fit.

Source: NVIDIA/caffe, ``python/caffe/layers/detectnet/clustering.py`` and ``mean_ap.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import scipy  # loads its parts on first use
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.data.regions import is_named
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["ClusterDetections", "ClusterGroundtruth", "MeanAveragePrecision", "ScoreDetections", "group_rectangles"]

_CLUSTERING, _SCORES = "caffe.layers.detectnet.clustering", "caffe.layers.detectnet.mean_ap"
_MOST = 50  #: boxes of a class in a picture
_OVERLAP = 0.7  #: from which on a box has found an object
_FOUND, _WRONG, _MISSED = 1, 2, 3


class _Clusters(Layer):
    """Boxes from a grid: bottoms N x classes x H x W (coverage) and N x 4 x H x W (corners from the cell's corner).

    ``param_str`` is a list of numbers.  A top for each class: N x 50 x 5, corners x1 y1 x2 y2 and a score; 0 behind.
    As in the original, numbers are rounded to half precision.
    """

    caffe_type = "Python"
    bottom_count = (2, 2)
    top_count = (1, 1 << 30)
    no_gradient = (0, 1)
    names: ClassVar[tuple[str, ...]]
    onnx_reason = "it groups rectangles one after the other"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        text = str(section.param_str)
        words = text.split(",")
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) not in (len(self.names), len(self.names) - 1) or not np.isfinite(values).all():
            raise self.error(f"param_str is {text!r}, expected the numbers {', '.join(self.names)}")
        self.values = dict(zip(self.names, [*values, 1.0], strict=False))
        self.size = int(self.values["image_size_x"]), int(self.values["image_size_y"])
        self.stride, self.classes = int(self.values["stride"]), int(self.values["num_classes"])
        if self.stride < 1 or min(self.size) < self.stride:
            raise self.error(
                f"param_str: {self.size[0]} x {self.size[1]} pixels and stride {self.stride}, expected one cell or more"
            )
        if len(params.tops) != self.classes:
            raise self.error(f"has {len(params.tops)} tops, expected one for each of the {self.classes} classes")

    @property
    def cells(self) -> tuple[int, int]:
        """Columns and rows that are looked at, where there are as many."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """50 boxes for each class."""
        coverage, corners = bottoms
        self.require(
            len(coverage) == 4 and coverage[1] == self.classes,
            f"bottom 0 has the shape {list(coverage)}, expected N x {self.classes} (num_classes) x H x W",
        )
        self.require(
            tuple(corners) == (coverage[0], 4, *coverage[2:]),
            f"bottoms have the shapes {list(coverage)} and {list(corners)}, expected 4 channels in the second and as "
            "many cells in both",
        )
        return [(coverage[0], _MOST, 5)] * self.classes

    @torch.no_grad()
    def forward(self, coverage: Tensor, corners: Tensor) -> tuple[Tensor, ...]:
        """Picture by picture, class by class."""
        shapes = self.top_shapes([tuple(coverage.shape), tuple(corners.shape)])
        if coverage.is_meta:
            return tuple(coverage.new_empty(shape) for shape in shapes)
        for name, bottom in zip(self.params.bottoms, (coverage, corners), strict=True):
            if not bool(torch.isfinite(bottom).all()):
                raise self.error(f"bottom '{name}' holds NaN or infinite numbers, expected finite ones")
        seen, where = coverage.detach().float().cpu().numpy(), corners.detach().float().cpu().numpy()
        tops = [np.zeros(shape, np.float32) for shape in shapes]
        for number, top in enumerate(tops):
            for item in range(len(seen)):
                boxes = self._boxes(self._proposed(seen[item, number], where[item])).astype(np.float16)
                if len(boxes) > _MOST:
                    raise self.error(f"found {len(boxes)} boxes in item {item}, expected {_MOST} at most")
                top[item, : len(boxes), : boxes.shape[1]] = boxes
        return tuple(torch.from_numpy(top).to(coverage) for top in tops)

    def _counts(self, coverage: np.ndarray) -> np.ndarray:
        """Which cells count."""
        raise NotImplementedError

    def _boxes(self, proposed: np.ndarray) -> np.ndarray:
        """What becomes of the corners [P, 4] of all cells that count."""
        raise NotImplementedError

    def _proposed(self, coverage: np.ndarray, corners: np.ndarray) -> np.ndarray:
        columns, rows = self.cells
        y, x = np.nonzero(self._counts(coverage[:rows, :columns]))
        moved = np.stack([x * (self.size[0] / columns), y * (self.size[1] / rows)] * 2, -1)
        return corners[:, y, x].T + moved


@register(
    when=lambda params: is_named(params, _CLUSTERING, "ClusterDetections"), dialect="detectnet: ClusterDetections"
)
class ClusterDetections(_Clusters):
    """Boxes that a net predicts; those alike become one, whose score is the logarithm of their number.

    ``param_str``: image_size_x, image_size_y, stride, least coverage, least number of boxes alike, their tolerance
    (:func:`group_rectangles`), least height in pixels, and the number of classes (1).
    """

    names = (
        *("image_size_x", "image_size_y", "stride", "gridbox_cvg_threshold", "gridbox_rect_threshold"),
        *("gridbox_rect_eps", "min_height", "num_classes"),
    )

    def _counts(self, coverage: np.ndarray) -> np.ndarray:
        return coverage >= self.values["gridbox_cvg_threshold"]

    def _boxes(self, proposed: np.ndarray) -> np.ndarray:
        if not proposed.any():
            return np.zeros((0, 5))
        sides = np.concatenate([proposed[:, :2], proposed[:, 2:] - proposed[:, :2]], 1)
        threshold, tolerance = int(self.values["gridbox_rect_threshold"]), self.values["gridbox_rect_eps"]
        found, alike = group_rectangles(sides.astype(np.int64), threshold, tolerance)
        high = found[:, 3] >= int(self.values["min_height"])
        found, alike = found[high], alike[high]
        scores = [math.log(number) for number in alike]
        return np.column_stack([found[:, :2], found[:, :2] + found[:, 2:], np.array(scores)])


@register(
    when=lambda params: is_named(params, _CLUSTERING, "ClusterGroundtruth"), dialect="detectnet: ClusterGroundtruth"
)
class ClusterGroundtruth(_Clusters):
    """Boxes of the targets, each once, in ascending order (the original's has none); ``param_str`` as far as it goes:
    image_size_x, image_size_y, stride and the number of classes (1).  The score is 0."""

    names = ("image_size_x", "image_size_y", "stride", "num_classes")

    def _counts(self, coverage: np.ndarray) -> np.ndarray:
        return coverage > 0

    def _boxes(self, proposed: np.ndarray) -> np.ndarray:
        return np.unique(proposed, axis=0)


class _Judge(Layer):
    """A layer that judges boxes."""

    caffe_type = "Python"
    onnx_reason = "it judges detections; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        params.section("python_param").ignore("module", "layer", "share_in_parallel", "param_str")  # reads none

    def check_boxes(self, bottoms: Sequence[Shape]) -> None:
        """Raise unless all are N x 50 x 5."""
        for index, bottom in enumerate(bottoms):
            self.require(
                tuple(bottom) == (bottoms[0][0], _MOST, 5),
                f"bottom {index} has the shape {list(bottom)}, expected {bottoms[0][0]} x {_MOST} x 5",
            )


@register(when=lambda params: is_named(params, _SCORES, "ScoreDetections"), dialect="detectnet: ScoreDetections")
class ScoreDetections(_Judge):
    """Which boxes found an object: bottoms are objects and boxes N x 50 x 5, rows of 0 are none.

    Top N x 50 x 5: corners, then 1 for a box that overlaps an object by 0.7 or more (each object takes the first that
    is left), 2 for one that found none, 3 for an object that none found (which the original calls a true negative).
    """

    bottom_count = (2, 2)
    no_gradient = (0, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x 50 x 5."""
        self.check_boxes(bottoms)
        return [tuple(bottoms[0])]

    @torch.no_grad()
    def forward(self, truth: Tensor, found: Tensor) -> Tensor:
        """Item by item."""
        (shape,) = self.top_shapes([tuple(truth.shape), tuple(found.shape)])
        if truth.is_meta:
            return truth.new_empty(shape)
        top = np.zeros(shape, np.float32)
        pairs = torch.stack([truth, found], 1).detach().float().cpu().numpy()
        for item, pair in enumerate(pairs):
            rows = _judged(*(rows[rows[:, :4].any(1), :4] for rows in pair))
            if len(rows) > _MOST:
                raise self.error(f"has {len(rows)} boxes and missed objects in item {item}, expected {_MOST} at most")
            top[item, : len(rows)] = rows
        return torch.from_numpy(top).to(truth)


@register(when=lambda params: is_named(params, _SCORES, "mAP"), dialect="detectnet: mAP")
class MeanAveragePrecision(_Judge):
    """Of judged boxes (:class:`ScoreDetections`) N x 50 x 5, in per cent: precision times recall, precision, recall.

    The first is what DetectNet calls mAP; it is no mean over recalls.  Where there is nothing to divide by: 0.
    """

    top_count = (3, 3)
    no_gradient = (0,)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Three of one number."""
        self.check_boxes(bottoms)
        return [(1,)] * 3

    @torch.no_grad()
    def forward(self, judged: Tensor) -> tuple[Tensor, ...]:
        """Counts over the batch."""
        found, wrong, missed = ((judged[..., 4] == kind).sum().double() for kind in (_FOUND, _WRONG, _MISSED))
        precision, recall = (100 * found / (found + other).clamp(min=1) for other in (wrong, missed))
        return tuple(part.to(judged.dtype).reshape(1) for part in (precision * recall / 100, precision, recall))


def _judged(objects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Rows of the top for objects [G, 4] and boxes [D, 4]."""
    missed, left = np.ones(len(objects), bool), np.ones(len(boxes), bool)
    overlaps = _overlaps(objects, boxes)
    for number, row in enumerate(overlaps):
        fit = np.flatnonzero((row >= _OVERLAP) & left)
        if len(fit):
            missed[number] = left[fit[0]] = False
    kinds = ((boxes[~left], _FOUND), (boxes[left], _WRONG), (objects[missed], _MISSED))
    return np.concatenate([np.column_stack([rows, np.full(len(rows), kind)]) for rows, kind in kinds])


def _overlaps(objects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [G, D]."""
    low = np.maximum(objects[:, None, :2], boxes[None, :, :2])
    both = np.maximum(np.minimum(objects[:, None, 2:], boxes[None, :, 2:]) - low, 0).prod(-1)
    areas = [(rows[:, 2:] - rows[:, :2]).prod(-1) for rows in (objects, boxes)]
    union = areas[0][:, None] + areas[1] - both
    shares: np.ndarray = np.divide(both, union, out=np.zeros_like(both), where=both > 0)
    return shares


def group_rectangles(boxes: np.ndarray, threshold: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """The means of rectangles alike, as OpenCV's ``groupRectangles`` (which OpenCV 5 no longer has).

    Two are alike if no edge is further from the other's than ``tolerance`` times the mean of the smaller width and the
    smaller height; what is alike by way of others counts as alike.  Means that lie in one of more rectangles go.

    Args:
        boxes: int64 [N, 4] x, y, width, height.
        threshold: more than so many have to be alike; 0 or less: nothing is grouped.

    Returns:
        Means [M, 4], and how many each stands for [M].
    """
    if threshold <= 0 or not len(boxes):
        return boxes, np.ones(len(boxes), np.int64)
    smaller = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]).sum(-1)
    edges = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    apart = np.abs(edges[:, None] - edges[None]).max(-1)
    groups, labels = scipy.sparse.csgraph.connected_components(
        scipy.sparse.csr_array(apart <= tolerance * smaller * 0.5), directed=False
    )
    number = np.bincount(labels, minlength=groups)
    sums = np.stack([np.bincount(labels, side, groups) for side in boxes.T], -1)
    means = np.rint(sums.astype(np.float32) * (np.float32(1) / number.astype(np.float32))[:, None]).astype(np.int64)
    means, number = means[number > threshold], number[number > threshold]
    slack = np.rint(means[:, 2:] * tolerance).astype(np.int64)
    ends = means[:, :2] + means[:, 2:]
    inside = (means[:, None, :2] >= means[None, :, :2] - slack).all(-1) & (ends[:, None] <= ends + slack).all(-1)
    outweighed = (number > np.maximum(number, 3)[:, None]) | (number < 3)[:, None]
    np.fill_diagonal(inside, False)
    stays = ~(inside & outweighed).any(1)
    return means[stays], number[stays]
