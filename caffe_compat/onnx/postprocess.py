"""What ``test_net`` does with a detector's numbers, as a part of the graph: boxes moved, cut to the image, suppressed.

A model with it takes one image, proposals in pixels of that image, and ``image_info``, and gives the boxes that stay:

===================  =======  ===================================================================================
input ``proposals``  float32  [R, 4] x1 y1 x2 y2 in pixels of the image, from 0 (instead of ``rois``)
``image_info``       float64  [2 + n]: height and width of the image, and for each of the net's n inputs of regions
                              (``rois``, ``rois_1``, ...) the factor by which its picture was scaled
output ``boxes``     float32  [M, 4] x1 y1 x2 y2 in pixels of the image; class after class, each by descending score
``scores``           float32  [M]
``classes``          int64    [M] label, of which 0 is the background
===================  =======  ===================================================================================

The rules are those of :mod:`caffe_compat.detection` without PARITY, in the same precision (boxes move in float64).
ONNX's NonMaxSuppression measures boxes without the +1 of fast-rcnn, and drops what overlaps by more than its threshold,
not by as much: it is shown boxes whose second corner lies one pixel further, and the largest float32 below the
threshold.  Overlaps are then the same but for the last bit of sides that are no whole numbers.  Regions that fall
together after rounding (DEDUP_BOXES) are each seen by the net, but have what it says of the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from caffe_compat.config import Config
from caffe_compat.errors import ExportError, nearest
from caffe_compat.onnx.parts import Parts
from caffe_compat.onnx.patch import Patch, dims_of

__all__ = ["BOXES", "CLASSES", "IMAGE_INFO", "PROPOSALS", "SCORES", "Boxes", "add_postprocessing", "cut_postprocessing"]

PROPOSALS, IMAGE_INFO = "proposals", "image_info"
BOXES, SCORES, CLASSES = "boxes", "scores", "classes"

_PREFIX = "postprocess/"
_HASH = [[1.0], [1e3], [1e6], [1e9], [1e12]]  #: as fast-rcnn tells regions apart


@dataclass(frozen=True)
class Boxes:
    """What the graph is to do with boxes.

    Attributes:
        scores: blob of a score for each region and label.
        deltas: blob of what moves a region for each label, not normalised (as snapshots give it); empty: boxes stay as
            they are proposed, and are not cut to the image.
        nms: TEST.NMS, overlap from which on the lower of two boxes of a class goes.
        score_thresh: TEST.SCORE_THRESH; boxes with this score or less are dropped.
        per_image: TEST.MAX_PER_IMAGE, boxes of a class that come to suppression.
        in_all: TEST.MAX_PER_IMAGE_ALL, boxes of all classes that stay, and those of the same score as the last; 0: all.
        eps: EPS, added to widths and heights.
        dedup: DEDUP_BOXES; regions that fall together after multiplying with this and rounding have the scores and
            deltas of the first of them; 0: no such thing.
    """

    scores: str = "cls_prob"
    deltas: str = "bbox_pred"
    nms: float = 0.3
    score_thresh: float = -np.inf
    per_image: int = 100
    in_all: int = 0
    eps: float = 1e-14
    dedup: float = 1 / 16

    @classmethod
    def of(cls, config: Config) -> Boxes:
        """What options of the fast-rcnn tools say.

        Raises:
            ExportError: PARITY, whose quirks no graph has.
        """
        if config.parity:
            raise ExportError("--postprocess follows the rules without PARITY, and the options say PARITY")
        test = config.test
        scores, deltas = "cls_score" if test.svm else "cls_prob", "bbox_pred" if test.bbox_reg else ""
        limits = (test.nms, test.score_thresh, test.max_per_image, test.max_per_image_all)
        return cls(scores, deltas, *limits, config.eps, config.dedup_boxes)

    @property
    def blobs(self) -> tuple[str, ...]:
        """The outputs of the net that it needs."""
        return (self.scores, self.deltas) if self.deltas else (self.scores,)


def add_postprocessing(parts: Parts, asked: Boxes) -> Parts:
    """The model of a detector with boxes, scores and classes as its outputs.

    Raises:
        ExportError: it is no detector's: other inputs or outputs.
    """
    regions, labels = _check(parts.model, asked)
    before = Patch(parts, "regions/")
    _one_image(before.model, regions)
    _write_regions(before, regions)
    patch = Patch(before.finish(before=True), _PREFIX)
    del patch.model.graph.output[:]
    same = _first_alike(patch, regions, asked.dedup) if asked.dedup else ""
    scores = _of_first(patch, asked.scores, [-1, labels], same)
    # of each class the best: [labels - 1, K]
    scores = patch.add("Transpose", [_from(patch, scores, 1, 1)], perm=[1, 0])
    count = patch.add("Slice", [patch.add("Shape", [scores]), patch.constant([1]), patch.constant([2])])
    most = patch.add("Min", [count, patch.constant([asked.per_image])])
    places = patch.fresh(f"{patch.prefix}TopK_places")
    best = patch.add("TopK", [scores, most], [patch.fresh(f"{patch.prefix}TopK_scores"), places], axis=1)
    boxes = _gathered(patch, _moved(patch, asked, labels, same), places)
    _suppressed(patch, boxes, best, asked)
    return patch.finish(before=False)


def cut_postprocessing(model: onnx.ModelProto) -> None:
    """Take :func:`add_postprocessing`'s nodes off a model again: its outputs are those of the net."""
    graph = model.graph
    added = [node for node in graph.node if node.name.startswith(_PREFIX)]
    if not added:
        return
    kept = [node for node in graph.node if not node.name.startswith(_PREFIX)]
    made = {name for node in kept for name in node.output}
    used = dict.fromkeys(name for node in added for name in node.input if name in made)
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in used)


