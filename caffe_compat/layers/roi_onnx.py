"""Exact RoI max pooling out of operators that every runtime has, CUDA ones too: MaxRoiPool runs on a CPU only.

The maximum of a bin is the largest of four values: tables hold, for every cell of the map, the maximum of a window of
odd size around it, and two windows of size s cover every length from s to 2 s.  Sizes are 1, 3, 7, 15 ...; an axis has
its own, so there is a table for each pair.  Bin edges come from a table made here in float32, as Caffe computes them,
because runtimes turn a division by a constant into a product, which moves some edges by a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.layers.base import OnnxGraph

__all__ = ["LONGEST", "write_roi_pooling"]

LONGEST = 126  #: cells of a bin that the tables reach where the map's size is open; a longer one is infinite
_TABLED = 1024  #: sizes of a region whose bin edges are in the table; beyond they are computed
_HALF = np.nextafter(np.float32(0.5), np.float32(0))  #: added before truncation: 0.5 would make 1 of 0.49999997
_OUTSIDE = -(2**30)  #: takes any edge of a bin below zero


def _levels(longest: int) -> int:
    """How many window sizes 1, 3, 7 ... it takes to cover bins of up to so many cells."""
    return max(1, (longest + 1).bit_length() - 1)


@dataclass(frozen=True)
class _Pooling:
    """One layer's construction.

    Attributes:
        bins: rows and columns of a pooled map.
        sides: height and width of the map, ``None`` where they are open.
    """

    graph: OnnxGraph
    feature: str
    bins: tuple[int, int]
    sides: tuple[int | None, int | None]

    @property
    def most(self) -> int:
        """The larger number of bins: both axes are computed in one go, the spare bins of the other are not read."""
        return max(self.bins)

    @property
    def levels(self) -> list[int]:
        """Window sizes along rows of the map, and along columns."""
        return [_levels(LONGEST if side is None else side) for side in self.sides]

    # -- regions ----------------------------------------------------------------------------------------------

    def round(self, rois: str, scale: float) -> str:
        """Image index and scaled corners as integers (int64[R, 5]), halves away from zero, the index cut."""
        add = self.graph.add
        scales = np.array([[1, scale, scale, scale, scale]], np.float32)
        halves = np.array([[0, _HALF, _HALF, _HALF, _HALF]], np.float32)
        scaled = add("Mul", [rois, self.graph.constant(scales)])
        half = add("Mul", [add("Sign", [scaled]), self.graph.constant(halves)])
        return add("Cast", [add("Add", [scaled, half])], to=7)

    def edges(self, corners: str) -> str:
        """First cell of each bin and the one after its last, rows before columns (int64[R, 2, most, 2]), not cut."""
        graph, add = self.graph, self.graph.add
        low, high = (
            add("Gather", [corners, graph.constant(np.array([[[y]], [[x]]]))], axis=1) for y, x in ((2, 1), (4, 3))
        )
        size = add("Max", [add("Add", [add("Sub", [high, low]), graph.constant(1)]), graph.constant(1)])
        row = add("Squeeze", [add("Min", [size, graph.constant(_TABLED)]), graph.constant([2, 3])])
        if self.bins[0] != self.bins[1]:
            row = add("Add", [row, graph.constant(np.array([[0, _TABLED + 1]]))])
        near = add("Gather", [graph.constant(self.edge_table()), row], axis=0)
        far = self.far_edges(size)
        beyond = add("Greater", [size, graph.constant(_TABLED)])
        return add("Add", [add("Where", [beyond, far, near]), low])

    def edge_table(self) -> np.ndarray:
        """Edges of the bins of a region at 0 with so many cells (int64[1025 or 2 x 1025, most, 2])."""
        sizes = np.arange(_TABLED + 1, dtype=np.float32)[:, None]
        at = np.arange(self.most, dtype=np.float32)
        tables = []
        for bins in self.bins if self.bins[0] != self.bins[1] else self.bins[:1]:
            step = sizes / np.float32(bins)
            tables.append(np.stack([np.floor(at * step), np.ceil((at + 1) * step)], 2))
        return np.concatenate(tables).astype(np.int64)

    def far_edges(self, size: str) -> str:
        """The same, computed; ceil(x) is -floor(-x)."""
        graph, add = self.graph, self.graph.add
        at = np.arange(self.most, dtype=np.float32)
        factors = np.stack([at, -(at + 1)], 1)
        counts = np.array(self.bins, np.float32).reshape(2, 1, 1)
        step = add("Div", [add("Cast", [size], to=1), graph.constant(counts)])
        edges = add("Floor", [add("Mul", [step, graph.constant(factors)])])
        return add("Cast", [add("Mul", [edges, graph.constant(np.array([1, -1], np.float32))])], to=7)

    def cut(self, edges: str) -> str:
        """Edges inside the map."""
        graph, add = self.graph, self.graph.add
        inner = add("Max", [edges, graph.constant(0)])
        if None not in self.sides:
            return add("Min", [inner, graph.constant(np.array(self.sides, np.int64).reshape(2, 1, 1))])
        return add("Min", [inner, add("Concat", [self.side(axis) for axis in (0, 1)], axis=0)])

    def side(self, axis: int) -> str:
        """Height or width of the map (int64[1, 1, 1]), on the GPU: as a sum of ones, since shapes are on the CPU."""
        graph, add = self.graph, self.graph.add
        known = self.sides[axis]
        if known is not None:
            return graph.constant(np.array([[[known]]]))
        shape = add("Shape", [self.feature], start=axis + 2, end=axis + 3)
        ones = add("Expand", [graph.constant(np.array([[[1]]])), shape])
        return add("ReduceSum", [ones, graph.constant([2])], keepdims=1)

    # -- windows ----------------------------------------------------------------------------------------------

    @property
    def margin(self) -> int:
        """Cells before the map's first row and column: zeros for empty bins, infinity for bins that are too long."""
        return 1 if None not in self.sides else 2

    def tables(self) -> str:
        """Maxima of all windows around each cell (float32[N, H, W, levels of columns, levels of rows, C]).

        The map has a margin.  Windows that a bin reads lie in the bin, so none of them reaches it.  Columns are pooled
        with channels last, in a MaxPool that takes rows for channels: so only the smaller tables are transposed.
        """
        graph, add = self.graph, self.graph.add
        value = self.feature
        for filling in (np.inf, 0.0)[2 - self.margin :]:
            value = self.bordered(value, graph.constant(filling))
        rows, columns = self.levels
        value = add("Transpose", [self.pooled(value, rows, 1)], perm=[0, 2, 3, 1])
        channels = graph.shape(self.feature)[1] or -1
        return add("Reshape", [self.pooled(value, columns, 3), graph.constant([0, 0, 0, columns, rows, channels])])

    def pooled(self, value: str, levels: int, axis: int) -> str:
        """Maxima of windows along axis 2, those of all sizes one after the other along ``axis``."""
        maxima = [value]
        for level in range(1, levels):
            found, reach = maxima[-1], 2 ** (level - 1)
            while reach:  # ONNX Runtime's CPU takes ten times as long for a window of 33 as for two of 17
                part = min(reach, 8)
                window = {"kernel_shape": [2 * part + 1, 1], "pads": [part, 0, part, 0], "strides": [1, 1]}
                found = self.graph.add("MaxPool", [found], **window)
                reach -= part
            maxima.append(found)
        return self.graph.add("Concat", maxima, axis=axis) if levels > 1 else value

    def bordered(self, value: str, filling: str) -> str:
        """A map with one more row and column at its begin.

        CUDA has no Pad of opset 19; what is never chosen gives the shape then, a constant would fix the batch.
        """
        graph, add = self.graph, self.graph.add
        if graph.opset < 19:
            return add("Pad", [value, graph.constant([0, 0, 1, 1, 0, 0, 0, 0]), filling])
        for axis in (2, 3):
            line = add("Gather", [value, graph.constant([0])], axis=axis)
            line = add("Where", [graph.constant(np.array([False])), line, filling])
            value = add("Concat", [line, value], axis=axis)
        return value

    def places(self, corners: str, edges: str) -> list[str]:
        """Where in the tables the four values of each bin are (int64[R, bins, bins, 5] each).

        A place is (image, row, column, column's level, row's level).
        """
        graph, add = self.graph, self.graph.add
        start, end = (add("Gather", [edges, graph.constant(side)], axis=3) for side in (0, 1))
        length = add("Max", [add("Sub", [end, start]), graph.constant(0)])
        if None in self.sides:
            length = add("Min", [length, graph.constant(LONGEST + 1)])
        levels, shifts, lowest = (graph.constant(table) for table in self.length_tables())
        lowest = graph.constant(0) if None not in self.sides else add("Gather", [lowest, length], axis=0)
        centres = add("Add", [edges, add("Gather", [shifts, length], axis=0)])
        centres = add("Reshape", [add("Max", [centres, lowest]), graph.constant([0, 4 * self.most])])
        level = add("Reshape", [add("Gather", [levels, length], axis=0), graph.constant([0, 2 * self.most])])
        image = add("Gather", [corners, graph.constant([0])], axis=1)
        every = add("Concat", [image, centres, level], axis=1)
        pairs = ((0, 0), (0, 1), (1, 0), (1, 1))
        return [add("Gather", [every, graph.constant(self.picks(*pair))], axis=1) for pair in pairs]

    def length_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each length of a bin: the level of its windows, what takes its edges to their centres, and the least.

        An empty bin is sent to the first cell of the margin; where a side is open, one that is too long to the second.
        """
        longest = max(LONGEST if side is None else side for side in self.sides)
        levels = np.array([_levels(length) - 1 for length in range(longest + 2)])
        reach = 2**levels - 1
        shifts = np.stack([reach, -reach - 1], 1) + self.margin
        lowest = np.zeros((longest + 2, 1), np.int64)
        for special, value in ((0, 0), (-1, 1)):
            levels[special], shifts[special], lowest[special] = 0, _OUTSIDE, value
        return levels, shifts, lowest

    def picks(self, row: int, column: int) -> np.ndarray:
        """Which columns of (image, centres, levels) make a place, for each bin (int64[bins, bins, 5])."""
        rows, columns = np.mgrid[: self.bins[0], : self.bins[1]]
        columns = columns + self.most
        first = 1 + 4 * self.most
        return np.stack([rows * 0, 1 + 2 * rows + row, 1 + 2 * columns + column, first + columns, first + rows], 2)


def write_roi_pooling(
    graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str], bins: tuple[int, int], scale: float
) -> None:
    """Write ROIPooling without MaxRoiPool: equal to it bit by bit, at most 95 nodes.

    Where height or width of the map is open, bins of more than ``LONGEST`` cells become infinite rather than wrong; a
    map of fixed size has no such limit.

    Args:
        bottoms: features [N, C, H, W] and regions [R, 5].
        bins: pooled_h, pooled_w.
        scale: spatial_scale.
    """
    feature, rois = bottoms
    height, width = graph.shape(feature)[2:]
    pooling = _Pooling(graph, feature, bins, (height, width))
    corners = pooling.round(rois, scale)
    places = pooling.places(corners, pooling.cut(pooling.edges(corners)))
    table = pooling.tables()
    maximum, *others = [graph.add("GatherND", [table, place]) for place in places]
    for found in others:
        maximum = graph.add("Max", [maximum, found])
    graph.node("Transpose", [maximum], tops, perm=[0, 3, 1, 2])
