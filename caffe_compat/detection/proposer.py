"""The built-in proposer: boxes that may hold objects, from colour, depth or any other picture of a frame.

Selective search (Uijlings et al. 2013): a graph segmentation (Felzenszwalb and Huttenlocher 2004; scikit-image's) in
several colour spaces and at several scales, each grouped by several mixes of likeness (:mod:`.grouping`).  The trees'
boxes are thinned and ranked together.  As in the paper the rank is the height in a tree times a random number, so that
large regions come early but not all of them first; the numbers come from a fixed seed, so the same pictures give the
same boxes.

The segmentation, which takes most of the time, is done on a picture of at most 76,800 pixels (240 x 320).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from caffe_compat.depth.fill import complete
from caffe_compat.detection.grouping import Weights, group, measure, pixel_codes
from caffe_compat.errors import DataError, UsageError

__all__ = ["COLOR", "DEPTH", "VERSION", "propose", "segment", "views", "working_size"]

VERSION = 1
"""Raise it when the same pictures begin to give other boxes."""
COLOR = ("images", "color", "rgb")
"""Modalities that are seen in several colour spaces."""
DEPTH = ("depth", "rawdepth")
"""Modalities that are numbers that grow with distance, in any unit."""

_PIXELS = 240 * 320
_SIGMA = 0.8
_SMALLEST = 20
"""Pixels of the smallest region of a segmentation."""
_NARROWEST = 8
"""Pixels of the frame: no box is narrower or lower."""
_THIN = 0.1
"""Of boxes that agree in size and place to this share of their size one is kept."""
_RANGE = 1000.0
"""Depth that is so many times nearer or farther than the median is taken to be there."""
_SEED = 3
_MIXES = (
    Weights(),
    Weights(color=0),
    Weights(texture=0),
    Weights(color=0, texture=0, size=0),
    Weights(color=0, texture=0, fill=0),
)


def _intensity(bgr: np.ndarray) -> np.ndarray:
    """Normalised blue and green, and intensity: a shadow changes only the last."""
    total = bgr.sum(2, dtype=np.float32) + 3
    shares = [255 * (bgr[..., channel] + np.float32(1)) / total for channel in (0, 1)]
    return np.stack([*shares, total / 3 - 1], 2).astype(np.uint8)


def _gray(bgr: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[..., None]


Space = Callable[[np.ndarray], np.ndarray]
_COLOR_SPACES: tuple[tuple[Space, tuple[float, ...]], ...] = (
    (lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB), (25, 50)),
    (lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), (50, 100)),
    (_intensity, (50,)),
    (_gray, (50,)),
)
"""Colour spaces, and the scales of the segmentation in each: the larger, the larger its regions."""
_PICTURE_SPACES: tuple[tuple[Space, tuple[float, ...]], ...] = ((lambda picture: picture, (25, 50, 100)),)


def propose(pictures: Mapping[str, np.ndarray], count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that may hold objects.

    Args:
        pictures: of one frame, by modality, all of one size.  Colour (:data:`COLOR`) is uint8 [H, W, 3] in BGR; depth
            (:data:`DEPTH`) is numbers [H, W] in any unit, 0 or not finite where there is none; anything else, such as
            HHA, is uint8 [H, W, 3].
        count: boxes at most.

    Returns:
        boxes float32 [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included, all different, best first; and
        scores float32 [N], falling.  There is always one at least.

    Raises:
        DataError: pictures of other forms or sizes, or depth of which nothing was measured; names the modality.
        UsageError: no picture, or a count below 1.
    """
    if count < 1:
        raise UsageError(f"{count} proposals of a frame, expected 1 or more")
    height, width = _check(pictures)
    small = working_size(height, width)
    boxes, levels = [], []
    for name in sorted(pictures):
        for found, level in _trees(name, pictures[name], small):
            boxes.append(found)
            levels.append(level)
    step = np.array([width / small[1], height / small[0]] * 2)
    last = np.array([0, 0, 1, 1])
    full = np.rint((np.concatenate(boxes) + last) * step - last).astype(np.float32)
    return _best(full, np.concatenate(levels), count, (height, width))


