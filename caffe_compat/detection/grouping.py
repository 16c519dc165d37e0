"""Hierarchical grouping of the regions of a segmentation, as selective search does it (Uijlings et al. 2013).

Neighbouring regions are merged, most alike first, until one is left; every region on the way is a proposal.  Likeness
is the sum of up to four terms between 0 and 1: how much the histograms of colour and of texture have in common, how
small both regions are, and how well they fill the box around both.

The paper takes the pair that is most alike of all, one at a time.  Here every pair that is most alike for *both* of its
regions merges in the same round: nothing that merges elsewhere comes between such two, so the tree is all but the
same (histograms of merged regions are means), and a round is a handful of array operations instead of a queue in
Python.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

__all__ = ["Codes", "Regions", "Weights", "group", "measure", "pixel_codes"]

_COLOR_BINS = 25
_TEXTURE_BINS = 10
_SIGMA = 1.0
"""Pixels; of the Gaussian derivatives whose histogram is the texture."""
_STEEP = 0.25
"""A slope of so much a pixel, of values up to 1, and all beyond it share the last bin."""
_REACH = 4
"""Pixels that they look at to each side."""
_DIAGONAL = np.float32(0.5**0.5)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Factors on the terms of likeness."""

    color: float = 1.0
    texture: float = 1.0
    size: float = 1.0
    fill: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Codes:
    """Bins of a picture's pixels: int32 [C, H, W] of ``color``, int32 [8 C, H, W] of ``texture``."""

    color: np.ndarray
    texture: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a segmentation, or what became of them.

    Args:
        sizes: float32 [R], pixels.
        boxes: int32 [R, 4], x1 y1 x2 y2, last pixel included.
        color, texture: float32 [R, D], histograms that sum to 1.
        pairs: int64 [E, 2], neighbours, the lower number first.
        area: pixels of the picture.
    """

    sizes: np.ndarray
    boxes: np.ndarray
    color: np.ndarray
    texture: np.ndarray
    pairs: np.ndarray
    area: int

    def likeness(self, pairs: np.ndarray, weights: Weights) -> np.ndarray:
        """Float32 [E] of pairs [E, 2]."""
        a, b = pairs.T
        both = self.sizes[a] + self.sizes[b]
        total = weights.size * (1 - both / self.area)
        if weights.fill:
            spans = np.maximum(self.boxes[a, 2:], self.boxes[b, 2:]) - np.minimum(self.boxes[a, :2], self.boxes[b, :2])
            total += weights.fill * (1 - ((spans + 1).prod(1) - both) / self.area)
        for weight, histograms in ((weights.color, self.color), (weights.texture, self.texture)):
            if weight:
                total += weight * np.minimum(histograms[a], histograms[b]).sum(1)
        return np.asarray(total, np.float32)

    def merge(self, kept: np.ndarray, gone: np.ndarray) -> None:
        """Make regions ``kept`` (numbers [n]) of themselves and ``gone``."""
        share = (self.sizes[kept] / (self.sizes[kept] + self.sizes[gone]))[:, None]
        for histograms in (self.color, self.texture):
            histograms[kept] = share * histograms[kept] + (1 - share) * histograms[gone]
        self.sizes[kept] += self.sizes[gone]
        self.boxes[kept, :2] = np.minimum(self.boxes[kept, :2], self.boxes[gone, :2])
        self.boxes[kept, 2:] = np.maximum(self.boxes[kept, 2:], self.boxes[gone, 2:])


def pixel_codes(channels: np.ndarray) -> Codes:
    """The bins of the values of float32 [C, H, W] between 0 and 1, and of their slopes in eight directions."""
    reach = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    smooth = np.exp(-(reach**2) / (2 * _SIGMA**2))
    smooth /= smooth.sum()
    slope = reach * smooth / _SIGMA**2
    slopes = []
    for plane in channels:
        across = cv2.sepFilter2D(plane, cv2.CV_32F, slope, smooth, borderType=cv2.BORDER_REFLECT)
        down = cv2.sepFilter2D(plane, cv2.CV_32F, smooth, slope, borderType=cv2.BORDER_REFLECT)
        for steep in (across, down, (across + down) * _DIAGONAL, (across - down) * _DIAGONAL):
            slopes += [np.maximum(steep, 0), np.maximum(-steep, 0)]
    texture = np.stack(slopes) * np.float32(_TEXTURE_BINS / _STEEP)
    return Codes(
        np.minimum(channels * _COLOR_BINS, _COLOR_BINS - 1).astype(np.int32),
        np.minimum(texture, _TEXTURE_BINS - 1).astype(np.int32),
    )


def measure(labels: np.ndarray, codes: Codes) -> Regions:
    """What grouping has to know of the regions of a segmentation.

    Args:
        labels: int [H, W], region of each pixel; every number from 0 to the last is in use.
        codes: of the picture's pixels.
    """
    flat, count = labels.ravel(), int(labels.max()) + 1
    sizes = np.bincount(flat, minlength=count).astype(np.float32)
    return Regions(
        sizes,
        _extents(labels, count),
        _histograms(flat, sizes, codes.color, _COLOR_BINS),
        _histograms(flat, sizes, codes.texture, _TEXTURE_BINS),
        _neighbours(labels, count),
        labels.size,
    )


def group(regions: Regions, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Merge regions until one is left.

    Returns:
        boxes int32 [M, 4] of every region, the first ones and those that merging made, in the order of merging, and
        float32 [M], the height of each in the tree: 0 of the first regions, 1 of the whole picture.
    """
    state = dataclasses.replace(
        regions,
        sizes=regions.sizes.copy(),
        boxes=regions.boxes.copy(),
        color=regions.color[:, : None if weights.color else 0].copy(),  # what does not count is not kept up
        texture=regions.texture[:, : None if weights.texture else 0].copy(),
    )
    count, pairs = len(regions.sizes), regions.pairs
    likeness = state.likeness(pairs, weights)
    boxes, levels = [regions.boxes], [np.zeros(count)]
    while len(pairs):
        best = np.empty(count, np.int64)
        order = np.argsort(likeness, kind="stable")
        best[pairs[order].ravel()] = np.repeat(order, 2)  # of several values for a place the last stays, the most alike
        number = np.arange(len(pairs))
        mutual = (best[pairs[:, 0]] == number) & (best[pairs[:, 1]] == number)
        kept, gone = pairs[mutual].T
        state.merge(kept, gone)
        boxes.append(state.boxes[kept])
        levels.append(np.full(len(kept), len(levels)))
        target = np.arange(count)
        target[gone] = kept
        moved = np.sort(target[pairs[~mutual]], axis=1)
        _, first = np.unique(moved[:, 0] * count + moved[:, 1], return_index=True)
        first = first[moved[first, 0] != moved[first, 1]]
        pairs, likeness = moved[first], likeness[~mutual][first]
        grown = np.zeros(count, bool)
        grown[kept] = True
        renew = grown[pairs].any(1)
        likeness[renew] = state.likeness(pairs[renew], weights)
    return np.concatenate(boxes), (np.concatenate(levels) / max(len(levels) - 1, 1)).astype(np.float32)


