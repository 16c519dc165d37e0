"""Which regions make up minibatch ``n``, and its blobs.

Source: ``roi_data_layer/layer_pi.py`` and ``minibatch.py`` of the ``distillation`` branch.  Random numbers are those of
numpy's legacy generator from RNG_SEED, drawn in the branch's order: an order of all images for each epoch, and for each
batch the scales, then for each of its images the objects and the background.  So batch ``n`` is a function of the seed
and ``n``: it is drawn by drawing all batches before, which needs no pictures.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from caffe_compat.batches.reader import new_array
from caffe_compat.config import Config, TrainConfig
from caffe_compat.detection.draws import Draws
from caffe_compat.detection.picture_reader import PictureReader, RegionImage
from caffe_compat.detection.roidb import Roidb, RoiImage
from caffe_compat.detection.targets import TargetStatistics, normalised, raw_targets
from caffe_compat.errors import DataError

__all__ = ["Minibatches", "Pick", "Sampler", "has_background", "has_foreground"]


@dataclasses.dataclass(frozen=True, eq=False)
class Pick:
    """What was drawn of one image.

    Args:
        image: its number in the roidb.
        scale: pixels of the short side.
        rows: regions, those that show objects first.
        foreground: how many do.
    """

    image: int
    scale: int
    rows: np.ndarray
    foreground: int


class Sampler(Draws[tuple[Pick, ...]]):
    """Draws minibatches.

    By default every image with objects **or** background takes part, by the conditions of the draw itself, and an epoch
    ends when less than a batch is left.  With PARITY an image needs both, strictly within the thresholds, and an epoch
    ends already when a batch would finish it, so that its last images are skipped: as in the branch.

    Args:
        roidb: the images.
        config: the options of training, PARITY and RNG_SEED.

    Raises:
        DataError: no image takes part.
    """

    def __init__(self, roidb: Roidb, config: Config) -> None:
        self.config = config
        self._overlaps = [image.max_overlaps for image in roidb.images]
        self._count = len(roidb)
        valid = np.array([_is_valid(found, config.train, config.parity) for found in self._overlaps], bool)
        self.valid = np.tile(valid, len(roidb) // max(len(roidb.images), 1))
        if not self.valid.any():
            both = "and" if config.parity else "or"
            raise DataError(
                f"none of {len(roidb.images)} images has regions to train on: overlaps with an object of "
                f"{config.train.fg_thresh:g} or more, {both} of {config.train.bg_thresh_lo:g} to "
                f"{config.train.bg_thresh_hi:g}"
            )
        super().__init__(config.rng_seed)

    def _begin(self) -> None:
        super()._begin()
        self._shuffle()

    def _shuffle(self) -> None:
        order = self._random.permutation(self._count)
        self._order, self._place = order[self.valid[order]], 0

    def _draw(self) -> tuple[Pick, ...]:
        train = self.config.train
        after, last = self._place + train.ims_per_batch, len(self._order)
        if after >= last if self.config.parity else after > last:
            self._shuffle()
        images = self._order[self._place : self._place + train.ims_per_batch]
        self._place += train.ims_per_batch
        scales = self._random.randint(0, high=len(train.scales), size=len(images))
        regions = train.batch_size // len(images)
        return tuple(
            self._draw_regions(int(image), train.scales[scale], regions)
            for image, scale in zip(images, scales, strict=True)
        )

    def _draw_regions(self, image: int, scale: int, regions: int) -> Pick:
        overlaps, train = self._overlaps[image % len(self._overlaps)], self.config.train
        foreground, background = np.flatnonzero(has_foreground(overlaps, train)), has_background(overlaps, train)
        objects = self._choose(foreground, int(np.round(train.fg_fraction * regions)))
        rest = self._choose(np.flatnonzero(background), regions - len(objects))
        return Pick(image, scale, np.concatenate([objects, rest]), len(objects))

    def _choose(self, among: np.ndarray, most: int) -> np.ndarray:
        if not len(among):
            return among
        return self._random.choice(among, size=min(most, len(among)), replace=False)


def has_foreground(overlaps: np.ndarray, train: TrainConfig) -> np.ndarray:
    """bool [N]: which regions show an object."""
    return np.asarray(overlaps >= train.fg_thresh)


def has_background(overlaps: np.ndarray, train: TrainConfig) -> np.ndarray:
    """bool [N]: which regions show background."""
    return np.asarray((overlaps < train.bg_thresh_hi) & (overlaps >= train.bg_thresh_lo))


def _is_valid(overlaps: np.ndarray, train: TrainConfig, parity: bool) -> bool:
    if not parity:
        return bool(has_foreground(overlaps, train).any() or has_background(overlaps, train).any())
    background = (overlaps > train.bg_thresh_lo) & (overlaps < train.bg_thresh_hi)
    return bool((overlaps > train.fg_thresh).any() and background.any())


class Minibatches:
    """Minibatches as blobs: what the layers ``RoIDataLayerPi`` and ``RoIDataLayer`` are fed.

    Args:
        roidb: the images.
        modalities: keys of their paths, in the order of the blobs.
        config: the options.
        statistics: of the targets of all images; its length is the number of labels.

    Raises:
        DataError: no image can be trained on.
    """

    def __init__(self, roidb: Roidb, modalities: tuple[str, ...], config: Config, statistics: TargetStatistics) -> None:
        self.roidb, self.modalities, self.config, self.statistics = roidb, modalities, config, statistics
        config.check_means(len(modalities))
        self.sampler = Sampler(roidb, config)
        self._reader = self.reader("")

    @property
    def num_classes(self) -> int:
        """Labels, with the background."""
        return len(self.statistics.counts)

    @property
    def num_data(self) -> int:
        """Blobs of pictures."""
        return len(self.modalities)

    @property
    def regression(self) -> bool:
        """Whether there are regression targets."""
        return self.config.train.bbox_reg

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Minibatch ``number``; a pure function, which several threads may call.

        Returns:
            float32: for each modality [I, 3, H, W]; rois [R, 5], number of the image and the box in pixels of the
            blob; labels [R]; with regression targets [R, 4 C] and their weights [R, 4 C], not 0 in the four places of
            the label.

        Raises:
            DataError, MissingFileError: a picture cannot be used; names it.
        """
        return self.finish(number, self._reader.read(self.job(number), new_array))

    def reader(self, who: str) -> PictureReader:
        """What decodes and scales the pictures; ``who`` names the layer in errors."""
        return PictureReader(who, self.modalities, self.config)

    def job(self, number: int) -> list[RegionImage]:
        """What the reader is asked for minibatch ``number``."""
        return [self._image(self.roidb[pick.image], pick.scale) for pick in self.sampler.batch(number)]

    def _image(self, image: RoiImage, scale: int) -> RegionImage:
        record = image.record
        paths = [os.fspath(record.paths[name]) for name in self.modalities]
        return RegionImage(record.name, paths, record.size, image.flipped, scale)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Minibatch ``number``, out of what the reader made: its regions beside the pictures."""
        *pictures, factors = arrays
        regions = [
            self._regions(self.roidb[pick.image], pick, place, float(factor))
            for place, (pick, factor) in enumerate(zip(self.sampler.batch(number), factors, strict=True))
        ]
        return (*pictures, *(np.concatenate(parts) for parts in zip(*regions, strict=True)))

    def _regions(self, image: RoiImage, pick: Pick, place: int, factor: float) -> tuple[np.ndarray, ...]:
        """Rois, labels, and where they are wanted targets and weights, of one image."""
        rois = np.full((len(pick.rows), 5), place, np.float32)
        rois[:, 1:] = image.boxes[pick.rows].astype(np.float64) * factor
        labels = image.max_classes[pick.rows].astype(np.float32)
        labels[pick.foreground :] = 0
        if not self.regression:
            return rois, labels
        return rois, labels, *self._targets(image, pick.rows)

    def _targets(self, image: RoiImage, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, raw = raw_targets(image, self.config, rows)
        targets = np.zeros((len(rows), self.num_classes, 4), np.float32)
        weights = np.zeros_like(targets)
        taught = np.flatnonzero(labels)
        targets[taught, labels[taught]] = normalised(labels, raw, self.statistics)[taught]
        weights[taught, labels[taught]] = 1
        return targets.reshape(len(rows), -1), weights.reshape(len(rows), -1)
