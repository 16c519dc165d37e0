"""Regions: the superpixels of an image that a box's mask covers, and how much they overlap objects.

Source: ``lib/sds/test_hypercolumns.py`` and ``evaluation.py`` of the ``sds-distillation`` branch.
"""

from __future__ import annotations

import numpy as np

from caffe_compat.errors import DataError

__all__ = [
    "REGION_THRESHOLD",
    "Superpixels",
    "choose_regions",
    "map_counts",
    "mask_counts",
    "paste_masks",
    "region_masks",
    "region_overlaps",
    "superpixel_values",
]

REGION_THRESHOLD = 0.4
"""The mean probability from which on a superpixel belongs to a region, in the branch's commands."""
_MOST = 1 << 24
"""Ids that a map may have: every id up to the largest costs memory in each region."""


class Superpixels:
    """A partition of an image into regions with ids from 1.

    Args:
        labels: integers [H, W].  Ids may be missing in between: such a region has no pixels, and no box covers it.
        origin: where it is from, for messages and reports.

    Attributes:
        labels: int32 [H, W].
        count: the largest id.
        areas: int64 [count], pixels of each.

    Raises:
        DataError: not a map of whole numbers from 1.
    """

    def __init__(self, labels: np.ndarray, origin: str = "superpixels") -> None:
        labels = np.asarray(labels)
        if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "ui":
            raise DataError(f"{origin}: {labels.dtype} of shape {labels.shape}, expected whole numbers [H, W] from 1")
        low, high = int(labels.min()), int(labels.max())
        if low < 1:
            raise DataError(f"{origin}: ids start at {low}, expected 1 (add 1 to ids that start at 0)")
        if high > _MOST:
            raise DataError(f"{origin}: the largest id is {high}, expected at most {_MOST}; number them anew")
        self.labels, self.count, self.origin = labels.astype(np.int32), high, origin
        self.areas = np.bincount(self.labels.ravel(), minlength=high + 1)[1:]
        self._find_runs()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[0], self.labels.shape[1]

    def _find_runs(self) -> None:
        """Pixels of one id in a row are a run: there are some 20 times fewer of them than pixels."""
        height, width = self.size
        first = np.ones((height, width), bool)
        first[:, 1:] = self.labels[:, 1:] != self.labels[:, :-1]
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], height * width)
        self.run_row = starts // width
        self.run_start = starts - self.run_row * width
        self.run_end = ends - self.run_row * width
        self.run_label = self.labels.ravel()[starts] - 1
        self.row_runs = np.searchsorted(self.run_row, np.arange(height + 1))


def superpixel_values(
    output: np.ndarray, boxes: np.ndarray, superpixels: Superpixels, parity: bool = False
) -> np.ndarray:
    """The mean over each whole superpixel of each box's mask, which is 0 outside of its box.

    Args:
        output: [N, 1, S, S] or [N, S, S], probabilities on the grid over each box.
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0.
        superpixels: of the image.
        parity: corners become pixels by rounding up, all four, as the branch does it; else to the nearest.

    Returns:
        float64 [N, count].

    Raises:
        DataError: other numbers of masks and boxes, masks that are not square, or numbers that are not finite.
    """
    masks, corners = _placed(output, boxes, superpixels.size, parity, superpixels.origin)
    values = np.zeros((len(masks), superpixels.count))
    for value, mask, box in zip(values, masks.astype(np.float64), corners, strict=True):
        value[:] = _sums(mask, box, superpixels)
    return values / np.maximum(superpixels.areas, 1)


