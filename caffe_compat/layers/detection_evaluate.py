"""SSD's DetectionEvaluate: which detections are true, for average precision over a whole test set."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import MissingFileError
from caffe_compat.files import open_existing
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.box_coding import unclear
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes

__all__ = ["DetectionEvaluate", "read_sizes"]

_log = logging.getLogger(__name__)
_f32 = np.float32
_NONE = -1
_WITHOUT_SIZES = (
    "boxes are compared without it, in parts of the picture instead of pixels, so average precision can differ a "
    "little, and no results are written"
)


@dataclass(frozen=True)
class _Box:
    """Corners (float32 [4]), and the area that overlaps divide by."""

    corners: np.ndarray
    area: np.floating
    difficult: bool = False


def read_sizes(layer: Layer, path: str, without: str) -> list[tuple[int, int]]:
    """Heights and widths of ``name_size_file``; none where it is not there, so that a net can run on pictures without.

    Args:
        without: what that changes, for the log.

    Raises:
        LayerError: it has no entry, or one that is no name, height and width.
    """
    try:
        with open_existing(os.fspath(path), "name_size_file") as stream:
            words = stream.read().decode("utf-8", "surrogateescape").split()
    except MissingFileError as error:
        _log.warning("layer '%s': detection_evaluate_param.name_size_file: %s; %s", layer.name, error, without)
        return []
    sizes = []
    for line in range(0, len(words), 3):
        try:
            _, height, width = words[line : line + 3]
            sizes.append((int(height), int(width)))
        except ValueError as error:
            raise layer.error(f"{path}: entry {line // 3 + 1} is no name, height and width") from error
    if not sizes:
        raise layer.error(f"{path} has no entry, expected a name, height and width a line")
    return sizes


@register
class DetectionEvaluate(Layer):
    """True and false positives of detections, each class for itself, best scores first.

    Bottoms: detections (1 x 1 x K x 7, as DetectionOutput makes them) and ground truth (1 x 1 x G x 8, as AnnotatedData
    makes it).  Top: 1 x 1 x (C + K) x 5: for each class but the background a row [-1, label, number of ground truth,
    -1, -1], then for each detection [image, label, score, true, false]; both are 0 where it meets a difficult box that
    is not to be evaluated.  Source: weiliu89/caffe, detection_evaluate_layer.cpp.  With ``name_size_file`` (name,
    height and width a line) boxes are compared in pixels, whose sides count one more; its line goes on with each image
    that has detections, as there; if the file is not there, that is said, and boxes are compared as without.  Equal
    scores keep their order (std::sort leaves that open).  No gradient.
    """

    caffe_type = "DetectionEvaluate"
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    sized_by_values = True
    rows_axis = 2
    onnx_reason = "it judges detections; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_evaluate_param")
        if not section.has("num_classes") or section.num_classes < 1:
            raise self.error(f"detection_evaluate_param.num_classes is {section.num_classes}, expected 1 or more")
        self.classes, self.background = int(section.num_classes), int(section.background_label_id)
        self.overlap = _f32(section.overlap_threshold)
        if not self.overlap > 0:
            raise self.error(f"detection_evaluate_param.overlap_threshold is {self.overlap:g}, expected more than 0")
        self.difficult = bool(section.evaluate_difficult_gt)
        self.resize = section.resize_param if section.has("resize_param") else None
        if self.resize is not None and not (self.resize.height and self.resize.width):
            raise self.error("detection_evaluate_param.resize_param has no height or width, expected positive numbers")
        self.sizes = read_sizes(self, section.name_size_file, _WITHOUT_SIZES) if section.has("name_size_file") else []
        self._line = 0

    def start_over(self) -> None:
        """At the first line of the sizes again."""
        self._line = 0

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Detections or ground truth of two images."""
        rows = shapes[bottom][2] if len(shapes[bottom]) == 4 else 0
        labels = [label for label in range(self.classes) if label != self.background]
        if not rows or not labels:
            return np.full(shapes[bottom], _NONE)
        corners = sample_boxes((rows, 5), [1], (1.0, 1.0), random)[:, 1:]
        head = [random.integers(0, 2, rows), random.choice(labels, rows), random.random(rows)]
        tail = [corners] if bottom == 0 else [corners, np.zeros((rows, 1))]
        found = np.concatenate([np.stack(head, 1), *tail], 1)
        return found.reshape(shapes[bottom]) if found.size == np.prod(shapes[bottom]) else None

    def _check(self, bottoms: Sequence[Shape]) -> None:
        for name, shape, width in (("detections", bottoms[0], 7), ("ground truth", bottoms[1], 8)):
            self.require(
                len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == width,
                f"{name} have the shape {list(shape)}, expected 1 x 1 x rows x {width}",
            )

    @property
    def _labels(self) -> list[int]:
        return [label for label in range(self.classes) if label != self.background]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A row for each class and each detection, if all are some."""
        self._check(bottoms)
        classes = self.classes - (0 <= self.background < self.classes)
        top = (1, 1, classes + bottoms[0][2], 5)
        self.require_memory("rows", [(16, *top)])  # Python's numbers are larger
        return [top]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """As many rows as the detections are now."""
        self._check([tuple(bottom.shape) for bottom in bottoms])
        found = int((bottoms[0].detach()[0, 0, :, 1] != _NONE).sum())
        return [(1, 1, len(self._labels) + found, 5)]

    @torch.no_grad()
    def forward(self, detections: Tensor, truth: Tensor) -> Tensor:
        """Image by image, on the CPU."""
        self._check([tuple(detections.shape), tuple(truth.shape)])
        if detections.is_meta:
            return detections.new_empty(self.top_shapes([tuple(detections.shape), tuple(truth.shape)])[0])
        unclear(self, detections, 0)
        unclear(self, truth, 1)
        known = self._truth(truth[0, 0].cpu().float().numpy())
        rows: list[list[float]] = []
        rows += [[_NONE, label, self._positives(known, label), _NONE, _NONE] for label in self._labels]
        rows += self._judged(detections[0, 0].cpu().float().numpy(), known)
        return torch.tensor(rows, dtype=detections.dtype, device=detections.device).reshape(1, 1, -1, 5)

    def _truth(self, rows: np.ndarray) -> dict[int, dict[int, list[_Box]]]:
        """By image and label; a row whose image is -1 ends it."""
        known: dict[int, dict[int, list[_Box]]] = {}
        for row in rows:
            image, label = int(row[0]), int(row[1])
            if image == _NONE:
                break
            self._check_label(label, 1)
            box = _Box(row[3:7], _area(row[3:7], True), bool(row[7]))
            known.setdefault(image, {}).setdefault(label, []).append(box)
        return known

    def _check_label(self, label: int, bottom: int) -> None:
        if label == self.background:
            raise self.error(f"bottom '{self.params.bottoms[bottom]}' has the background's label {label}")

    def _positives(self, known: dict[int, dict[int, list[_Box]]], label: int) -> int:
        boxes = [box for image in known.values() for box in image.get(label, [])]
        return sum(self.difficult or not box.difficult for box in boxes)

    def _judged(self, rows: np.ndarray, known: dict[int, dict[int, list[_Box]]]) -> Iterator[list[float]]:
        """Rows of all detections, by image and label."""
        found: dict[int, dict[int, list[np.ndarray]]] = {}
        for row in rows[rows[:, 0].astype(np.int64) != _NONE]:
            self._check_label(int(row[1]), 0)
            found.setdefault(int(row[0]), {}).setdefault(int(row[1]), []).append(row)
        for image in sorted(found):
            for label in sorted(found[image]):
                if label != _NONE:
                    yield from self._judge(image, label, found[image][label], known.get(image, {}).get(label, []))
            if self.sizes:
                self._line = (self._line + 1) % len(self.sizes)

    def _judge(self, image: int, label: int, rows: list[np.ndarray], truth: list[_Box]) -> Iterator[list[float]]:
        """Rows of one class in one image."""
        if not truth:
            yield from ([image, label, float(row[2]), 0, 1] for row in rows)
            return
        pixels = bool(self.sizes)
        truth = [self._in_pixels(box) for box in truth] if pixels else truth
        taken = [False] * len(truth)
        for row in sorted(rows, key=lambda row: -row[2]):
            box = _Box(row[3:7], _area(row[3:7], True))
            box = self._in_pixels(box) if pixels else box
            values = [_overlap(box, other, pixels) for other in truth]
            best = int(np.argmax(values))
            true = false = 0
            if not values[best] >= self.overlap:
                false = 1
            elif self.difficult or not truth[best].difficult:
                true, false = int(not taken[best]), int(taken[best])
                taken[best] = True
            yield [image, label, float(row[2]), true, false]

    def _in_pixels(self, box: _Box) -> _Box:
        """OutputBBox: in pixels of the original picture."""
        height, width = self.sizes[self._line]
        corners, resize = box.corners, self.resize
        ends = np.array([width, height] * 2, np.float32)
        if resize is not None and _mode(resize) == "FIT_SMALL_SIZE" and resize.height_scale and resize.width_scale:
            scale = np.array([resize.width_scale, resize.height_scale] * 2, np.float32)
            corners = (corners * scale).clip(0, ends)
            return _Box(corners, _area(corners, True), box.difficult)
        if resize is not None and _mode(resize) == "FIT_LARGE_SIZE_AND_PAD":
            corners = _unpadded(corners, resize, width / height)
        corners = corners.clip(0, 1) * ends
        return _Box(corners, _area(corners, not (width > 1 or height > 1)), box.difficult)


def _mode(resize: Any) -> str:
    name: str = resize.Resize_mode.Name(resize.resize_mode)
    return name


def _unpadded(corners: np.ndarray, resize: Any, aspect: float) -> np.ndarray:
    """ProjectBBox onto the picture inside its padding; a box outside stays as it is, as there."""
    high, wide = _f32(resize.height), _f32(resize.width)
    aspect32 = _f32(aspect)
    if aspect32 > wide / high:
        pad = (high - wide / aspect32) / 2 / high
        inner = np.array([0, pad, 1, 1 - pad], np.float32)
    else:
        pad = (wide - high * aspect32) / 2 / wide
        inner = np.array([pad, 0, 1 - pad, 1], np.float32)
    if (corners[:2] >= inner[2:]).any() or (corners[2:] <= inner[:2]).any():
        return corners
    side = np.tile(inner[2:] - inner[:2], 2)
    moved: np.ndarray = (corners - np.tile(inner[:2], 2)) / side
    return moved


def _area(corners: np.ndarray, normalized: bool) -> np.floating:
    wide, high = corners[2] - corners[0], corners[3] - corners[1]
    if wide < 0 or high < 0:
        return _f32(0)
    area: np.floating = wide * high if normalized else (wide + 1) * (high + 1)
    return area


def _overlap(first: _Box, second: _Box, pixels: bool) -> float:
    """JaccardOverlap; in pixels sides count one more, also of what two boxes far apart share: one pixel at 0, 0."""
    a, b = first.corners, second.corners
    apart = b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    sides = np.zeros(2, np.float32) if apart else high - low
    wide, tall = sides + np.float32(1) if pixels else sides
    if not (wide > 0 and tall > 0):
        return 0.0
    common = wide * tall
    return float(common / (first.area + second.area - common))
