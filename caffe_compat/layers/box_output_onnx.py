"""MS-CNN's BoxOutput as ONNX nodes.

All boxes are put in the order of the layer's ties (the last first), so that TopK, which keeps the lower place among
equal scores, sorts as the layer does.  What stays of an image after suppression is marked in a table of (image, place);
reading the marks gives the rows by image and falling score, whatever the order of NonMaxSuppression's answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.layers.base import OnnxGraph

__all__ = ["Decoding", "write_regions"]

_FLOAT = 1
_LEAST = -float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Decoding:
    """How maps become boxes, and which count.

    Attributes:
        fields: of each map width and height of the box of a cell, and pixels from cell to cell.
        means, stds: of the four offsets.
        reach: offsets of the centre lie within this, in boxes.
        growth: sides are at most this times the box's, and at least its inverse.
        score, side: the least that count.
    """

    fields: Sequence[tuple[float, float, float]]
    means: Sequence[float]
    stds: Sequence[float]
    reach: float
    growth: float
    score: float
    side: float


def write_regions(
    graph: OnnxGraph,
    bottoms: Sequence[str],
    tops: Sequence[str],
    decoding: Decoding,
    limits: tuple[int, int],
    overlap: float,
) -> None:
    """Nodes that compute the layer's tops.

    Args:
        limits: boxes of an image before and after suppression, 0 for all.
        overlap: from which on a box goes that has more with a better one.
    """
    add, ints = graph.add, graph.constant
    parts = [_decoded(graph, bottom, field, decoding) for bottom, field in zip(bottoms, decoding.fields, strict=True)]
    boxes, scores = (add("Concat", list(values), axis=1) for values in zip(*parts, strict=True))  # [N, P, 4], [N, P]
    boxes, scores = (
        add("Slice", [value, ints([-1]), ints([np.iinfo(np.int64).min]), ints([1]), ints([-1])])
        for value in (boxes, scores)
    )
    sides = add("Slice", [boxes, ints([2]), ints([4]), ints([2])])
    fits = add("GreaterOrEqual", [sides, ints(decoding.side)])
    wide, high = (add("Gather", [fits, ints(np.array(n))], axis=2) for n in (0, 1))
    counts = add("And", [add("And", [wide, high]), add("GreaterOrEqual", [scores, ints(decoding.score)])])
    scores = add("Where", [counts, scores, ints(-np.inf)])
    total = add("Slice", [add("Shape", [scores]), ints([1]), ints([2])])
    most = add("Min", [total, ints([limits[0]])]) if limits[0] else total
    best, order = f"{tops[0]}/scores", f"{tops[0]}/order"
    graph.node("TopK", [scores, most], [best, order], axis=1)
    boxes = add("GatherND", [boxes, add("Unsqueeze", [order, ints([2])])], batch_dims=1)
    low = add("Slice", [boxes, ints([0]), ints([2]), ints([2])])
    sides = add("Slice", [boxes, ints([2]), ints([4]), ints([2])])
    corners = add("Concat", [low, add("Add", [low, sides])], axis=2)
    after = ints([limits[1]]) if limits[1] else most
    where = _kept(graph, corners, best, after, overlap)  # [R, 2]: image, place
    image = add("Cast", [add("Slice", [where, ints([0]), ints([1]), ints([1])])], to=_FLOAT)
    score = add("Unsqueeze", [add("GatherND", [best, where]), ints([1])])
    rows = add("Concat", [image, add("GatherND", [corners, where]), score], axis=1)
    _written(graph, rows, tops)


def _decoded(graph: OnnxGraph, bottom: str, field: Sequence[float], decoding: Decoding) -> tuple[str, str]:
    """Boxes x y width height [N, H W, 4] and scores [N, H W] of a map."""
    add, ints = graph.add, graph.constant
    end = np.iinfo(np.int64).max

    def channels(first: int, last: int) -> str:
        return add("Slice", [bottom, ints([first]), ints([last]), ints([1])])

    classes, none = channels(1, -4), channels(0, 1)
    if graph.opset < 18:
        highest = add("ReduceMax", [classes], axes=[1], keepdims=1)
    else:
        highest = add("ReduceMax", [classes, ints([1])], keepdims=1)
    score = add("Reshape", [add("Sub", [highest, none]), ints([0, -1])])
    offsets = channels(-4, end)
    if decoding.stds != [1.0] * 4 or any(decoding.means):
        stds, means = (
            ints(np.array(values, np.float32).reshape(4, 1, 1)) for values in (decoding.stds, decoding.means)
        )
        offsets = add("Add", [add("Mul", [offsets, stds]), means])
    sizes = add("Shape", [bottom])
    columns = []
    for axis in (0, 1):  # x, y
        shift, growth = (add("Slice", [offsets, ints([n]), ints([n + 1]), ints([1])]) for n in (axis, axis + 2))
        length = add("Gather", [sizes, ints(np.array(3 - axis))], axis=0)
        at = add("Cast", [add("Range", [ints(np.array(0)), length, ints(np.array(1))])], to=_FLOAT)
        at = at if axis == 0 else add("Unsqueeze", [at, ints([1])])
        centre = add("Mul", [add("Add", [at, ints(0.5)]), ints(float(field[2]))])
        shift = _held(graph, shift, decoding.reach)
        middle = add("Add", [add("Mul", [shift, ints(float(field[axis]))]), centre])
        side = add("Mul", [add("Exp", [_held(graph, growth, math.log(decoding.growth))]), ints(float(field[axis]))])
        low = add("Max", [add("Sub", [middle, add("Mul", [side, ints(0.5)])]), ints(0.0)])
        last = add("Mul", [add("Cast", [length], to=_FLOAT), ints(float(field[2]))])
        columns += [low, add("Min", [side, add("Sub", [last, low])])]
    boxes = add("Concat", [columns[0], columns[2], columns[1], columns[3]], axis=1)  # [N, 4, H, W]
    return add("Transpose", [add("Reshape", [boxes, ints([0, 4, -1])])], perm=[0, 2, 1]), score


def _held(graph: OnnxGraph, values: str, limit: float) -> str:
    return graph.add("Clip", [values, graph.constant(-limit), graph.constant(limit)])


def _kept(graph: OnnxGraph, corners: str, best: str, after: str, overlap: float) -> str:
    """Images and places [R, 2] of what stays of boxes [N, K, 4] by falling score [N, K]."""
    add, ints = graph.add, graph.constant
    limits = [ints(np.array([value], np.float32)) for value in (overlap, _LEAST)]
    chosen = add("NonMaxSuppression", [corners, add("Unsqueeze", [best, ints([1])]), after, *limits])
    at = add("Gather", [chosen, ints([0, 2])], axis=1)
    zeros = add("ConstantOfShape", [add("Shape", [best])])
    found = add("Slice", [add("Shape", [at]), ints([0]), ints([1])])
    ones = add("Expand", [ints(np.ones(1, np.float32)), found])
    return add("Transpose", [add("NonZero", [add("ScatterND", [zeros, at, ones])])], perm=[1, 0])


def _written(graph: OnnxGraph, rows: str, tops: Sequence[str]) -> None:
    """The tops; where there are no rows, what stands in for them."""
    add, ints = graph.add, graph.constant
    none = add("Equal", [add("Slice", [add("Shape", [rows]), ints([0]), ints([1])]), ints([0])])
    for top, given in zip(tops, ([0, 1, 1, 10, 10], [0] * 6), strict=False):
        spare = add("Compress", [ints(np.array([given], np.float32)), none], axis=0)
        part = rows if len(given) == 6 else add("Slice", [rows, ints([0]), ints([5]), ints([1])])
        graph.node("Unsqueeze", [add("Concat", [part, spare], axis=0), ints([2, 3])], [top])
