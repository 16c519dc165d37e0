"""Sheets of pictures that show the regions of a class, from the surest on, as ``tools/save_sds.py`` of the
``sds-distillation`` branch draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.errors import DataError, in_file
from caffe_compat.evaluation.checks import stack
from caffe_compat.media import read_picture
from caffe_compat.media.contact import SmallPicture
from caffe_compat.segmentation.pictures import draw_masks
from caffe_compat.segmentation.regions import region_masks
from caffe_compat.segmentation.stored import SegmentedDetections
from caffe_compat.segmentation.superpixels import SuperpixelSource

__all__ = ["Ranked", "draw_image", "ranked", "shown_ranks", "sheet_tile"]


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A detection of a class.

    Args:
        rank: its place among those of the class, from 0.
        image: number of its image.
        row: its row among those of the class in the image.
        score: of it.
    """

    rank: int
    image: int
    row: int
    score: float


def ranked(content: SegmentedDetections, category: int) -> list[Ranked]:
    """The detections of a class, the surest first; of equal scores those of the first images.

    Images that were skipped have no regions, and their detections do not count.
    """
    rows = [
        found if content.regions[i] is not None else found[:0]
        for i, found in enumerate(content.detections.boxes[category])
    ]
    counts = [len(found) for found in rows]
    scores = np.concatenate([np.zeros(0, np.float32), *(found[:, 4] for found in rows)])
    images = np.repeat(np.arange(len(rows)), counts)
    places = np.arange(len(scores)) - np.repeat(np.cumsum([0, *counts])[:-1], counts)
    order = np.argsort(-scores, kind="stable")
    return [Ranked(rank, int(images[k]), int(places[k]), float(scores[k])) for rank, k in enumerate(order.tolist())]


def shown_ranks(found: int, objects: int, factor: float, pictures: int) -> list[int]:
    """Which ranks are drawn: as many as there are pictures, evenly from 0 to ``objects`` times ``factor``."""
    last = min(objects * factor, max(found - 1, 0))
    ranks = np.linspace(0, last, pictures).astype(int) if found else np.zeros(0, int)
    return sorted(set(ranks.tolist()))


def sheet_tile(
    imdb: ImageDatabase, content: SegmentedDetections, category: int, one: Ranked, source: SuperpixelSource
) -> SmallPicture:
    """The picture of a detection, in the first modality, with its region and its box.

    Raises:
        MissingFileError, DataError: a picture or superpixels that cannot be used; names the image.
    """
    name = imdb.classes[category]
    regions = content.of_class(category, one.image)
    if regions is None:
        raise DataError(f"image {content.detections.images[one.image]}: was skipped")
    rows = slice(one.row, one.row + 1)
    boxes = content.detections.boxes[category][one.image][rows]
    picture = _picture(imdb, one.image, regions[rows], boxes, [name], source)
    return SmallPicture(picture, f"{imdb.records[one.image].name}", (f"det# {one.rank}: {one.score:.3f}",))


def draw_image(
    imdb: ImageDatabase, content: SegmentedDetections, image: int, score: float, source: SuperpixelSource
) -> np.ndarray:
    """All regions of an image whose scores reach a number: uint8 [H, W, 3], blue first.

    Raises:
        MissingFileError, DataError: a picture or superpixels that cannot be used, or an image that was skipped.
    """
    rows, labels, _ = stack(content.detections.of_image(image))
    regions = content.regions[image]
    if regions is None:
        raise DataError(f"image {content.detections.images[image]}: was skipped")
    sure = np.flatnonzero(rows[:, 4] >= score)
    names = [imdb.classes[labels[k]] for k in sure]
    return _picture(imdb, image, regions[sure], rows[sure], names, source)


def _picture(
    imdb: ImageDatabase,
    image: int,
    regions: np.ndarray,
    boxes: np.ndarray,
    names: Sequence[str],
    source: SuperpixelSource,
) -> np.ndarray:
    record = imdb.records[image]
    with in_file(f"image {record.name}"):
        picture = read_picture(record.paths[imdb.modalities[0]])
        masks = region_masks(regions, source(record)) if len(regions) else np.zeros((0, *picture.shape[:2]), bool)
        return draw_masks(picture, masks, names, boxes[:, 4], boxes[:, :4])