def _check(model: onnx.ModelProto, asked: Boxes) -> tuple[list[str], int]:
    """The inputs of regions, and the number of labels."""
    outputs = {entry.name: dims_of(entry) for entry in model.graph.output}
    for name in asked.blobs:
        if name not in outputs:
            raise ExportError(f"--postprocess needs the output '{name}' of a detector{nearest(name, outputs)}; the "
                              f"model gives {', '.join(outputs)}")  # fmt: skip
    inputs = {entry.name: dims_of(entry) for entry in model.graph.input}
    regions = sorted((name for name in inputs if re.fullmatch(r"rois(_\d+)?", name)), key=_number)
    if not regions:
        raise ExportError(f"--postprocess needs the input 'rois' of a detector; the model takes {', '.join(inputs)}")
    labels = _width(outputs[asked.scores])
    if asked.deltas and _width(outputs[asked.deltas]) != 4 * labels:
        raise ExportError(
            f"--postprocess: '{asked.deltas}' has {_width(outputs[asked.deltas])} numbers for a region, expected "
            f"{4 * labels}: four for each of the {labels} labels of '{asked.scores}'"
        )
    if labels < 2:
        raise ExportError(f"--postprocess: '{asked.scores}' has {labels} labels, expected the background and a class")
    for name in {PROPOSALS, IMAGE_INFO, BOXES, SCORES, CLASSES} & _names(model):
        raise ExportError(f"--postprocess: the net has a blob '{name}', which is the name of an input or output of it")
    return regions, labels


def _number(name: str) -> int:
    """Of the modality that an input of regions belongs to: ``rois`` 0, ``rois_1`` 1."""
    return int(name.partition("_")[2] or 0)


def _names(model: onnx.ModelProto) -> set[str]:
    graph = model.graph
    return {name for node in graph.node for name in node.output} | {entry.name for entry in graph.input}


def _width(dims: Sequence[int | str]) -> int:
    """Numbers of an output for a region."""
    sizes = [dim for dim in dims[1:] if isinstance(dim, int)]
    if len(sizes) != len(dims) - 1 or not sizes:
        raise ExportError(f"--postprocess: an output of the sizes {dims}, expected [regions, numbers]")
    return int(np.prod(sizes))


# -- regions ----------------------------------------------------------------------------------------------------------


def _one_image(model: onnx.ModelProto, regions: Sequence[str]) -> None:
    """Only one image at a time: a batch that is open is closed."""
    for entry in model.graph.input:
        dims = entry.type.tensor_type.shape.dim
        if entry.name not in regions and len(dims) == 4:
            if dims[0].dim_value > 1:
                raise ExportError(f"--postprocess takes one image, input '{entry.name}' {dims[0].dim_value}: export "
                                  f"with --shape {entry.name}=1,...")  # fmt: skip
            dims[0].Clear()
            dims[0].dim_value = 1


