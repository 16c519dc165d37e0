"""ProposalLayer and Proposal out of operators that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.layers.anchors import AnchorGrid
from caffe_compat.layers.base import OnnxGraph

__all__ = ["Rules", "write_proposals"]

_LEAST = -float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Rules:
    """Which boxes stay.

    Attributes:
        before, after: how many are compared, and how many stay at most; 0 or less: all.
        overlap: 0 to 1; a box with more with a better one goes.
        min_size: least width and height, in pixels of the unscaled image.
        scales: which numbers of the image's information scale widths and heights.
        small: score that boxes smaller than that are given, times their own; None: they go.
    """

    before: int
    after: int
    overlap: float
    min_size: float
    scales: tuple[int, int] = (2, 2)
    small: float | None = None


def write_proposals(graph: OnnxGraph, bottoms: Sequence[str], top: str, grid: AnchorGrid, rules: Rules) -> str:
    """Nodes that compute regions, the top.

    Returns:
        The blob of their scores, float32[R].
    """
    add, constant = graph.add, graph.constant
    count = len(grid)
    scores = add("Slice", [bottoms[0], constant([count]), constant([2 * count]), constant([1])])
    flat = add("Reshape", [add("Transpose", [scores], perm=[0, 2, 3, 1]), constant([-1])])
    boxes, large = _boxes(graph, bottoms, grid, rules)
    below = constant(-np.inf) if rules.small is None else add("Mul", [flat, constant(rules.small)])
    flat = add("Where", [large, flat, below])
    total = add("Shape", [flat])
    wanted = add("Min", [total, constant([rules.before])]) if rules.before > 0 else total
    best, order = f"{top}/scores", f"{top}/order"
    graph.node("TopK", [flat, wanted], [best, order], axis=0)
    boxes = add("Gather", [boxes, order], axis=0)
    ends = add("Add", [boxes, constant(np.array([[0, 0, 1, 1]], np.float32))])  # extents are x2 - x1 + 1
    most = constant([rules.after]) if rules.after > 0 else total
    inputs = [
        add("Unsqueeze", [ends, constant([0])]),
        add("Unsqueeze", [best, constant([0, 1])]),
        most,
        constant(np.array([rules.overlap], np.float32)),
        constant(np.array([_LEAST], np.float32)),  # what is too small and goes is below
    ]
    chosen = add("NonMaxSuppression", inputs)
    kept = add("Gather", [chosen, constant(np.array(2))], axis=1)
    found = add("Gather", [boxes, kept], axis=0)
    zeros = add("Mul", [add("Slice", [found, constant([0]), constant([1]), constant([1])]), constant(0.0)])
    graph.node("Concat", [zeros, found], [top], axis=1)
    return add("Gather", [best, kept], axis=0)


def _boxes(graph: OnnxGraph, bottoms: Sequence[str], grid: AnchorGrid, rules: Rules) -> tuple[str, str]:
    """Boxes cut to the image (float32[H W A, 4]), and which are large enough."""
    add, constant = graph.add, graph.constant
    count = len(grid)
    turned = add("Transpose", [bottoms[1]], perm=[0, 2, 3, 1])
    split = add(
        "Concat", [add("Slice", [add("Shape", [turned]), constant([1]), constant([3])]), constant([count, 4])], axis=0
    )
    deltas = add("Reshape", [turned, split])  # H x W x A x 4
    info = add("Reshape", [bottoms[2], constant([-1])])
    anchors = grid.anchors.astype(np.float32)
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
        scale = add("Gather", [info, constant(np.array([rules.scales[axis]]))], axis=0)
        least = add("Mul", [scale, constant(float(rules.min_size))])
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
