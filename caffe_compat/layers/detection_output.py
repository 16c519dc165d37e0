"""SSD's DetectionOutput: predictions of boxes and scores become detections."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.box_coding import Coding, Priors, areas, overlaps, read_priors, unclear
from caffe_compat.layers.detection_output_onnx import Wanted, write_detections
from caffe_compat.layers.labels import legacy_rank
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import boxes as sample_boxes
from caffe_compat.layers.windows import FLT_MAX

__all__ = ["DetectionOutput"]

_log = logging.getLogger(__name__)
_WRITTEN = ("label_map_file", "name_size_file")  # of save_output_param: what the original reads to write results


@register
class DetectionOutput(Layer):
    """Boxes are decoded and, class by class, the best ``top_k`` suppressed; ``keep_top_k`` of an image stay.

    Bottoms: predicted boxes (N x (P L 4), L 1 or with ``share_location: false`` the number of classes), scores
    (N x (P C)), priors (1 x 2 x (P 4)), and possibly the image, which nothing reads.  Top: 1 x 1 x K x 7, rows [image,
    label, score, x1, y1, x2, y2] by image and label, each by falling score; boxes are parts of the image and not cut to
    it.  Without any detection there are N rows of -1 with the image's number first.  Source: weiliu89/caffe,
    detection_output_layer.cpp, as its CPU computes.  Where ``keep_top_k`` falls among equal scores, the lower label
    and the better place stay (std::sort leaves that open).  Files (``save_output_param``) and windows (``visualize``)
    are not made.  NaN among boxes or scores is refused.  No gradient.
    """

    caffe_type = "DetectionOutput"
    bottom_count = (3, 4)
    no_gradient: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    sized_by_values = True
    rows_axis = 2

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("detection_output_param")
        if not section.has("num_classes") or section.num_classes < 1:
            raise self.error(f"detection_output_param.num_classes is {section.num_classes}, expected 1 or more")
        nms = section.nms_param
        self.classes, self.background = int(section.num_classes), int(section.background_label_id)
        self.share, self.coding = bool(section.share_location), Coding.of(section, "variance_encoded_in_target")
        self.keep = int(section.keep_top_k)
        self.threshold = float(section.confidence_threshold) if section.has("confidence_threshold") else -FLT_MAX
        self.nms, self.eta = float(np.float32(nms.nms_threshold)), float(np.float32(nms.eta))
        self.top_k = int(nms.top_k) if nms.HasField("top_k") else -1
        if not self.nms >= 0:
            raise self.error(f"nms_param.nms_threshold is {self.nms:g}, expected 0 or more")
        if not 0 < self.eta <= 1:
            raise self.error(f"nms_param.eta is {self.eta:g}, expected more than 0 and at most 1")
        if math.isnan(self.threshold):
            raise self.error("detection_output_param.confidence_threshold is NaN, expected a number")
        self._tell_ignored()

    def _tell_ignored(self) -> None:
        section = self.params.section("detection_output_param")
        section.ignore("visualize_threshold", "save_file")
        output = section.save_output_param if section.has("save_output_param") else None
        named = [] if output is None else [name for name in _WRITTEN if getattr(output, name)]
        if output is not None and (output.output_directory or named):
            files = "".join(f", {name} {getattr(output, name)!r} is not read" for name in named)
            _log.warning(
                "layer '%s': save_output_param writes no files here%s; use the rows of the top", self.name, files
            )
        if section.visualize:
            _log.warning("layer '%s': visualize shows no windows here", self.name)

    @property
    def labels(self) -> list[int]:
        """All classes but the background."""
        return [label for label in range(self.classes) if label != self.background]

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Scores, and priors with their variances."""
        if bottom == 1:
            return random.random(shapes[1])
        if bottom == 2:
            rows = count(shapes[2], 2) // 4
            found = sample_boxes((rows, 5), [1], (1.0, 1.0), random)[:, 1:] + [0, 0, 0.05, 0.05]
            return np.stack([found, np.full_like(found, 0.1)]).reshape(shapes[2])
        return None

    def _priors(self, bottoms: Sequence[Shape]) -> int:
        """How many, after Caffe's checks of all sizes."""
        legacy_rank(self, bottoms)
        predicted, scores, priors = bottoms[:3]
        self.require(
            len(priors) >= 3 and priors[:2] == (1, 2) and priors[2] % 4 == 0 and count(priors, 3) == 1,
            f"the priors have the shape {list(priors)}, expected 1 x 2 x (P 4)",
        )
        total = priors[2] // 4
        self.require(
            bool(predicted) and bool(scores) and predicted[0] == scores[0],
            f"boxes have the shape {list(predicted)} and scores {list(scores)}, expected as many images",
        )
        each = 1 if self.share else self.classes
        for name, shape, wanted, told in (
            ("location predictions", predicted, total * each * 4, f"{each} x 4"),
            ("confidence predictions", scores, total * self.classes, f"{self.classes}"),
        ):
            self.require(
                count(shape, 1) == wanted,
                f"{name} have the shape {list(shape)}, expected {wanted} for each image: {total} priors x {told}",
            )
        return total

    def _most(self, priors: int) -> int:
        """Detections of an image at most."""
        each = priors if self.top_k < 0 else min(priors, self.top_k)
        found = each * len(self.labels)
        return found if self.keep < 0 else min(found, self.keep)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """1 x 1 x K x 7, for the largest K."""
        images = (bottoms[0] or (0,))[0]
        return [(1, 1, images * max(1, self._most(self._priors(bottoms))), 7)]

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """1 x 1 x 1 x 7: until it has run, Caffe says so too."""
        self._priors([tuple(bottom.shape) for bottom in bottoms])
        return [(1, 1, 1, 7)]

    @torch.no_grad()
    def forward(self, predicted: Tensor, scores: Tensor, priors: Tensor, *more: Tensor) -> Tensor:
        """Decoded where the net runs, chosen on the CPU, as the original does on a GPU too."""
        shapes = [tuple(predicted.shape), tuple(scores.shape), tuple(priors.shape)]
        total = self._priors(shapes)
        if predicted.is_meta:
            return predicted.new_empty(self.top_shapes(shapes)[0])
        unclear(self, predicted, 0)
        unclear(self, scores, 1)
        known = read_priors(self, priors.to(predicted.dtype))
        self.coding.check(self, known)
        each = predicted.reshape(len(predicted), total, -1, 4).transpose(1, 2)
        decoded = self.decoded(known, each, more).cpu()  # [N, L, P, 4]
        by_class = self.scored(scores.reshape(len(scores), total, self.classes), more)
        by_class = by_class.transpose(1, 2).contiguous().cpu()
        found = [
            row for number in range(len(decoded)) for row in self._image(number, decoded[number], by_class[number])
        ]
        if not found:
            top = predicted.new_full((len(predicted), 7), -1)
            top[:, 0] = torch.arange(len(predicted))
        else:
            top = torch.cat(found).to(predicted.device)
        return top[None, None]

    def decoded(self, priors: Priors, predicted: Tensor, more: Sequence[Tensor]) -> Tensor:
        """Boxes of predictions (Tensor[N, L, P, 4]); ``more``: the bottoms behind the priors, which SSD's reads not."""
        return self.coding.decode(priors, predicted)

    def scored(self, scores: Tensor, more: Sequence[Tensor]) -> Tensor:
        """The scores that count (Tensor[N, P, C])."""
        return scores

    def _image(self, number: int, decoded: Tensor, scores: Tensor) -> Iterator[Tensor]:
        """Rows of one image, a Tensor[.., 7] for each class that has some."""
        found = {label: self.suppressed(decoded[0 if self.share else label], scores[label]) for label in self.labels}
        total = sum(map(len, found.values()))
        if -1 < self.keep < total:
            values = torch.cat([scores[label][kept] for label, kept in found.items()])
            order = torch.sort(values, descending=True, stable=True)[1][: self.keep]
            labels = torch.cat([torch.full((len(kept),), label) for label, kept in found.items()])[order]
            every = torch.cat(list(found.values()))[order]
            found = {label: every[labels == label] for label in found}
        for label, kept in found.items():
            if len(kept):
                boxes = decoded[0 if self.share else label][kept]
                head = boxes.new_tensor([number, label]).expand(len(kept), 2)
                yield torch.cat((head, scores[label][kept, None], boxes), 1)

    def suppressed(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Places of the boxes of one class that stay, best first."""
        places = self.best(scores)
        boxes = boxes[places]
        if self.eta < 1 or not bool(areas(boxes).isfinite().all()):
            return places[self._one_by_one(boxes)]
        falling = torch.arange(len(places), 0, -1, dtype=torch.float32)
        return places[_nms(self, boxes, falling, self.nms)]

    def best(self, scores: Tensor) -> Tensor:
        """Places above the threshold, the best ``top_k`` of them, falling; equal ones in their order."""
        values = scores.numpy()
        places = np.flatnonzero(values > self.threshold)
        values = values[places]
        if -1 < self.top_k < len(places):
            if self.top_k == 0:
                return torch.zeros(0, dtype=torch.int64)
            least = np.partition(values, len(values) - self.top_k)[len(values) - self.top_k]
            near = values >= least
            places, values = places[near], values[near]
        order = np.argsort(-values, kind="stable")
        return torch.from_numpy(places[order[: self.top_k] if self.top_k > -1 else order])

    def _one_by_one(self, boxes: Tensor) -> Tensor:
        """Non-maximum suppression whose threshold shrinks by ``eta`` while it is above a half."""
        kept: list[int] = []
        threshold = np.float32(self.nms)
        for place in range(len(boxes)):
            if kept and not bool((overlaps(boxes[place : place + 1], boxes[kept]) <= float(threshold)).all()):
                continue
            kept.append(place)
            if self.eta < 1 and threshold > 0.5:
                threshold *= np.float32(self.eta)
        return torch.tensor(kept, dtype=torch.int64)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Decoding, TopK, NonMaxSuppression; the number of rows is open."""
        if self.eta < 1:
            raise self.export_error(f"nms_param.eta is {self.eta:g}; ONNX's suppression has one threshold, expected 1")
        priors = graph.static_shape(bottoms[2], "the number of priors")[2] // 4
        most = priors if self.top_k < 0 else min(priors, self.top_k)
        if not most or not self.labels or not self.keep:
            raise self.export_error("nothing can be detected: no class, or top_k or keep_top_k 0")
        wanted = Wanted(priors, self.classes, tuple(self.labels), self.share, most, self.keep)
        write_detections(
            graph, self.onnx_bottoms(graph, bottoms), tops, wanted, self.coding, (self.threshold, self.nms)
        )

    def onnx_bottoms(self, graph: OnnxGraph, bottoms: Sequence[str]) -> list[str]:
        """Predicted boxes, scores that count, priors, and what is decoded against those first, if anything."""
        return list(bottoms[:3])


def _nms(layer: Layer, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """torchvision's suppression: it divides the same float32 areas, and drops what overlaps by more."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises RuntimeError
        raise layer.error(f"needs torchvision, built for torch {torch.__version__}: {error}") from error
    kept: Tensor = torch.ops.torchvision.nms(boxes.float(), scores, threshold)
    return kept
