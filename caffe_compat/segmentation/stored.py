"""Segmented detections, and the files that hold them.

``segm/detections.npz`` holds the arrays of a ``detections.npz`` (see :mod:`caffe_compat.evaluation.detections`) of what
suppression left, and beside them:

===========  ==========================================================================
array        holds
===========  ==========================================================================
superpixels  int32 [images], the largest id of each image's superpixels; 0: it was skipped
regions      uint8, of image after image and, there, box after box, class by class, whether
             superpixels 1, 2, ... belong to the region: 8 a byte, first in the highest bit
===========  ==========================================================================

The branch's ``detections.pkl`` (``nms_boxes``, ``nms_sds``) is read too; nothing in it is executed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_compat.datasets.npz import read_npz
from caffe_compat.datasets.pickles import is_pickle, read_pickle
from caffe_compat.errors import DataError, in_file
from caffe_compat.evaluation.detections import Detections, as_arrays, from_arrays, from_lists
from caffe_compat.files import atomic_write, open_existing

__all__ = ["SegmentedDetections", "pack", "read_segmented", "unpack", "write_segmented"]

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentedDetections:
    """Boxes and their regions.

    Args:
        detections: what suppression left.
        regions: of each image bool [N, superpixels], of its boxes class by class; None: the image was skipped.

    Raises:
        DataError: regions of other boxes; names the image.
    """

    detections: Detections
    regions: list[np.ndarray | None]

    def __post_init__(self) -> None:
        if len(self.regions) != len(self.detections.images):
            raise DataError(f"regions of {len(self.regions)} images, expected {len(self.detections.images)}")
        for number, (name, regions) in enumerate(zip(self.detections.images, self.regions, strict=True)):
            count = sum(map(len, self.detections.of_image(number)))
            if regions is not None and (regions.dtype != bool or regions.ndim != 2 or len(regions) != count):
                form = f"{regions.dtype} of shape {regions.shape}"
                raise DataError(f"image {name}: regions are {form}, expected bool {count} x superpixels")

    def of_class(self, category: int, image: int) -> np.ndarray | None:
        """The regions of one class in an image: bool [n, superpixels]."""
        regions = self.regions[image]
        counts = np.cumsum([0, *map(len, self.detections.of_image(image))])
        return None if regions is None else regions[counts[category] : counts[category + 1]]


def pack(regions: np.ndarray) -> bytes:
    """Regions, bool [N, superpixels], as bytes."""
    return np.packbits(regions, axis=1).tobytes()


def unpack(data: bytes, count: int, superpixels: int) -> np.ndarray:
    """Regions of ``count`` boxes.

    Raises:
        ValueError: other numbers of bytes.
    """
    rows = np.frombuffer(data, np.uint8).reshape(count, -(-superpixels // 8))
    return np.unpackbits(rows, axis=1, count=superpixels).astype(bool)


def write_segmented(path: PathLike, content: SegmentedDetections) -> None:
    """Write ``detections.npz``, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    counts = [0 if regions is None else regions.shape[1] for regions in content.regions]
    data = b"".join(pack(regions) for regions in content.regions if regions is not None)
    arrays = as_arrays(content.detections)
    arrays |= {"superpixels": np.array(counts, np.int32), "regions": np.frombuffer(data, np.uint8)}
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_segmented(
    path: PathLike, classes: Sequence[str] | None = None, images: Sequence[str] | None = None
) -> SegmentedDetections:
    """Read ``detections.npz``, or the branch's pickle.

    Args:
        classes, images: names for a pickle, which has none in it.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, or arrays that do not belong together; names the file.
    """
    with open_existing(path, "segmented detections") as stream:
        head = stream.read(4)
    pickled = is_pickle(head) or os.fspath(path).endswith(".pkl")
    held: Any = read_pickle(path) if pickled else read_npz(path, "segmented detections")
    with in_file(path):
        missing = [name for name in (("nms_sds",) if pickled else ("superpixels", "regions")) if name not in held]
        if missing:
            raise DataError(f"no '{missing[0]}': boxes without regions, expected what test_net --sds 1 wrote")
        if pickled:
            return _from_lists(from_lists(held, classes, images), held["nms_sds"])
        return _from_arrays(from_arrays(held), held["superpixels"], held["regions"])


def _from_arrays(detections: Detections, superpixels: np.ndarray, packed: np.ndarray) -> SegmentedDetections:
    count = len(detections.images)
    if superpixels.shape != (count,) or superpixels.dtype.kind not in "ui" or packed.dtype != np.uint8:
        raise DataError(
            f"superpixels are {superpixels.dtype} of shape {superpixels.shape} and regions {packed.dtype}, expected "
            f"{count} whole numbers, and uint8"
        )
    regions: list[np.ndarray | None] = []
    data, start = packed.tobytes(), 0
    for number, most in enumerate(superpixels.tolist()):
        boxes = sum(map(len, detections.of_image(number)))
        size = boxes * -(-most // 8)
        if most < 0 or start + size > len(data):
            raise DataError(f"image {detections.images[number]}: its regions are not all there")
        regions.append(unpack(data[start : start + size], boxes, most) if most else None)
        start += size
    if start != len(data):
        raise DataError(f"regions have {len(data)} bytes, expected {start}")
    return SegmentedDetections(detections, regions)


def _from_lists(detections: Detections, lists: Any) -> SegmentedDetections:
    """Regions by class and image, as the branch keeps them; without boxes there is an empty list."""
    shape = (len(detections.classes), len(detections.images))
    whole = isinstance(lists, list) and len(lists) == shape[0]
    if not whole or any(not isinstance(row, list) or len(row) != shape[1] for row in lists):
        raise DataError(f"nms_sds is not by class and image, expected {shape[0]} x {shape[1]}")
    regions: list[np.ndarray | None] = []
    for number, name in enumerate(detections.images):
        parts = [
            np.asarray(row[number]) for row, boxes in zip(lists, detections.of_image(number), strict=True) if len(boxes)
        ]
        if any(part.ndim != 2 or part.shape[1] != parts[0].shape[-1] for part in parts):
            raise DataError(
                f"image {name}: regions of shapes {[part.shape for part in parts]}, expected n x superpixels"
            )
        whole_image = np.concatenate(parts) if parts else np.zeros((0, 1))
        regions.append(whole_image.astype(bool))
    return SegmentedDetections(detections, regions)
