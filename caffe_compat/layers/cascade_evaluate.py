"""Cascade R-CNN's DetectionEvaluate, and its SmoothL1Loss that also tells the loss of each region.

Source: zhaoweicai/cascade-rcnn, ``detection_evaluate_layer.cpp`` and ``smooth_L1_loss_layer.cu``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, as_rows, count
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.detection import SmoothL1Loss
from caffe_compat.layers.detection_evaluate import read_sizes
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes
from caffe_compat.media.pixel_boxes import corner_overlaps

__all__ = ["CascadeDetectionEvaluate", "CascadeSmoothL1Loss"]

_WITHOUT_SIZES = "boxes are compared in the net's own pixels instead of the pictures', so overlaps can differ a little"
_NONE = -1


@register(when=lambda params: len(params.bottoms) == 3, dialect="cascade")
class CascadeDetectionEvaluate(Layer):
    """True and false positives of detections, each class for itself, best scores first; for all images of a test.

    Bottoms: detections [K, 7] (image, x1, y1, x2, y2, class, score; the last pixel counts) as FrcnnOutput makes them,
    ground truth [G, 8] (image, x1, y1, x2, y2, class, ignored, difficult) as EvalData makes it, and heights and widths
    [N, 2] of what boxes are in.  Rows whose image is -1 are none; a detection of class -1 only tells that its image was
    looked at.  Top: (C - 1 + K') x 5 x 1 x 1: for each class but the first a row [-1, class, number of ground truth,
    -1, -1], then for each detection [image, class, score, true, false]; both are 0 where it meets a difficult box that
    is not to be evaluated.  Boxes are compared in pixels of the original picture, whose height and width stand in
    ``name_size_file`` (name, height, width); its line goes on with each image of the detections, and starts again after
    the last.  Ground truth that is marked as ignored counts, as there.  Equal scores keep their order (std::sort leaves
    that open).  No gradient.
    """

    caffe_type = "DetectionEvaluate"
    bottom_count = (3, 3)
    no_gradient = (0, 1, 2)
    sized_by_values = True
    onnx_reason = "it judges detections; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_evaluate_param")
        if not section.has("num_classes") or section.num_classes < 1:
            raise self.error(f"detection_evaluate_param.num_classes is {section.num_classes}, expected 1 or more")
        self.classes, self.difficult = int(section.num_classes), bool(section.evaluate_difficult_gt)
        self.overlap = np.float32(section.overlap_threshold)
        if not self.overlap > 0:
            raise self.error(f"detection_evaluate_param.overlap_threshold is {self.overlap:g}, expected more than 0")
        if not section.has("name_size_file"):
            raise self.error("detection_evaluate_param.name_size_file is not set, expected a file of names and sizes")
        self.sizes = read_sizes(self, section.name_size_file, _WITHOUT_SIZES)
        self._line = 0

    def start_over(self) -> None:
        """At the first line of the sizes again."""
        self._line = 0

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Detections or ground truth of one image, or its size."""
        if bottom == 2:
            return np.full(shapes[2], 100.0)
        rows = shapes[bottom][0]
        found = sample_boxes((rows, 5), [1], (90.0, 90.0), random)
        label = random.integers(1, max(self.classes, 2), (rows, 1))
        more = [random.random((rows, 1))] if bottom == 0 else [np.zeros((rows, 2))]
        return np.concatenate([found, label, *more], 1).reshape(shapes[bottom])

    def _check(self, bottoms: Sequence[Shape]) -> None:
        for index, (shape, columns) in enumerate(zip(bottoms, (7, 8, 2), strict=True)):
            self.require(
                len(shape) > 1 and shape[1] == columns and count(shape, 2) == 1,
                f"bottom {index} has the shape {list(shape)}, expected rows x {columns}",
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A row for each class and each detection, if all are some."""
        self._check(bottoms)
        return [(self.classes - 1 + bottoms[0][0], 5, 1, 1)]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """As many rows as the detections are now."""
        self._check([tuple(bottom.shape) for bottom in bottoms])
        rows = bottoms[0].detach().reshape(len(bottoms[0]), 7)
        return [(self.classes - 1 + int(((rows[:, 0] != _NONE) & (rows[:, 5] != _NONE)).sum()), 5, 1, 1)]

    @torch.no_grad()
    def forward(self, detections: Tensor, truth: Tensor, sizes: Tensor) -> Tensor:
        """Image by image, on the CPU."""
        bottoms = (detections, truth, sizes)
        self._check([tuple(bottom.shape) for bottom in bottoms])
        if detections.is_meta:
            return detections.new_empty(self.top_shapes([tuple(bottom.shape) for bottom in bottoms])[0])
        for index, bottom in enumerate(bottoms):
            unclear(self, bottom, index)
        found, known, inner = (as_rows(one.cpu().float()).numpy() for one in bottoms)
        found, known = (rows[rows[:, 0].astype(np.int64) != _NONE] for rows in (found, known))
        self._check_rows(found, known, len(inner))
        counted = known if self.difficult else known[known[:, 7] == 0]
        tops = [[_NONE, label, float((counted[:, 5] == label).sum()), _NONE, _NONE] for label in range(1, self.classes)]
        for image in np.unique(found[:, 0].astype(np.int64)):
            ratio = np.ones(4, np.float32)
            if self.sizes:
                ratio = np.tile(np.array(self.sizes[self._line], np.float32)[::-1] / inner[image, ::-1], 2)
                self._line = (self._line + 1) % len(self.sizes)
            own, boxes = found[found[:, 0] == image], known[known[:, 0] == image]
            for label in np.unique(own[:, 5]):
                if label != _NONE:
                    tops += self._judged(own[own[:, 5] == label], boxes[boxes[:, 5] == label], ratio)
        return torch.tensor(tops, dtype=detections.dtype, device=detections.device).reshape(-1, 5, 1, 1)

    def _check_rows(self, found: np.ndarray, known: np.ndarray, images: int) -> None:
        """Raise unless images and classes of rows have their place."""
        for bottom, (rows, wrong) in enumerate(((found, found[:, 5] == 0), (known, known[:, 5] < 1))):
            if wrong.any():
                raise self.error(
                    f"bottom '{self.params.bottoms[bottom]}' has the background's label {rows[wrong][0, 5]:g}"
                )
            outside = (rows[:, 0] < 0) | (rows[:, 0] >= images)
            if outside.any():
                raise self.error(
                    f"bottom '{self.params.bottoms[bottom]}' has an image {rows[outside][0, 0]:g}, bottom "
                    f"'{self.params.bottoms[2]}' the sizes of {images}"
                )

    def _judged(self, rows: np.ndarray, truth: np.ndarray, ratio: np.ndarray) -> list[list[float]]:
        """Rows of one class in one image."""
        rows = rows[np.argsort(-rows[:, 6], kind="stable")] if len(truth) else rows
        boxes, taken, tops = truth[:, 1:5] * ratio, [False] * len(truth), []
        for row in rows:
            true, false = 0, 1
            if len(truth):
                values = corner_overlaps(row[1:5] * ratio, boxes)
                best = int(values.argmax())
                if values[best] >= self.overlap:
                    counts = self.difficult or not truth[best, 7]
                    true, false = (int(not taken[best]), int(taken[best])) if counts else (0, 0)
                    taken[best] = taken[best] or counts
            tops.append([float(row[0]), float(row[5]), float(row[6]), true, false])
        return tops


@register(
    when=lambda params: len(params.tops) > 1 and len(params.bottoms) == 4 and params.speaks("cascade"),
    dialect="cascade",
)
class CascadeSmoothL1Loss(SmoothL1Loss):
    """SmoothL1Loss with a second top, the loss of each position, summed over the channels (Tensor[N, 1, H, W]), which
    is divided by nothing and has no gradient.
    """

    bottom_count = (4, 4)
    top_count = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar, and N x 1 x H x W."""
        tops = super().top_shapes(bottoms)
        number, _, height, width = (*bottoms[0], 1, 1, 1)[:4]
        return [*tops, (number, 1, height, width)]

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """No gradient goes to the weights."""
        loss: Tensor = super().forward(a, b, *weights)
        with torch.no_grad():
            inside, outside = (weight.reshape(a.shape) for weight in weights)
            difference = inside * (a - b.reshape(a.shape))
            each = torch.nn.functional.smooth_l1_loss(
                difference, torch.zeros_like(difference), reduction="none", beta=self.knee
            )
            each = each * outside
            number, channels, *sides = (*a.shape, 1, 1, 1)[:4]
            return loss, each.reshape(number, channels, *sides).sum(1, keepdim=True)