def _write_regions(patch: Patch, regions: Sequence[str]) -> None:
    """Regions of the net: number of the image, which is 0, and boxes in pixels of the scaled picture."""
    count = next(dims_of(entry)[0] for entry in patch.model.graph.input if entry.name == regions[0])
    for name in regions:
        patch.take_input(name)
    patch.add_input(PROPOSALS, TensorProto.FLOAT, [count, 4])
    patch.add_input(IMAGE_INFO, TensorProto.DOUBLE, [2 + len(regions)])
    exact = patch.add("Cast", [PROPOSALS], to=TensorProto.DOUBLE)
    for number, name in enumerate(regions):
        place = patch.constant([2 + number])
        factor = patch.add("Slice", [IMAGE_INFO, place, patch.constant([3 + number])])
        scaled = patch.add("Cast", [patch.add("Mul", [exact, factor])], to=TensorProto.FLOAT)
        padded = patch.add("Pad", [scaled, patch.constant([0, 1, 0, 0])])
        patch.rename(padded, name)


# -- boxes ------------------------------------------------------------------------------------------------------------


def _from(patch: Patch, value: str, axis: int, first: int, last: int = np.iinfo(np.int64).max) -> str:
    return patch.add("Slice", [value, patch.constant([first]), patch.constant([last]), patch.constant([axis])])


