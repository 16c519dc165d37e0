"""What the cells of maps have to learn of boxes: each has a field of fixed size around its middle.

Source: zhaoweicai/mscnn, ``image_gt_data_layer.cpp``; zhaoweicai/cascade-rcnn, ``detection_data_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.batches.reader import New
from caffe_compat.media.pixel_boxes import corner_overlaps, round_half_away, span_overlaps

__all__ = ["Cells"]

Field = tuple[int, int, int]
Window = tuple[int, int, int, int]
_f32 = np.float32


class _Grid:
    """The fields of all cells of a map [h, w].

    Attributes:
        centres: of columns (float64 [w]) and of rows ([h]), in pixels.
        half: of the field's width and height.
    """

    def __init__(self, field: Field, shape: Sequence[int]) -> None:
        self.stride = field[2]
        self.centres = [(np.arange(side) + 0.5) * self.stride for side in (shape[1], shape[0])]
        self.half = np.array(field[:2]) / 2

    def near(self, box: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of cells whose field may overlap with a box, and some more."""
        found = []
        for axis in (1, 0):
            low, high = float(box[axis]) - self.half[axis] - 2, float(box[axis + 2]) + self.half[axis] + 2
            last = len(self.centres[axis])
            start = min(max(math.floor(low / self.stride - 0.5), 0), last)
            found.append(slice(start, min(max(math.ceil(high / self.stride + 0.5), start), last)))
        return found[0], found[1]

    def fields(self, rows: slice, columns: slice) -> np.ndarray:
        """x1 y1 x2 y2 of some cells (float32 [h, w, 4])."""
        middle = np.stack(np.meshgrid(self.centres[0][columns], self.centres[1][rows]), -1)
        return np.concatenate([middle - self.half, middle + self.half], -1).astype(np.float32)


