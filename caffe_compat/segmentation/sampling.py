"""Which boxes of which image make up batch ``n`` of a hypercolumn net's training, and its blobs.

Source: ``lib/sds/hypercolumn_data_layer.py`` of the ``sds-distillation`` branch.  Random numbers are those of numpy's
legacy generator in the branch's order: a class, one of its boxes, which gives the image, and boxes of this class in
that image.  So batch ``n`` is a function of the seed and ``n``; to draw it needs no pictures.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from caffe_compat.batches.reader import new_array
from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.draws import Draws
from caffe_compat.detection.roidb import roi_image
from caffe_compat.errors import CaffeCompatError, DataError, in_file
from caffe_compat.evaluation.overlaps import box_overlaps
from caffe_compat.layers.data import HypercolumnSettings
from caffe_compat.segmentation.blobs import box_blobs, box_weights, grid_labels
from caffe_compat.segmentation.picture_reader import MaskPicture, MaskPictureReader
from caffe_compat.segmentation.truth import object_masks

__all__ = ["BoxBatches", "BoxDraw", "BoxPool", "BoxSampler", "box_batches", "pool_boxes"]

Track = Callable[[Sequence[FrameRecord], str], Iterable[FrameRecord]]


@dataclasses.dataclass(frozen=True, eq=False)
class BoxPool:
    """The boxes of one class that show an object of it, image after image, in each object after object.

    Args:
        image: int32 [M], ascending.
        object: int32 [M], number in the image's ground truth.
        boxes: float32 [M, 4].
    """

    image: np.ndarray
    object: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class BoxDraw:
    """What was drawn for a batch.

    Args:
        image: its number.
        category: class, from 0.
        boxes: float32 [N, 4].
        objects: int32 [N], number in the image's ground truth.
    """

    image: int
    category: int
    boxes: np.ndarray
    objects: np.ndarray


def pool_boxes(
    images: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], num_classes: int, threshold: float
) -> list[BoxPool]:
    """The boxes that may be drawn of each class.

    Args:
        images: of each the boxes [N, 4], the boxes of its objects [K, 4] and their classes from 0 [K]; -1 is no class.
        num_classes: without the background.
        threshold: overlap from which on a box shows an object.
    """
    parts: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in range(num_classes)]
    for number, (boxes, objects, classes) in enumerate(images):
        near = box_overlaps(boxes, objects) >= threshold
        for place, category in enumerate(np.asarray(classes).tolist()):
            rows = np.flatnonzero(near[:, place])
            if category >= 0 and len(rows):
                numbers = np.full((2, len(rows)), [[number], [place]], np.int32)
                parts[category].append((numbers[0], numbers[1], boxes[rows].astype(np.float32)))
    none = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 4), np.float32))
    return [BoxPool(*map(np.concatenate, zip(none, *found, strict=True))) for found in parts]


class BoxSampler(Draws[BoxDraw]):
    """Draws batches.

    Args:
        pools: of each class.
        samples: boxes in a batch, drawn with replacement.
        seed: RNG_SEED.
        parity: draw classes without boxes too, at which the branch stops with an error; else they are left out.

    Raises:
        DataError: nothing can be drawn; in parity a class without boxes, by number.
    """

    def __init__(self, pools: Sequence[BoxPool], samples: int, seed: int, parity: bool = False) -> None:
        self.pools, self._samples = tuple(pools), samples
        self.classes = np.flatnonzero([len(pool) > 0 for pool in pools])
        if not len(self.classes) or (parity and len(self.classes) < len(pools)):
            empty = sorted(set(range(len(pools))) - set(self.classes.tolist()))
            raise DataError(f"no box shows an object of classes {', '.join(map(str, empty)) or '(there are none)'}")
        super().__init__(seed)

    def _draw(self) -> BoxDraw:
        category = int(self.classes[self._random.choice(len(self.classes))])
        pool = self.pools[category]
        image = int(pool.image[self._random.choice(len(pool))])
        first, end = np.searchsorted(pool.image, [image, image + 1])
        rows = self._random.choice(np.arange(first, end), self._samples)
        return BoxDraw(image, category, pool.boxes[rows], pool.object[rows])


class BoxBatches:
    """Batches as blobs: what the layer ``HypercolumnDataLayer`` is fed.

    Args:
        imdb: the images, with masks of their objects.
        sampler: of boxes of these images.
        settings: of the layer: ``max_size`` is read.
        config: SDS and PIXEL_MEANS are read.
    """

    def __init__(self, imdb: ImageDatabase, sampler: BoxSampler, settings: HypercolumnSettings, config: Config) -> None:
        self.imdb, self.sampler, self.settings, self.config = imdb, sampler, settings, config

    @property
    def num_classes(self) -> int:
        """Classes, without the background."""
        return len(self.imdb.classes)

    @property
    def num_images(self) -> int:
        """Blobs of pictures."""
        return len(self.imdb.modalities)

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``; a pure function, which several threads may call.

        Returns:
            float32, in the order of the layer's tops: a picture [1, 3, H, W] for each modality, normalizedboxes,
            sppboxes, categids, labels, instance_wts.

        Raises:
            DataError, MissingFileError: a picture or masks cannot be used; names the image.
        """
        return self.finish(number, self.reader("").read(self.job(number), new_array))

    def reader(self, who: str) -> MaskPictureReader:
        """What decodes and scales the pictures; ``who`` names the layer in errors."""
        return MaskPictureReader(who, self.config, self.settings.max_size)

    def job(self, number: int) -> MaskPicture:
        """What the reader is asked for batch ``number``."""
        record = self.imdb.records[self.sampler.batch(number).image]
        return MaskPicture(record.name, [os.fspath(record.paths[name]) for name in self.imdb.modalities], record.size)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Batch ``number``, out of what the reader made: its boxes and masks beside the pictures."""
        *pictures, sides = arrays
        size = (int(sides[0]), int(sides[1]))
        draw = self.sampler.batch(number)
        record = self.imdb.records[draw.image]
        with in_file(f"image {record.name}"):
            masks = object_masks(record, hidden=self.config.parity)
            if masks.shape[1:] != size:
                raise DataError(f"masks of shape {masks.shape}, the picture has {size[1]} x {size[0]} pixels")
            categories = np.full(len(draw.boxes), draw.category)
            blobs = box_blobs(draw.boxes, categories, size, pictures[0].shape[2:], self.config)
            labels = grid_labels(masks, draw.objects, draw.boxes, self.config.sds.mask_size)
        weights = box_weights(draw.boxes)
        return (*pictures, blobs.normalizedboxes, blobs.sppboxes, blobs.categids, labels, weights)


def box_batches(
    imdb: ImageDatabase,
    settings: HypercolumnSettings,
    config: Config,
    proposals: ProposalSource | None = None,
    track: Track | None = None,
) -> BoxBatches:
    """What a layer ``HypercolumnDataLayer`` is fed: ``layer.feed(box_batches(imdb, layer.settings, config))``.

    Crowds teach nothing, boxes without extent are not drawn and objects must have pixels, unless PARITY.

    Args:
        imdb: the images.
        settings: of the layer.
        config: RNG_SEED, SDS, PIXEL_MEANS and PARITY are read.
        proposals: instead of the database's own; without any, only the ground truth is drawn.
        track: goes through the records and shows that it does, under a name.

    Raises:
        DataError: no images; images whose objects' boxes or masks are not known, or with objects of which no pixel
            shows (the number of them and the first five); boxes or classes that are none; nothing to draw.
    """
    source = imdb.proposals if proposals is None else proposals
    records = imdb.records
    if not len(records):
        raise DataError(f"{imdb.name}: has no images")
    _check_masks(imdb.name, records if track is None else track(records, "masks"), config.parity)
    rows = _rows(imdb, source, config.parity, records if track is None else track(records, "boxes"))
    pools = pool_boxes(rows, len(imdb.classes), settings.ov_thresh)
    with in_file(imdb.name):
        sampler = BoxSampler(pools, settings.train_samples_per_img, config.rng_seed, config.parity)
    return BoxBatches(imdb, sampler, settings, config)


def _rows(
    imdb: ImageDatabase, source: ProposalSource | None, parity: bool, records: Iterable[FrameRecord]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boxes, objects and classes of each image, as :func:`pool_boxes` takes them."""
    for record in records:
        image = roi_image(record, imdb.classes, None if source is None else source(record), parity=True)
        count = len(record.classes or ())
        classes = image.gt_classes[:count] - 1
        boxes, objects = image.boxes, image.boxes[:count]
        if not parity:
            if record.crowd is not None:
                classes = np.where(record.crowd, -1, classes)
            boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
        yield boxes, objects, classes


def _check_masks(where: str, records: Iterable[FrameRecord], hidden: bool) -> None:
    problems = []
    for record in records:
        try:
            object_masks(record, hidden)
        except CaffeCompatError as error:
            problems.append(str(error))
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{where}: masks of {len(problems)} images cannot be used: {'; '.join(problems[:5])}{more}")