def paste_masks(
    output: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = REGION_THRESHOLD,
    parity: bool = False,
) -> np.ndarray:
    """Masks as pixels where there are no superpixels: every pixel of a box has the value of the cell that it lies in.

    Args:
        output, boxes, parity: as in :func:`superpixel_values`.
        size: height and width of the image.
        threshold: value from which on a pixel belongs to the mask.

    Returns:
        bool [N, H, W].

    Raises:
        DataError: as :func:`superpixel_values`.
    """
    grids, corners = _placed(output, boxes, size, parity, "masks")
    masks = np.zeros((len(grids), *size), bool)
    for mask, grid, (x1, y1, x2, y2) in zip(masks, grids >= threshold, corners, strict=True):
        if x2 >= x1 and y2 >= y1:
            columns, rows = (np.arange(extent) * len(grid) // extent for extent in (x2 - x1 + 1, y2 - y1 + 1))
            mask[y1 : y2 + 1, x1 : x2 + 1] = grid[rows[:, None], columns]
    return masks


def _placed(
    output: np.ndarray, boxes: np.ndarray, size: tuple[int, int], parity: bool, where: str
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Masks [N, S, S], and the pixels x1 y1 x2 y2 of each box in the image."""
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    output = np.asarray(output)
    if output.shape[0] != len(rows) or output.ndim < 3 or output.size != len(rows) * output.shape[-1] ** 2:
        raise DataError(f"masks of shape {output.shape} for {len(rows)} boxes, expected {len(rows)} x 1 x S x S")
    if not (np.isfinite(rows).all() and np.isfinite(output).all()):
        raise DataError(f"{where}: masks or boxes are not finite; did the net diverge?")
    corners = np.ceil(rows) if parity else np.floor(rows + 0.5)
    corners = np.clip(corners, 0, np.array([size[1] - 1, size[0] - 1] * 2)).astype(np.int64)
    side = output.shape[-1]
    return output.reshape(len(rows), side, side), [(x1, y1, x2, y2) for x1, y1, x2, y2 in corners.tolist()]


def _sums(mask: np.ndarray, box: tuple[int, int, int, int], superpixels: Superpixels) -> np.ndarray:
    """What the pixels of a mask add up to in each superpixel: of each run the difference of two sums along its row."""
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        return np.zeros(superpixels.count)
    side = len(mask)
    width, height = x2 - x1 + 1, y2 - y1 + 1
    columns = np.arange(width) * side // width
    sums = np.zeros((side, width + 1))
    np.cumsum(mask[:, columns], axis=1, out=sums[:, 1:])
    runs = slice(superpixels.row_runs[y1], superpixels.row_runs[y2 + 1])
    start = np.maximum(superpixels.run_start[runs] - x1, 0)
    end = np.minimum(superpixels.run_end[runs] - x1, width)
    inside = np.flatnonzero(end > start)
    line = (superpixels.run_row[runs][inside] - y1) * side // height * (width + 1)
    flat = sums.ravel()
    parts = flat[line + end[inside]] - flat[line + start[inside]]
    return np.bincount(superpixels.run_label[runs][inside], weights=parts, minlength=superpixels.count)


def choose_regions(values: np.ndarray, threshold: float = REGION_THRESHOLD) -> np.ndarray:
    """Which superpixels belong to each box's region: those whose value reaches the threshold; bool [N, count]."""
    return np.asarray(values >= threshold)


def region_masks(regions: np.ndarray, superpixels: Superpixels) -> np.ndarray:
    """Regions as pixels: bool [N, H, W].

    Raises:
        DataError: regions of another map of superpixels.
    """
    _check_regions(regions, superpixels)
    return np.asarray(regions[:, superpixels.labels - 1])


def mask_counts(masks: np.ndarray, superpixels: Superpixels) -> np.ndarray:
    """Pixels that objects, which may overlap, share with each superpixel: int64 [K, count].

    Args:
        masks: bool [K, H, W].

    Raises:
        DataError: masks of another size.
    """
    if masks.ndim != 3 or masks.shape[1:] != superpixels.size:
        raise DataError(f"{superpixels.origin}: {_pixels(superpixels.size)}, masks of shape {masks.shape}")
    counts = np.zeros((len(masks), superpixels.count), np.int64)
    flat = superpixels.labels.ravel() - 1
    for count, mask in zip(counts, masks, strict=True):
        count[:] = np.bincount(flat[np.flatnonzero(mask)], minlength=superpixels.count)
    return counts


def map_counts(instances: np.ndarray, superpixels: Superpixels) -> np.ndarray:
    """The same for a map of objects: int64 [K, count], K the largest number in it.

    Args:
        instances: integers [H, W], number of the object from 1, 0 for none.

    Raises:
        DataError: a map of another size or with negative numbers.
    """
    if instances.shape != superpixels.size:
        raise DataError(f"{superpixels.origin}: {_pixels(superpixels.size)}, instances of shape {instances.shape}")
    number = instances.astype(np.int64)
    if number.min() < 0:
        raise DataError(f"instances start at {number.min()}, expected 0 for no object")
    most = int(number.max())
    pairs = number.ravel() * superpixels.count + (superpixels.labels.ravel() - 1)
    return np.bincount(pairs, minlength=(most + 1) * superpixels.count).reshape(most + 1, superpixels.count)[1:]


def region_overlaps(regions: np.ndarray, counts: np.ndarray, superpixels: Superpixels) -> np.ndarray:
    """Intersection over union, in pixels, of regions with objects: float64 [N, K].

    Args:
        regions: bool [N, count].
        counts: [K, count], of :func:`mask_counts` or :func:`map_counts`.

    Raises:
        DataError: regions of another map of superpixels.
    """
    _check_regions(regions, superpixels)
    chosen = regions.astype(np.float64)
    inside = chosen @ counts.T.astype(np.float64)
    whole = (chosen @ superpixels.areas.astype(np.float64))[:, None] + counts.sum(1)[None, :] - inside
    return np.asarray(np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0))


def _check_regions(regions: np.ndarray, superpixels: Superpixels) -> None:
    if regions.ndim != 2 or regions.shape[1] != superpixels.count:
        raise DataError(
            f"{superpixels.origin}: has ids up to {superpixels.count}, regions of shape {regions.shape} are of others"
        )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"
