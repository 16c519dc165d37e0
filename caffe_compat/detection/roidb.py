"""Images with their regions of interest: ground truth and proposals, and what of the ground truth each overlaps.

Source: ``datasets/imdb.py`` and ``roi_data_layer/roidb.py`` of fast-rcnn.  A mirror image is made when it is asked for,
and regression targets when an image is sampled, so that the memory is that of the proposals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.boxes import flip_boxes
from caffe_compat.errors import DataError, nearest
from caffe_compat.evaluation.overlaps import box_overlaps

__all__ = ["CROWD_OVERLAP", "Roidb", "RoiImage", "build_roidb", "roi_image"]

CROWD_OVERLAP = 0.7
"""Part of a proposal within a crowd from which on it is neither object nor background (branch ``coco``)."""


@dataclasses.dataclass(frozen=True, eq=False)
class RoiImage:
    """An image and its regions.

    Args:
        record: where its pictures are.
        boxes: float32 [N, 4], x1 y1 x2 y2 in pixels from 0; the ground truth first, then the proposals, best first.
        gt_classes: int32 [N], label of an object from 1, 0 for a proposal.
        max_overlaps: float32 [N], with the object that is overlapped most, 1 for objects themselves; -1 for crowds and
            what lies in them.
        max_classes: int32 [N], label of that object; 0 where there is none.
        flipped: it is the mirror image, and so are the boxes.
    """

    record: FrameRecord
    boxes: np.ndarray
    gt_classes: np.ndarray
    max_overlaps: np.ndarray
    max_classes: np.ndarray
    flipped: bool = False

    def mirrored(self) -> RoiImage:
        """The same seen in a mirror."""
        if self.record.size is None:
            raise DataError(f"image {self.record.name}: its size is not known, so its boxes cannot be mirrored")
        boxes = flip_boxes(self.boxes, self.record.size[1])
        return dataclasses.replace(self, boxes=boxes, flipped=not self.flipped)


class Roidb(Sequence[RoiImage]):
    """Images, and then the same again as mirror images, which are made when they are asked for.

    Args:
        images: as they are.
        flips: whether the mirror images follow.
    """

    def __init__(self, images: Iterable[RoiImage], flips: bool) -> None:
        self.images = tuple(images)
        self.flips = flips

    def __len__(self) -> int:
        return len(self.images) * (2 if self.flips else 1)

    @overload
    def __getitem__(self, index: int) -> RoiImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[RoiImage]: ...
    def __getitem__(self, index: int | slice) -> RoiImage | list[RoiImage]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        again, place = divmod(number, len(self.images))
        return self.images[place].mirrored() if again else self.images[place]


def build_roidb(
    imdb: ImageDatabase,
    config: Config,
    proposals: ProposalSource | None = None,
    track: Callable[[Sequence[FrameRecord], str], Iterable[FrameRecord]] | None = None,
) -> Roidb:
    """What a detector is trained on.

    Args:
        imdb: the images.
        config: TRAIN.USE_FLIPPED, TRAIN.PROPOSAL_TOP_K and PARITY are read.
        proposals: instead of the database's own.
        track: goes through the records and shows that it does, under a name.

    Raises:
        DataError: no images; no proposals; an image whose objects are not known; boxes or classes that are none.
    """
    source = imdb.proposals if proposals is None else proposals
    if not len(imdb.records):
        raise DataError(f"{imdb.name}: has no images")
    if source is None:
        raise DataError(f"{imdb.name}: has no proposals of its own, and none are given")
    images = []
    for record in imdb.records if track is None else track(imdb.records, "regions"):
        if record.boxes is None:
            raise DataError(f"{imdb.name}: the objects of image {record.name} are not known")
        found = source(record)[: config.train.proposal_top_k or None]
        images.append(roi_image(record, imdb.classes, found, config.parity))
    return Roidb(images, config.train.use_flipped)


def roi_image(
    record: FrameRecord, classes: Sequence[str], proposals: np.ndarray | None = None, parity: bool = False
) -> RoiImage:
    """An image with its ground truth, as far as it is known, and its proposals.

    Args:
        classes: without the background.
        proposals: float32 [N, 4], best first; None: none.
        parity: keep boxes without extent, which the released code makes huge regression targets of.

    Raises:
        DataError: a box that is not in the image or turned inside out, or an object of another class; names the image
            and the box, counted from 1.
    """
    boxes, labels, crowd = _ground_truth(record, classes)
    found = _checked(proposals, record, "proposal")
    if not parity:
        kept = _has_extent(boxes)
        boxes, labels, crowd, found = boxes[kept], labels[kept], crowd[kept], found[_has_extent(found)]
    ious = np.ones(len(boxes) + len(found), np.float32)
    best = np.concatenate([labels, np.zeros(len(found), np.int32)])
    ious[: len(boxes)][crowd], best[: len(boxes)][crowd] = -1, 0
    ious[len(boxes) :], best[len(boxes) :] = _match(found, boxes[~crowd], labels[~crowd])
    if crowd.any():
        inside = _parts_within(found, boxes[crowd]) > CROWD_OVERLAP
        ious[len(boxes) :][inside], best[len(boxes) :][inside] = -1, 0
    rows = np.concatenate([labels, np.zeros(len(found), np.int32)])
    return RoiImage(record, np.concatenate([boxes, found]), rows, ious, best)


def _match(found: np.ndarray, gt: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlap and label of the object that each proposal overlaps most: the first of equals."""
    if not len(gt) or not len(found):
        return np.zeros(len(found), np.float32), np.zeros(len(found), np.int32)
    table = box_overlaps(found, gt)
    highest = table.max(1)
    return highest.astype(np.float32), np.where(highest > 0, labels[table.argmax(1)], 0).astype(np.int32)


