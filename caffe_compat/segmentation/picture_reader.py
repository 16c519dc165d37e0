"""Decoding and scaling the pictures of a hypercolumn net's batches, in this process or in workers.  Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.config import Config
from caffe_compat.detection.images import read_modalities
from caffe_compat.errors import in_file
from caffe_compat.segmentation.blobs import image_blob

__all__ = ["MaskPicture", "MaskPictureReader"]


@dataclasses.dataclass(frozen=True)
class MaskPicture:
    """The image of a batch.

    Args:
        name: of the image, for errors.
        paths: a file for each modality.
        size: height and width that they must have; None: any.
    """

    name: str
    paths: Sequence[str]
    size: tuple[int, int] | None


@dataclasses.dataclass(frozen=True, eq=False)
class MaskPictureReader(Reader[MaskPicture]):
    """A picture [1, 3, H, W] for each modality, and height and width of the files, int64 [2].

    Args:
        config: SDS, PIXEL_MEANS and MODALITY_MEANS are read.
        short_side: pixels of the short side.
    """

    who: str
    config: Config
    short_side: int

    def read(self, job: MaskPicture, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        with in_file(f"image {job.name}"):
            images = read_modalities(job.paths, job.size)
            self.config.check_means(len(images))
            blobs = [image_blob(image, self.config, self.short_side, place=place) for place, image in enumerate(images)]
        return (*blobs, np.array(images[0].shape[:2]))

    def about(self, job: MaskPicture) -> str:
        """As :meth:`Reader.about`."""
        return shown(job.paths)