def _check(pictures: Mapping[str, np.ndarray]) -> tuple[int, int]:
    if not pictures:
        raise UsageError("no picture to propose boxes on, expected one or more modalities")
    sizes = {name: picture.shape[:2] for name, picture in pictures.items()}
    first, size = next(iter(sizes.items()))
    for name, picture in pictures.items():
        fits = (
            picture.ndim == 2 and picture.dtype.kind in "uif"
            if name in DEPTH
            else (picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8)
        )
        if not fits or not picture.size:
            wanted = "numbers [H, W]" if name in DEPTH else "uint8 [H, W, 3]"
            raise DataError(f"{name}: {picture.dtype} of shape {picture.shape}, expected {wanted}")
        if sizes[name] != size:
            raise DataError(
                f"{name} is {sizes[name][1]} x {sizes[name][0]} pixels, but {first} is {size[1]} x {size[0]}: "
                "expected one size"
            )
    return int(size[0]), int(size[1])


def working_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the picture that is segmented."""
    factor = max(1.0, math.sqrt(height * width / _PIXELS))
    return max(1, round(height / factor)), max(1, round(width / factor))


def views(name: str, picture: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """What is segmented of a picture of a modality: uint8 [h, w, C] of the working size, and at which scales."""
    if name in DEPTH:
        try:
            small = _depth_picture(picture, size)
        except DataError as error:
            raise DataError(f"{name}: {str(error).removeprefix('depth: ')}") from error
    else:
        small = _resize(picture, size)
    for space, scales in _COLOR_SPACES if name in COLOR else _PICTURE_SPACES:
        yield space(small), scales


def segment(view: np.ndarray, scale: float) -> np.ndarray:
    """Regions of a view, int64 [h, w] from 0."""
    found: np.ndarray = felzenszwalb(view, scale=scale, sigma=_SIGMA, min_size=_SMALLEST)
    return found


def _trees(name: str, picture: np.ndarray, size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes in the small picture and heights, of every tree over a picture."""
    trees = []
    for view, scales in views(name, picture, size):
        codes = pixel_codes(np.ascontiguousarray(view.transpose(2, 0, 1), np.float32) / 255)
        for scale in scales:
            regions = measure(segment(view, scale), codes)
            trees += [group(regions, mix) for mix in _MIXES]
    return trees


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def _depth_picture(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearness and the two slopes of the surface as uint8 [h, w, 3].

    Over a plane the inverse of depth is linear in the pixel, with any camera, so its slopes are constant there and no
    camera need be known; they are divided by their length together with nearness, as a normal would be.
    """
    filled = complete(np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float64))
    usual = float(np.median(filled))
    far = np.clip(filled, usual / _RANGE, usual * _RANGE) / usual
    near: np.ndarray = cv2.bilateralFilter(1 / _resize(far.astype(np.float32), size), 5, 0.02, 3)
    slopes = [
        cv2.boxFilter(cv2.Sobel(near, cv2.CV_32F, *along, ksize=5) / 128, -1, (5, 5)) for along in ((1, 0), (0, 1))
    ]
    length = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + (near / (0.8 * max(size))) ** 2)
    low, high = np.percentile(near, [1, 99])
    planes = [np.clip((near - low) / max(high - low, 1e-6), 0, 1), *(0.5 + 0.5 * slope / length for slope in slopes)]
    return np.asarray(np.stack(planes, 2) * 255, np.uint8)


def _best(boxes: np.ndarray, levels: np.ndarray, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One box of each that are much alike, the ``count`` best of them."""
    scores = levels * np.random.default_rng(_SEED).random(len(levels), dtype=np.float32)
    wide = (boxes[:, 2:] - boxes[:, :2] + 1 >= np.minimum(_NARROWEST, size[::-1])).all(1)
    boxes, scores = boxes[wide], scores[wide]
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    _, first = np.unique(_cells(boxes), return_index=True)
    first = np.sort(first)[:count]
    return boxes[first], scores[first]


def _cells(boxes: np.ndarray) -> np.ndarray:
    """Int64 [N], equal for boxes whose logarithms of width and height and whose centres fall into one cell."""
    spans = (boxes[:, 2:] - boxes[:, :2] + 1).astype(np.float64)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    sizes = np.rint(np.log(spans) / _THIN)
    places = np.rint(centres / (np.exp(sizes * _THIN) * _THIN))
    cell = np.zeros(len(boxes), np.int64)
    for column in np.concatenate([sizes, places], 1).astype(np.int64).T:
        cell = cell * (int(column.max()) + 1) + column
    return cell