def _parts_within(found: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """The largest part of each proposal that lies in one crowd (COCO's overlap with a crowd)."""
    if not len(found):
        return np.zeros(0)
    low, high = np.maximum(found[:, None, :2], crowds[:, :2]), np.minimum(found[:, None, 2:], crowds[:, 2:])
    shared = np.maximum(high - low + 1, 0).prod(2)
    return np.asarray((shared / (found[:, 2:] - found[:, :2] + 1).prod(1)[:, None]).max(1))


def _ground_truth(record: FrameRecord, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, labels from 1, and which are crowds."""
    boxes = _checked(record.boxes, record, "object")
    names = record.classes or ()
    if len(names) != len(boxes):
        raise DataError(f"image {record.name}: has {len(boxes)} boxes of objects and {len(names)} classes")
    numbers = {name: label for label, name in enumerate(classes, start=1)}
    for place, name in enumerate(names, start=1):
        if name not in numbers:
            raise DataError(
                f"image {record.name}: object {place} is of the unknown class '{name}'{nearest(name, classes)}"
            )
    crowd = np.zeros(len(boxes), bool) if record.crowd is None else np.asarray(record.crowd, bool)
    return boxes, np.array([numbers[name] for name in names], np.int32), crowd


def _checked(boxes: np.ndarray | None, record: FrameRecord, what: str) -> np.ndarray:
    """Boxes as float32 [N, 4], all of them in the image."""
    if boxes is None:
        return np.zeros((0, 4), np.float32)
    values = np.asarray(boxes, np.float32)
    if values.ndim != 2 or values.shape[1] != 4:
        raise DataError(f"image {record.name}: {what}s have the shape {values.shape}, expected N x 4")
    wrong = ~np.isfinite(values).all(1) | (values[:, 2:] < values[:, :2]).any(1) | (values < 0).any(1)
    if record.size is not None:
        wrong |= (values[:, 2:] > np.array(record.size[::-1]) - 1).any(1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        within = "the image" if record.size is None else f"its {record.size[1]} x {record.size[0]} pixels"
        raise DataError(
            f"image {record.name}: {what} {row + 1} is x1 y1 x2 y2 = {values[row].tolist()}, expected a box within "
            f"{within} (from 0)"
        )
    return values


def _has_extent(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(1))
