"""Images with their objects, one at a time: what nets are fed that propose regions themselves.

Source: ``lib/roi_data_layer/minibatch.py`` and ``layer.py`` of rbgirshick/py-faster-rcnn (TRAIN.HAS_RPN).  Image ``n``
is a function of RNG_SEED and ``n``: an order of all images for each epoch, then the scale.  (The original keeps wide
and high images in pairs, which matters to batches of several.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from caffe_compat.batches.reader import new_array
from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.draws import Draws
from caffe_compat.detection.picture_reader import PictureReader, RegionImage
from caffe_compat.detection.roidb import Roidb, RoiImage, roi_image
from caffe_compat.errors import DataError, UsageError

__all__ = ["WholeImages", "ground_truth_roidb"]


def ground_truth_roidb(
    imdb: ImageDatabase,
    config: Config,
    track: Callable[[Sequence[FrameRecord], str], Iterable[FrameRecord]],
) -> Roidb:
    """The images with their objects alone.

    Raises:
        DataError: no images, or one whose objects are not known or are none of the classes.
    """
    if not len(imdb.records):
        raise DataError(f"{imdb.name}: has no images")
    images = []
    for record in track(imdb.records, "objects"):
        if record.boxes is None:
            raise DataError(f"{imdb.name}: the objects of image {record.name} are not known")
        images.append(roi_image(record, imdb.classes, None, config.parity))
    return Roidb(images, config.train.use_flipped)


def _objects(image: RoiImage) -> np.ndarray:
    """Numbers of the objects; crowds are none."""
    return np.flatnonzero((image.gt_classes > 0) & (image.max_overlaps == 1))


class _Sampler(Draws[tuple[int, int]]):
    """Draws an image that has objects, and pixels of its short side."""

    def __init__(self, roidb: Roidb, config: Config) -> None:
        self.scales, self._count = config.train.scales, len(roidb)
        valid = np.array([len(_objects(image)) > 0 for image in roidb.images], bool)
        self.valid = np.tile(valid, len(roidb) // max(len(roidb.images), 1))
        if not self.valid.any():
            raise DataError(f"none of {len(roidb.images)} images has an object: there is nothing to learn")
        super().__init__(config.rng_seed)

    def _begin(self) -> None:
        super()._begin()
        self._order, self._place = np.zeros(0, np.int64), 0

    def _draw(self) -> tuple[int, int]:
        if self._place == len(self._order):
            order = self._random.permutation(self._count)
            self._order, self._place = order[self.valid[order]], 0
        image = int(self._order[self._place])
        self._place += 1
        return image, self.scales[self._random.randint(0, high=len(self.scales))]


class WholeImages:
    """Blobs of one image at a time: what py-faster-rcnn's ``RoIDataLayer`` is fed with TRAIN.HAS_RPN.

    Args:
        roidb: of :func:`ground_truth_roidb`.
        imdb: whose images they are.
        config: the options.

    Raises:
        DataError: no image has objects.
        UsageError: several images in a batch, or several modalities.
    """

    def __init__(self, roidb: Roidb, imdb: ImageDatabase, config: Config) -> None:
        self.roidb, self.modalities, self.config = roidb, imdb.modalities, config
        self.num_classes = len(imdb.classes) + 1
        config.check_means(len(self.modalities))
        if config.train.ims_per_batch != 1:
            raise UsageError(
                f"TRAIN.IMS_PER_BATCH is {config.train.ims_per_batch}, expected 1: a net that proposes regions is fed "
                "one image at a time"
            )
        if len(self.modalities) != 1:
            raise UsageError(f"the images of {imdb.name} are {'+'.join(self.modalities)}, expected one modality")
        self.sampler = _Sampler(roidb, config)
        self._reader = self.reader("")

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Image ``number``; a pure function, which several threads may call.

        Returns:
            float32: the picture [1, 3, H, W]; its height, width and scale [1, 3]; objects [G, 5], x1 y1 x2 y2 in
            pixels of the picture, and the label.

        Raises:
            DataError, MissingFileError: the picture cannot be used; names it.
        """
        return self.finish(number, self._reader.read(self.job(number), new_array))

    def reader(self, who: str) -> PictureReader:
        """What decodes and scales the pictures; ``who`` names the layer in errors."""
        return PictureReader(who, self.modalities, self.config)

    def job(self, number: int) -> list[RegionImage]:
        """What the reader is asked for image ``number``."""
        place, scale = self.sampler.batch(number)
        image = self.roidb[place]
        paths = [os.fspath(image.record.paths[name]) for name in self.modalities]
        return [RegionImage(image.record.name, paths, image.record.size, image.flipped, scale)]

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Image ``number``, out of what the reader made: its size and objects beside the picture."""
        picture, factors = arrays
        image = self.roidb[self.sampler.batch(number)[0]]
        rows = _objects(image)
        objects = np.empty((len(rows), 5), np.float32)
        objects[:, :4] = image.boxes[rows].astype(np.float64) * float(factors[0])
        objects[:, 4] = image.gt_classes[rows]
        return picture, np.array([[*picture.shape[2:], factors[0]]], np.float32), objects
