"""DetectionOutput as ONNX nodes.

The best boxes of a class are taken by TopK, which keeps the lower place among equal scores, as the layer does; then
each (image, class) is an image of its own for NonMaxSuppression, which drops what overlaps by more than the threshold.
What stays is marked in a table of (image, class x place), so that reading the marks gives Caffe's order of rows.
Scores must be more than the threshold, in NonMaxSuppression too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.layers.base import OnnxGraph
from caffe_compat.layers.box_coding import Coding

__all__ = ["Wanted", "write_detections"]

_BOOL, _FLOAT = 9, 1


@dataclass(frozen=True)
class Wanted:
    """Sizes of a DetectionOutput.

    Attributes:
        priors, classes: how many.
        labels: all classes but the background.
        share: whether all classes have the same boxes.
        most: boxes of a class that come to suppression.
        keep: boxes of an image that stay; -1: all.
    """

    priors: int
    classes: int
    labels: tuple[int, ...]
    share: bool
    most: int
    keep: int

    @property
    def places(self) -> int:
        """Columns of the table of an image."""
        return len(self.labels) * self.most


def write_detections(
    graph: OnnxGraph,
    bottoms: Sequence[str],
    tops: Sequence[str],
    wanted: Wanted,
    coding: Coding,
    thresholds: tuple[float, float],
) -> None:
    """Nodes that compute the layer's top.

    Args:
        bottoms: predicted boxes, scores, priors, and possibly predictions that move the priors first.
        thresholds: the scores must be more, the overlaps not more.
    """
    ints = graph.constant
    boxes = _decoded(graph, bottoms, wanted, coding)  # [N, P, 4] or [N, labels, P, 4]
    scores = graph.add("Reshape", [bottoms[1], ints([-1, wanted.priors, wanted.classes])])
    scores = graph.add("Transpose", [scores], perm=[0, 2, 1])
    if len(wanted.labels) < wanted.classes:
        scores = graph.add("Gather", [scores, ints(list(wanted.labels))], axis=1)
    best, index = f"{tops[0]}/best", f"{tops[0]}/index"
    graph.node("TopK", [scores, ints([wanted.most])], [best, index], axis=2)
    boxes = _picked(graph, boxes, index, wanted)  # [N, places, 4]
    best = graph.add("Reshape", [best, ints([-1, wanted.places])])
    upright = boxes if coding.kind == "CENTER_SIZE" else _upright(graph, boxes)
    marks = _suppressed(graph, upright, best, wanted, thresholds)
    if -1 < wanted.keep < wanted.places:
        marks = _cut(graph, best, marks, wanted.keep)
    where = graph.add("Transpose", [graph.add("NonZero", [marks])], perm=[1, 0])  # [K, 2]: image, place
    rows = _rows(graph, where, best, boxes, wanted)
    rows = graph.add("Concat", [rows, _none(graph, rows, bottoms[0])], axis=0)
    graph.node("Reshape", [rows, ints([1, 1, -1, 7])], tops)


def _decoded(graph: OnnxGraph, bottoms: Sequence[str], wanted: Wanted, coding: Coding) -> str:
    """Corners of all boxes: as :meth:`Coding.decode`."""
    ints = graph.constant
    each = 1 if wanted.share else wanted.classes
    predicted = graph.add("Reshape", [bottoms[0], ints([-1, wanted.priors, each, 4])])
    predicted = graph.add("Transpose", [predicted], perm=[0, 2, 1, 3])
    if not wanted.share and len(wanted.labels) < wanted.classes:
        predicted = graph.add("Gather", [predicted, ints(list(wanted.labels))], axis=1)
    halves = graph.add("Reshape", [bottoms[2], ints([2, wanted.priors, 4])])
    priors, variances = (graph.add("Gather", [halves, ints(np.array(half, np.int64))], axis=0) for half in (0, 1))
    for first in bottoms[3:]:  # what moves the priors of each image, before these are decoded against
        moved = graph.add("Reshape", [first, ints([-1, 1, wanted.priors, 4])])
        priors = _moved(graph, priors, variances, moved, coding)
    boxes = _moved(graph, priors, variances, predicted, coding)
    return graph.add("Reshape", [boxes, ints([-1, wanted.priors, 4])]) if wanted.share else boxes


def _moved(graph: OnnxGraph, priors: str, variances: str, predicted: str, coding: Coding) -> str:
    """As :meth:`Coding.decode`."""
    moved = predicted if coding.in_target else graph.add("Mul", [variances, predicted])
    if coding.kind == "CORNER":
        return graph.add("Add", [priors, moved])
    low, high = (_columns(graph, priors, half) for half in (0, 1))
    size = graph.add("Sub", [high, low])
    if coding.kind == "CORNER_SIZE":
        side = graph.add("Concat", [size, size], axis=-1)
        return graph.add("Add", [priors, graph.add("Mul", [moved, side])])
    half = graph.constant(0.5)
    middle = graph.add("Mul", [graph.add("Add", [low, high]), half])
    centre = graph.add("Add", [graph.add("Mul", [_columns(graph, moved, 0), size]), middle])
    grown = graph.add("Mul", [graph.add("Exp", [_columns(graph, moved, 1)]), size])
    reach = graph.add("Mul", [grown, half])
    corners = [graph.add("Sub", [centre, reach]), graph.add("Add", [centre, reach])]
    return graph.add("Concat", corners, axis=-1)


def _columns(graph: OnnxGraph, boxes: str, half: int) -> str:
    """x and y of the first or of the second corner."""
    ints = graph.constant
    return graph.add("Slice", [boxes, ints([2 * half]), ints([2 * half + 2]), ints([-1])])


def _picked(graph: OnnxGraph, boxes: str, index: str, wanted: Wanted) -> str:
    """The boxes at places [N, labels, most], as [N, places, 4]."""
    ints = graph.constant
    flat = [0, wanted.places, 1] if wanted.share else [0, 0, 0, 1]
    at = graph.add("Reshape", [index, ints(flat)])
    picked = graph.add("GatherND", [boxes, at], batch_dims=1 if wanted.share else 2)
    return picked if wanted.share else graph.add("Reshape", [picked, ints([0, wanted.places, 4])])


def _upright(graph: OnnxGraph, boxes: str) -> str:
    """Boxes with swapped corners as points: NonMaxSuppression would swap them back, Caffe gives them no size."""
    low, high = (_columns(graph, boxes, half) for half in (0, 1))
    return graph.add("Concat", [low, graph.add("Max", [low, high])], axis=-1)


def _suppressed(graph: OnnxGraph, boxes: str, best: str, wanted: Wanted, thresholds: tuple[float, float]) -> str:
    """Marks [N, places], 1 where a box stays."""
    ints = graph.constant
    chosen = graph.add(
        "NonMaxSuppression",
        [
            graph.add("Reshape", [boxes, ints([-1, wanted.most, 4])]),
            graph.add("Reshape", [best, ints([-1, 1, wanted.most])]),
            ints([wanted.most]),
            graph.constant(np.array([min(thresholds[1], 1.0)], np.float32)),
            graph.constant(np.array([thresholds[0]], np.float32)),
        ],
    )
    # (number of the image and class, 0, place) -> one number
    steps = graph.constant(np.array([[wanted.most], [0], [1]], np.int64))
    at = graph.add("MatMul", [chosen, steps])  # [K, 1]
    flat = graph.add("Reshape", [best, ints([-1])])
    zeros = graph.add("ConstantOfShape", [graph.add("Shape", [flat])])
    found = graph.add("Slice", [graph.add("Shape", [at]), ints([0]), ints([1])])
    ones = graph.add("Expand", [graph.constant(np.ones(1, np.float32)), found])
    marks = graph.add("ScatterND", [zeros, at, ones])
    return graph.add("Reshape", [marks, ints([-1, wanted.places])])


def _cut(graph: OnnxGraph, best: str, marks: str, keep: int) -> str:
    """Of the marks of each image those of the ``keep`` best scores."""
    marked = graph.add("Cast", [marks], to=_BOOL)
    lowest = graph.constant(np.array(np.finfo(np.float32).min, np.float32))
    index = graph.add("Where", [marked, best, lowest])
    top = f"{index}/kept"
    graph.node("TopK", [index, graph.constant([keep])], [f"{index}/scores", top], axis=1)
    none = graph.add("Mul", [marks, graph.constant(0.0)])
    ones = graph.add("Expand", [graph.constant(np.ones(1, np.float32)), graph.add("Shape", [top])])
    return graph.add("Mul", [marks, graph.add("ScatterElements", [none, top, ones], axis=1)])


def _rows(graph: OnnxGraph, where: str, best: str, boxes: str, wanted: Wanted) -> str:
    """[K, 7] of places [K, 2]."""
    ints = graph.constant
    image, place = (graph.add("Slice", [where, ints([n]), ints([n + 1]), ints([1])]) for n in (0, 1))
    label = graph.add("Div", [place, ints(np.array(wanted.most, np.int64))])
    if wanted.labels != tuple(range(len(wanted.labels))):
        label = graph.add("Gather", [ints(list(wanted.labels)), label], axis=0)
    score = graph.add("Unsqueeze", [graph.add("GatherND", [best, where]), ints([1])])
    parts = [graph.add("Cast", [image], to=_FLOAT), graph.add("Cast", [label], to=_FLOAT), score]
    return graph.add("Concat", [*parts, graph.add("GatherND", [boxes, where])], axis=1)


def _none(graph: OnnxGraph, rows: str, predicted: str) -> str:
    """What stands in for rows where there are none: -1, and the number of each image; else nothing."""
    ints = graph.constant
    images = graph.add("Slice", [graph.add("Shape", [predicted]), ints([0]), ints([1])])
    found = graph.add("Slice", [graph.add("Shape", [rows]), ints([0]), ints([1])])
    empty = graph.add("Equal", [found, ints([0])])
    count = graph.add("Where", [empty, images, ints([0])])
    scalar = graph.add("Squeeze", [count, ints([0])])
    zero, one = (graph.constant(np.array(value, np.int64)) for value in (0, 1))
    numbers = graph.add("Cast", [graph.add("Range", [zero, scalar, one])], to=_FLOAT)
    numbers = graph.add("Unsqueeze", [numbers, ints([1])])
    shape = graph.add("Concat", [count, ints([6])], axis=0)
    rest = graph.add("Expand", [graph.constant(np.array(-1, np.float32)), shape])
    return graph.add("Concat", [numbers, rest], axis=1)
