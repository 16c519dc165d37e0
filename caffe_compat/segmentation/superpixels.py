"""Where the superpixels of an image come from: files as the ``sds-distillation`` branch reads them, or made here.

The branch reads ``data/nyud2_sp/img_5001.png``, of 16 bits, ids from 1: the leaves of MCG's hierarchies.  Where there
is no file, SLIC of scikit-image makes some, from colour, depth or both; each map says in ``origin`` what it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage  # loads its parts on first use

from caffe_compat.datasets.pictures import read_labels
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, MissingFileError, UsageError, in_file, nearest
from caffe_compat.frames.png import write_png
from caffe_compat.media import read_picture
from caffe_compat.segmentation.regions import Superpixels

__all__ = [
    "KINDS",
    "KeptSuperpixels",
    "SuperpixelSource",
    "SuperpixelsOfFolder",
    "make_superpixels",
    "made_superpixels",
    "read_superpixels",
]

SuperpixelSource = Callable[[FrameRecord], Superpixels]
"""Gives the superpixels of an image; anything that partitions it into ids from 1 will do."""
KINDS = ("color", "depth", "color+depth", "picture")
"""What superpixels can be made from; a picture is the first modality, whatever it shows."""
SEGMENTS = 1000
"""How many are made, about: as many as MCG has leaves on a frame of NYUD2."""
_MOST_IN_FILES = 65535
_COMPACTNESS = 10.0
"""How much places count against colours in CIELAB (the SLIC paper's m)."""
_PER_LOG_METRE = 100.0
"""A depth that differs by a hundredth counts as much as one step of the CIELAB colours."""


def read_superpixels(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Superpixels:
    """Superpixels of a picture of one channel of 8 or 16 bits, ids from 1.

    Args:
        size: height and width that it must have; None: any.

    Raises:
        MissingFileError: no such file.
        DataError: not such a picture, one of another size, or ids that start at 0.
    """
    superpixels = Superpixels(read_labels(path), os.fspath(path))
    if size is not None and superpixels.size != tuple(size):
        has, expected = (f"{width} x {height}" for height, width in (superpixels.size, size))
        raise DataError(f"{os.fspath(path)}: has {has} pixels, its image {expected}")
    return superpixels


def make_superpixels(
    color: np.ndarray | None = None, depth: np.ndarray | None = None, segments: int = SEGMENTS
) -> Superpixels:
    """Superpixels of SLIC.

    Args:
        color: uint8 [H, W, 3], blue first.
        depth: [H, W] metres; what is not above 0 is not known and counts as the median.
        segments: how many, about.

    Raises:
        DataError: neither is given, or they are of different sizes.
    """
    channels = []
    if color is not None:
        channels.append(skimage.color.rgb2lab(color[:, :, ::-1]))
    if depth is not None:
        known = np.isfinite(depth) & (depth > 0)
        middle = float(np.median(depth[known])) if known.any() else 1.0
        channels.append(_PER_LOG_METRE * np.log(np.where(known, depth, middle))[:, :, None])
    if not channels or len({part.shape[:2] for part in channels}) > 1:
        shapes = [part.shape[:2] for part in channels]
        raise DataError(f"superpixels are made from colour, depth, or both of one size, got {shapes or 'neither'}")
    kind = KINDS[(depth is not None) + (color is not None and depth is not None)]
    values = np.concatenate(channels, 2)
    extent = float(np.ptp(values)) or 1.0  # slic divides by it, so the compactness must be divided too
    labels = skimage.segmentation.slic(
        (values - values.min()) / extent,
        n_segments=segments,
        compactness=_COMPACTNESS / extent,
        convert2lab=False,
        channel_axis=2,
        start_label=1,
    )
    return Superpixels(labels, f"superpixels made by SLIC from {kind}")


def made_superpixels(kind: str = "color", segments: int = SEGMENTS) -> SuperpixelSource:
    """A source that makes the superpixels of each image.

    Args:
        kind: one of :data:`KINDS`; colour is the record's modality ``images``.
        segments: how many, about.

    Raises:
        UsageError: no such kind, or less than one segment.
    """
    if kind not in KINDS:
        raise UsageError(f"superpixels of '{kind}'{nearest(kind, KINDS)}, expected one of {', '.join(KINDS)}")
    if segments < 1:
        raise UsageError(f"{segments} superpixels, expected 1 or more")

    def make(record: FrameRecord) -> Superpixels:
        color = depth = None
        with in_file(f"image {record.name}"):
            if kind == "picture":
                color = read_picture(next(iter(record.paths.values())))
            elif "color" in kind:
                if "images" not in record.paths:
                    raise DataError("has no colour (modality images) to make superpixels from")
                color = read_picture(record.paths["images"])
            if "depth" in kind:
                if record.depth is None:
                    raise DataError("has no depth to make superpixels from")
                depth = record.depth.read().depth
            return make_superpixels(color, depth, segments)

    return make


class KeptSuperpixels:
    """Makes superpixels and writes each map to ``FOLDER/NAME.png``, of 16 bits.

    Args:
        make: makes them.
        folder: is made with the first.

    Attributes:
        made: names of the images whose superpixels were made.
    """

    def __init__(self, make: SuperpixelSource, folder: str | os.PathLike[str]) -> None:
        self.make, self.folder = make, Path(folder)
        self.made: list[str] = []

    def __call__(self, record: FrameRecord) -> Superpixels:
        """The superpixels of an image.

        Raises:
            DataError, MissingFileError: as ``make``; more than 65,535 of them.
            WriteError: they cannot be written.
        """
        found = self.make(record)
        if found.count > _MOST_IN_FILES:
            raise DataError(f"image {record.name}: {found.count} superpixels, a picture holds {_MOST_IN_FILES}")
        path = self.folder / f"{record.name}.png"
        write_png(path, found.labels.astype(np.uint16))
        self.made.append(record.name)
        return found


class SuperpixelsOfFolder:
    """``FOLDER/NAME.png`` of each image.

    Args:
        folder: such as ``data/nyud2_sp``.
        instead: makes the superpixels of images that have no file; None: that is an error.

    Attributes:
        made: names of the images whose superpixels were made, for the report.
    """

    def __init__(self, folder: str | os.PathLike[str], instead: SuperpixelSource | None = None) -> None:
        self.folder, self.instead = Path(folder), instead
        self.made: list[str] = []

    def __call__(self, record: FrameRecord) -> Superpixels:
        """The superpixels of an image.

        Raises:
            MissingFileError: there is no file, and none are made.
            DataError: a file that does not serve; names it.
        """
        path = self.folder / f"{record.name}.png"
        if not path.exists():
            if self.instead is None:
                raise MissingFileError(path, f"superpixels of image {record.name}")
            self.made.append(record.name)
            return self.instead(record)
        return read_superpixels(path, record.size)