def _extents(labels: np.ndarray, count: int) -> np.ndarray:
    """The box of each region."""
    order = np.argsort(labels, axis=None, kind="stable")
    starts = np.searchsorted(labels.ravel()[order], np.arange(count))
    rows, columns = (part.astype(np.int32) for part in np.divmod(order, labels.shape[1]))
    low = [np.minimum.reduceat(part, starts) for part in (columns, rows)]
    return np.stack([*low, *(np.maximum.reduceat(part, starts) for part in (columns, rows))], 1)


def _histograms(flat: np.ndarray, sizes: np.ndarray, codes: np.ndarray, bins: int) -> np.ndarray:
    base, count = flat.astype(np.int32) * bins, len(sizes)
    planes = [np.bincount(base + plane.ravel(), minlength=count * bins).reshape(count, bins) for plane in codes]
    found: np.ndarray = np.concatenate(planes, 1).astype(np.float32) / (len(codes) * sizes[:, None])
    return found


def _neighbours(labels: np.ndarray, count: int) -> np.ndarray:
    """Pairs of regions that touch along an edge of a pixel."""
    keys = []
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        differ = one != other
        a, b = one[differ].astype(np.int64), other[differ].astype(np.int64)
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
    return np.stack(np.divmod(np.unique(np.concatenate(keys)), count), 1)