@dataclass(frozen=True)
class Cells:
    """How cells of maps and boxes are matched.

    Attributes:
        maps: width and height of the field and pixels of a cell, of each map.
        fg: overlap above which a cell gets the class of a box.
        outside: overlap, over the field, with what is not of interest from which on a cell counts for nothing.
        least: sides of boxes below which they are ignored.
        pickup: overlap from which on a box that no cell got goes to the cell in its middle.
        pixel: whether the last pixel of a box counts: Cascade R-CNN, else MS-CNN.
        margin, inside: Cascade R-CNN's: by how many halves of a field one may reach out of the picture, or else which
            part of it has to be inside; None: any.
    """

    maps: Sequence[Field]
    fg: float
    outside: float
    least: tuple[float, float]
    pickup: float
    pixel: bool
    margin: float | None = None
    inside: float | None = None

    def blank(self, items: int, size: tuple[int, int], new: New) -> list[np.ndarray]:
        """Maps (items, 6, h, w) of zeros, for pictures of that height and width."""
        found = []
        for shape in self.shapes(size):
            one = new((items, 6, *shape))
            one[...] = 0
            found.append(one)
        return found

    def shapes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Heights and widths of the maps."""
        return [
            (round_half_away(_f32(size[0]) / _f32(stride)), round_half_away(_f32(size[1]) / _f32(stride)))
            for _, _, stride in self.maps
        ]

    def ignored(self, boxes: np.ndarray, marks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Marks, where boxes that have their middle outside or are small are ignored too."""
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / _f32(2), boxes[:, 2:] - boxes[:, :2] + _f32(1)
        gone = ((centres < 0) | (centres >= np.array(size[::-1], np.float32))).any(1)
        gone |= (sides < np.array(self.least, np.float32)).any(1)
        marks = marks.copy()
        marks[:, 1] |= gone
        return marks

    def learn(
        self, found: tuple[np.ndarray, np.ndarray, np.ndarray], window: Window, maps: Sequence[np.ndarray]
    ) -> None:
        """Write classes, boxes and overlaps of all maps (float32 [6, h, w] of zeros) of a picture.

        Args:
            found: boxes, marks, and what is not of interest.
            window: top, left, height and width of the picture in what the maps are of.
        """
        boxes, marks, outside = found
        spans = self._spans(boxes)
        best, level, matched = np.zeros(len(marks), np.float32), np.zeros(len(marks), int), np.zeros(len(marks), int)
        for number, (field, one) in enumerate(zip(self.maps, maps, strict=True)):
            grid = _Grid(field, one.shape[1:])
            counts, away = self._counted(grid, one.shape[1:], window), self._away(grid, outside, one.shape[1:])
            one[5, ~counts] = 1
            if not self.pixel:
                counts &= ~away
                one[5, away] = 1
            most, which, greatest = self._matched(grid, boxes, counts)
            level[greatest > best] = number
            best = np.maximum(best, greatest)
            own = counts & (most > _f32(self.fg))
            one[5, counts] = np.where(~own & away, _f32(1), most)[counts]
            if own.any():
                chosen = which[own]
                one[0, own] = np.where(marks[chosen, 1] == 0, marks[chosen, 0], 0)
                one[1:5, own] = spans[chosen].T
                matched += np.bincount(chosen, minlength=len(marks))
        for box in range(len(marks) if maps else 0):
            if marks[box, 1] == 0 and not matched[box] and best[box] >= _f32(self.pickup):
                self._pick_up(maps[level[box]], self.maps[level[box]], (marks[box, 0], spans[box], best[box]))

    def _matched(self, grid: _Grid, boxes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The greatest overlap of each cell with a box, the number of that box (of equal ones the first), and the
        greatest overlap of each box."""
        most, which = np.zeros(counts.shape, np.float32), np.zeros(counts.shape, int)
        greatest = np.zeros(len(boxes), np.float32)
        for number, box in enumerate(boxes):
            near = grid.near(box)
            overlap = np.where(counts[near], self._overlaps(box, grid.fields(*near)), _f32(0))
            if overlap.size:
                greatest[number] = overlap.max()
                which[near][overlap > most[near]] = number
                most[near] = np.maximum(most[near], overlap)
        return most, which, greatest

    def _pick_up(self, one: np.ndarray, field: Field, box: tuple[int, np.ndarray, np.floating]) -> None:
        """Give a box that no cell got to the cell in its middle, if that has no class."""
        label, span, overlap = box
        x, y = (
            min(max(math.floor(centre / _f32(field[2])), 0), side - 1)
            for centre, side in zip(span[:2], one.shape[:0:-1], strict=True)
        )
        if one[0, y, x] > 0:
            return
        one[0, y, x], one[1:5, y, x] = label, span
        if self.pixel:
            one[5, y, x] = overlap

    def _spans(self, boxes: np.ndarray) -> np.ndarray:
        """x and y of the centre, width and height."""
        sides = boxes[:, 2:] - boxes[:, :2] + _f32(self.pixel)
        return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / _f32(2), sides], 1)

    def _overlaps(self, first: np.ndarray, second: np.ndarray, kind: str = "IOU") -> np.ndarray:
        if self.pixel:
            return corner_overlaps(first, second, kind)
        spans = [np.concatenate([own[..., :2], own[..., 2:] - own[..., :2]], -1) for own in (first, second)]
        return span_overlaps(spans[0], spans[1], kind)

    def _away(self, grid: _Grid, outside: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Which fields lie in what is not of interest."""
        total = np.zeros(tuple(shape), np.float32)
        for box in outside:
            near = grid.near(box)
            total[near] += self._overlaps(grid.fields(*near), box, "IOFU")
        away: np.ndarray = total >= _f32(self.outside)
        return away

    def _counted(self, grid: _Grid, shape: Sequence[int], window: Window) -> np.ndarray:
        """Which fields lie in the picture."""
        top, left, tall, broad = (round_half_away(_f32(side) / _f32(grid.stride)) for side in window)
        counts = np.zeros(tuple(shape), bool)
        counts[top : top + tall, left : left + broad] = True
        if self.margin is None and self.inside is None:
            return counts
        fields = grid.fields(slice(None), slice(None))
        low = np.array([window[1], window[0]], np.float32)
        end = low + np.array([window[3], window[2]], np.float32)
        if self.margin is not None:
            margin = _f32(self.margin) * grid.half.astype(np.float32)
            counts &= ((fields[..., :2] >= low - margin) & (fields[..., 2:] < end + margin)).all(-1)
        elif self.inside is not None:
            counts &= ~(corner_overlaps(fields, np.concatenate([low, end]), "IOFU") < _f32(self.inside))
        return counts