def _first_alike(patch: Patch, regions: Sequence[str], dedup: float) -> str:
    """For each region the first that falls together with it in all modalities: int64 [R]."""
    alike = ""
    for name in regions:
        rounded = patch.add("Round", [patch.add("Mul", [name, patch.constant(dedup, np.float32)])])
        exact = patch.add("Cast", [rounded], to=TensorProto.DOUBLE)
        column = patch.add("MatMul", [exact, patch.constant(_HASH, np.float64)])  # [R, 1]
        equal = patch.add("Equal", [column, patch.add("Transpose", [column], perm=[1, 0])])
        alike = patch.add("And", [alike, equal]) if alike else equal
    count = patch.add("Slice", [patch.add("Shape", [regions[0]]), patch.constant([0]), patch.constant([1])])
    one = patch.add("ConstantOfShape", [count], value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    places = patch.add("Sub", [patch.add("CumSum", [one, patch.constant(0)]), patch.constant(1.0, np.float32)])
    first = patch.add("Where", [alike, places, patch.constant(np.inf, np.float32)])
    if patch.opset < 18:
        least = patch.add("ReduceMin", [first], axes=[1], keepdims=0)
    else:
        least = patch.add("ReduceMin", [first, patch.constant([1])], keepdims=0)
    return patch.add("Cast", [least], to=TensorProto.INT64)


def _of_first(patch: Patch, value: str, shape: Sequence[int], same: str) -> str:
    """An output of the net in a shape, each region's row that of the first like it."""
    rows = patch.add("Reshape", [value, patch.constant(shape)])
    return patch.add("Gather", [rows, same], axis=0) if same else rows


def _moved(patch: Patch, asked: Boxes, labels: int, same: str) -> str:
    """Boxes of all classes but the background, float32 [labels - 1, R, 4], or [1, R, 4] for all."""
    if not asked.deltas:
        return patch.add("Unsqueeze", [PROPOSALS, patch.constant([0])])
    exact = patch.add("Cast", [PROPOSALS], to=TensorProto.DOUBLE)
    first, last = _from(patch, exact, 1, 0, 2), _from(patch, exact, 1, 2, 4)
    extent = patch.add("Add", [patch.add("Sub", [last, first]), patch.constant(asked.eps, np.float64)])
    centre = patch.add("Add", [first, patch.add("Mul", [extent, patch.constant(0.5, np.float64)])])
    deltas = _of_first(patch, asked.deltas, [-1, labels, 4], same)
    deltas = patch.add("Transpose", [_from(patch, deltas, 1, 1)], perm=[1, 0, 2])
    shift = patch.add("Cast", [_from(patch, deltas, 2, 0, 2)], to=TensorProto.DOUBLE)
    growth = patch.add("Cast", [patch.add("Exp", [_from(patch, deltas, 2, 2, 4)])], to=TensorProto.DOUBLE)
    middle = patch.add("Add", [patch.add("Mul", [shift, extent]), centre])
    half = patch.add("Mul", [patch.add("Mul", [growth, extent]), patch.constant(0.5, np.float64)])
    moved = patch.add("Concat", [patch.add("Sub", [middle, half]), patch.add("Add", [middle, half])], axis=2)
    # height, width to the last column and row, for x1 y1 x2 y2
    ends = patch.add("Gather", [IMAGE_INFO, patch.constant([1, 0, 1, 0])], axis=0)
    ends = patch.add("Sub", [ends, patch.constant(1.0, np.float64)])
    cut = patch.add("Min", [patch.add("Max", [moved, patch.constant(0.0, np.float64)]), ends])
    return patch.add("Cast", [cut], to=TensorProto.FLOAT)


def _gathered(patch: Patch, boxes: str, places: str) -> str:
    """The boxes at places [labels - 1, K] of each class: [labels - 1, K, 4]."""
    index = patch.add("Unsqueeze", [places, patch.constant([2])])
    shape = patch.add("Concat", [patch.add("Shape", [places]), patch.constant([4])], axis=0)
    every = patch.add("Expand", [index, shape])
    rows = patch.add("Slice", [patch.add("Shape", [places]), patch.constant([0]), patch.constant([1])])
    columns = patch.add("Slice", [patch.add("Shape", [PROPOSALS]), patch.constant([0]), patch.constant([1])])
    whole = patch.add("Concat", [rows, columns, patch.constant([4])], axis=0)
    return patch.add("GatherElements", [patch.add("Expand", [boxes, whole]), every], axis=1)


def _suppressed(patch: Patch, boxes: str, scores: str, asked: Boxes) -> None:
    """Write the outputs, of boxes [C, K, 4] and scores [C, K] of C classes."""
    further = patch.add("Add", [boxes, patch.constant([0, 0, 1, 1], np.float32)])
    # a threshold of 0 leaves one box of a class, also where nothing overlaps
    most = np.iinfo(np.int64).max if asked.nms > 0 else 1
    limits = [patch.constant(most), patch.constant(max(0.0, _below(asked.nms)), np.float32)]
    if np.isfinite(asked.score_thresh):
        limits.append(patch.constant(_at_most(asked.score_thresh), np.float32))
    one_class = patch.add("Unsqueeze", [scores, patch.constant([1])])
    kept = patch.add("NonMaxSuppression", [further, one_class, *limits])  # [M, 3]: class, 0, place
    found = patch.add("Gather", [kept, patch.constant([0, 2])], axis=1)
    labels = patch.add("Add", [patch.add("Gather", [kept, patch.constant(0)], axis=1), patch.constant(1)])
    values = [patch.add("GatherND", [boxes, found]), patch.add("GatherND", [scores, found]), labels]
    if asked.in_all:
        keep = _best_of_all(patch, values[1], asked.in_all)
        values = [patch.add("Compress", [value, keep], axis=0) for value in values]
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64)
    for value, name, kind in zip(values, (BOXES, SCORES, CLASSES), kinds, strict=True):
        patch.add("Identity", [value], [name])
        patch.add_output(name, kind, ["found", 4] if name == BOXES else ["found"])


def _best_of_all(patch: Patch, scores: str, most: int) -> str:
    """Which of the scores are at least the one that comes at that place; all where there are not as many."""
    more = patch.add("Concat", [scores, patch.constant([-np.inf], np.float32)], axis=0)
    count = patch.add("Min", [patch.add("Shape", [more]), patch.constant([most])])
    best = [patch.fresh(f"{patch.prefix}TopK_all"), patch.fresh(f"{patch.prefix}TopK_all_places")]
    patch.add("TopK", [more, count], best, axis=0)
    least = _from(patch, best[0], 0, -1)
    return patch.add("GreaterOrEqual", [scores, least])


def _below(threshold: float) -> float:
    """The largest float32 below a threshold: a float32 exceeds it just where it is the threshold or more."""
    found = np.float32(threshold)
    return float(np.nextafter(found, np.float32(-np.inf)) if float(found) >= threshold else found)


def _at_most(threshold: float) -> float:
    """The largest float32 that is not more than a threshold: a float32 exceeds both or none."""
    found = np.float32(threshold)
    return float(np.nextafter(found, np.float32(-np.inf)) if float(found) > threshold else found)
