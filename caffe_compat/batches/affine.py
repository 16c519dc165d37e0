"""Batches of images that are turned, stretched and moved, each once or several times.

Source: lim0606/ndsb, ``image_data_affine_layer.cpp`` and ``image_data_multi_infer_layer.cpp``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.images import ImageJob, ImageReader, Seed
from caffe_compat.batches.pictures import Loaded
from caffe_compat.batches.reader import New
from caffe_compat.media import LabelledImage, read_picture

__all__ = ["AffineReader"]


@dataclasses.dataclass(frozen=True, eq=False)
class AffineReader(ImageReader):
    """Images of a list; each ``times`` times, one after the other, with one label.

    The transformation's ``varying`` is an :class:`~caffe_compat.batches.turning.Affine`.
    """

    times: int = 1

    def batch(self, job: ImageJob) -> tuple[Seed, Sequence[LabelledImage]]:
        """As :meth:`PictureReader.batch`."""
        return job.seed, [image for image in job.images for _ in range(self.times)]

    def load(self, item: LabelledImage) -> Loaded:
        """An image, decoded."""
        where = f"{self.source}, line {item.line}"
        with self.naming(where):
            pixels = read_picture(item.path, "color" if self.color else "gray")
        with self.naming(f"{where}: {item.path}"):
            shape = self.transform.shape(3 if self.color else 1, *self.new_size)
        return Loaded(pixels, None, shape, item.label)

    def read(self, job: ImageJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`; a label for each image of the list."""
        data, labels = super().read(job, new)
        if self.times == 1:
            return data, labels
        once = new((len(job.images),))
        once[:] = labels[:: self.times]
        return data, once
