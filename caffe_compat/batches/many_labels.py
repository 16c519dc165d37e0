"""Batches of images that have several labels each.  Source: ``multi_label_image_data_layer.cpp`` of PG-CNN."""

from __future__ import annotations

import dataclasses

import numpy as np

from caffe_compat.batches.images import ImageJob, ImageReader
from caffe_compat.batches.reader import New

__all__ = ["ManyLabelsReader"]


@dataclasses.dataclass(frozen=True, eq=False)
class ManyLabelsReader(ImageReader):
    """Images whose label is their row in ``labels`` (int32 [n, k]); what comes is that row."""

    labels: np.ndarray = dataclasses.field(kw_only=True)

    def read(self, job: ImageJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures, and labels [batch, k]."""
        data = super().read(job, new)[0]
        labels = new((len(job.images), self.labels.shape[1]))
        labels[:] = self.labels[[image.label for image in job.images]]
        return data, labels
