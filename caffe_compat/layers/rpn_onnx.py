"""ProposalLayer out of operators that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.layers.anchors import AnchorGrid
from caffe_compat.layers.base import OnnxGraph

__all__ = ["write_proposals"]

_LEAST = -float(np.finfo(np.float32).max)


def write_proposals(
    graph: OnnxGraph,
    bottoms: Sequence[str],
    tops: Sequence[str],
    grid: AnchorGrid,
    limits: tuple[int, int],
    thresholds: tuple[float, float],
) -> None:
    """Nodes that compute regions and, if there is a second top, their scores.

    Args:
        limits: boxes before and after suppression, 0 or less for all.
        thresholds: overlap from which on a box goes, and the least side in pixels of the unscaled image.
    """
    add, constant = graph.add, graph.constant
    count = len(grid)
    scores = add("Slice", [bottoms[0], constant([count]), constant([2 * count]), constant([1])])
    flat = add("Reshape", [add("Transpose", [scores], perm=[0, 2, 3, 1]), constant([-1])])
    boxes, large = _boxes(graph, bottoms, grid, thresholds[1])
    flat = add("Where", [large, flat, constant(-np.inf)])  # what is too small is below every score
    total = add("Shape", [flat])
    wanted = add("Min", [total, constant([limits[0]])]) if limits[0] > 0 else total
    best, order = f"{tops[0]}/scores", f"{tops[0]}/order"
    graph.node("TopK", [flat, wanted], [best, order], axis=0)
    boxes = add("Gather", [boxes, order], axis=0)
    ends = add("Add", [boxes, constant(np.array([[0, 0, 1, 1]], np.float32))])  # extents are x2 - x1 + 1
    most = constant([limits[1]]) if limits[1] > 0 else total
    inputs = [
        add("Unsqueeze", [ends, constant([0])]),
        add("Unsqueeze", [best, constant([0, 1])]),
        most,
        constant(np.array([np.nextafter(np.float32(thresholds[0]), np.float32(-1))], np.float32)),
        constant(np.array([_LEAST], np.float32)),
    ]
    chosen = add("NonMaxSuppression", inputs)
    kept = add("Gather", [chosen, constant(np.array(2))], axis=1)
    found = add("Gather", [boxes, kept], axis=0)
    column = add("Unsqueeze", [add("Gather", [best, kept], axis=0), constant([1])])
    zeros = add("Mul", [add("Slice", [found, constant([0]), constant([1]), constant([1])]), constant(0.0)])
    graph.node("Concat", [zeros, found], [tops[0]], axis=1)
    if len(tops) > 1:
        graph.node("Identity", [column], [tops[1]])


def _boxes(graph: OnnxGraph, bottoms: Sequence[str], grid: AnchorGrid, min_size: float) -> tuple[str, str]:
    """Boxes cut to the image (float32[H W A, 4]), and which are large enough."""
    add, constant = graph.add, graph.constant
    count = len(grid)
    turned = add("Transpose", [bottoms[1]], perm=[0, 2, 3, 1])
    split = add(
        "Concat", [add("Slice", [add("Shape", [turned]), constant([1]), constant([3])]), constant([count, 4])], axis=0
    )
    deltas = add("Reshape", [turned, split])  # H x W x A x 4
    info = add("Reshape", [bottoms[2], constant([-1])])
    scale = add("Gather", [info, constant(np.array([2]))], axis=0)
    anchors, least = grid.anchors.astype(np.float32), add("Mul", [scale, constant(float(min_size))])
    lows, highs, fits = [], [], []
    for axis in (0, 1):  # x, y
        side = anchors[:, axis + 2] - anchors[:, axis] + 1
        cells = _cells(graph, turned, axis, grid.stride)
        start = add("Add", [cells, constant(anchors[:, axis])])  # W x A, or H x 1 x A
        middle = add("Add", [start, constant(np.float32(0.5) * side)])
        shift, growth = (add("Gather", [deltas, constant(np.array(n))], axis=3) for n in (axis, axis + 2))
        middle = add("Add", [add("Mul", [shift, constant(side)]), middle])
        half = add("Mul", [add("Mul", [add("Exp", [growth]), constant(side)]), constant(0.5)])
        last = add("Sub", [add("Gather", [info, constant(np.array([1 - axis]))], axis=0), constant(1.0)])
        low, high = (add("Max", [add("Min", [add(op, [middle, half]), last]), constant(0.0)]) for op in ("Sub", "Add"))
        extent = add("Add", [add("Sub", [high, low]), constant(1.0)])
        fits.append(add("GreaterOrEqual", [extent, least]))
        lows.append(add("Unsqueeze", [low, constant([3])]))
        highs.append(add("Unsqueeze", [high, constant([3])]))
    boxes = add("Reshape", [add("Concat", [*lows, *highs], axis=3), constant([-1, 4])])
    return boxes, add("Reshape", [add("And", fits), constant([-1])])


def _cells(graph: OnnxGraph, turned: str, axis: int, stride: float) -> str:
    """Where the cells lie along x (float32[W, 1]) or y (float32[H, 1, 1])."""
    add, constant = graph.add, graph.constant
    size = add(
        "Squeeze", [add("Slice", [add("Shape", [turned]), constant([2 - axis]), constant([3 - axis])]), constant([0])]
    )
    at = add("Range", [constant(np.array(0)), size, constant(np.array(1))])
    where = add("Mul", [add("Cast", [at], to=1), constant(float(stride))])
    return add("Unsqueeze", [where, constant([1] if axis == 0 else [1, 2])])
